//! The chain of one component.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use storage_cache::CacheStats;
use storage_core::{
    Budget, ComponentId, ComponentStorage, NamespacedStorage, StorageError, forward_storage,
};

use crate::component_config::ComponentConfig;
use crate::host::StorageHost;
use crate::limits::{LimitedStorage, Limits};
use crate::live::Account;
use crate::observed::Observed;
#[cfg(feature = "async")]
use crate::offload::Share;
use crate::optional_cache::OptionalCache;
use crate::quota::QuotaStorage;

/// How much a component stores and may store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComponentUsage {
    /// Bytes of its user keys and their values.
    pub used_bytes: u64,
    /// How many bytes it may store; `u64::MAX` without a quota.
    pub quota_bytes: u64,
    /// The number of its keys.
    pub key_count: u64,
}

pub(crate) type Chain = LimitedStorage<QuotaStorage<NamespacedStorage<OptionalCache>>>;

/// A component's storage, shared by all of its instances: rate limit, limits, quota,
/// isolation and, unless the store answers from memory, cache above the host's store.
///
/// Created by [`StorageHost::component`]. As a [`ComponentStorage`] it takes user
/// keys.
pub struct ComponentChain {
    storage: Observed<Chain>,
    shares_cache: bool,
    config: ComponentConfig,
    host: StorageHost,
    #[cfg(feature = "wasmtime")]
    cursors: crate::cursors::Cursors,
    #[cfg(feature = "async")]
    share: Share,
}

impl ComponentChain {
    pub(crate) fn new(host: &StorageHost, account: &Arc<Account>) -> Self {
        let id = account.id();
        let settings = host.live().of(id);
        let cached = host.caches().of(id, &settings);
        let namespaced = NamespacedStorage::new(id.clone(), cached);
        let within_quota = QuotaStorage::live(namespaced, Arc::clone(account));
        let limited = LimitedStorage::live(within_quota, Arc::clone(account));
        Self {
            storage: Observed::new(limited, Arc::clone(account)),
            shares_cache: settings.cache.is_none() && host.caches().settings().is_shared,
            config: settings.config,
            host: host.clone(),
            #[cfg(feature = "wasmtime")]
            cursors: crate::cursors::Cursors::default(),
            #[cfg(feature = "async")]
            share: host.offloader().new_share(),
        }
    }

    /// Returns the component's id.
    pub fn id(&self) -> &ComponentId {
        self.account().id()
    }

    /// Returns the host that it belongs to.
    pub fn host(&self) -> &StorageHost {
        &self.host
    }

    /// The cursors of its instances' listings.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn cursors(&self) -> &crate::cursors::Cursors {
        &self.cursors
    }

    /// The permits of its offloaded calls.
    #[cfg(feature = "async")]
    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    /// The lines that components may log.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn log_budgets(&self) -> &crate::log_budget::LogBudgets {
        self.host.log_budgets()
    }

    /// Returns the component's configuration.
    pub fn config(&self) -> &ComponentConfig {
        &self.config
    }

    /// Returns the limits of the component's calls, which may change
    /// ([`StorageHost::apply`]).
    pub fn limits(&self) -> Limits {
        self.account().limits()
    }

    /// Returns the component's quota, if any, which may change.
    pub fn quota(&self) -> Option<Budget> {
        self.account().quota()
    }

    /// Returns how long the component must wait before its next call is within its rate limit;
    /// zero if it need not wait.
    pub fn retry_after(&self) -> Duration {
        self.account().retry_after()
    }

    /// Returns the same storage for calls of the operator: within the quota and the limits, but
    /// without the rate limit. Its calls are not counted as calls of the component.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use storage_core::conformance::ReferenceStorage;
    /// use storage_host::{ComponentStorage, RateLimit, StorageHost};
    ///
    /// let rate = RateLimit::new(Some(1), None, Duration::from_secs(1))?;
    /// let host = StorageHost::builder(Arc::new(ReferenceStorage::new())).rate(rate).build();
    /// let chain = host.component(&"app/notes/home".parse()?);
    /// for key in ["one", "two", "three"] {
    ///     chain.for_operator().set(key, "".into())?;
    /// }
    /// chain.get("one")?;
    /// assert!(chain.get("one").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn for_operator(&self) -> &dyn ComponentStorage {
        self.unobserved()
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        self.storage.account()
    }

    #[cfg(feature = "wasmtime")]
    pub(crate) fn observed(&self) -> &Observed<Chain> {
        &self.storage
    }

    /// The same storage without the rate limit. Calls do not count.
    pub(crate) fn unobserved(&self) -> &Chain {
        self.storage.inner()
    }

    /// The statistics of its own cache; `None` if it uses the host's.
    pub(crate) fn private_cache_stats(&self) -> Option<CacheStats> {
        (!self.shares_cache).then(|| self.cache_stats())
    }

    /// Returns the statistics of the component's cache, also of its part of a shared
    /// cache; all zero without one.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache().stats()
    }

    /// Clears the component's cache, after the component's data was changed in the
    /// store without this host. Does nothing without a cache.
    pub fn clear_cache(&self) {
        self.cache().clear();
    }

    fn cache(&self) -> &OptionalCache {
        self.namespaced().inner()
    }

    /// The storage below limits and quota.
    pub(crate) fn namespaced(&self) -> &NamespacedStorage<OptionalCache> {
        self.unobserved().inner().inner()
    }

    /// Returns how much the component stores and may store. A call of the component:
    /// [`StorageHost::usage`] is not one.
    ///
    /// # Errors
    /// As [`ComponentStorage::usage`].
    pub fn component_usage(&self) -> Result<ComponentUsage, StorageError> {
        self.usage_in(&self.storage)
    }

    pub(crate) fn usage_in(
        &self,
        storage: &impl ComponentStorage,
    ) -> Result<ComponentUsage, StorageError> {
        let used = storage.usage(None)?;
        Ok(ComponentUsage {
            used_bytes: used.bytes,
            quota_bytes: self.quota().map_or(u64::MAX, |quota| quota.max_bytes),
            key_count: used.keys,
        })
    }
}

impl fmt::Debug for ComponentChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentChain")
            .field("id", self.id())
            .field("quota", &self.quota())
            .field("limits", &self.limits())
            .finish_non_exhaustive()
    }
}

impl Drop for ComponentChain {
    fn drop(&mut self) {
        #[cfg(feature = "wasmtime")]
        self.log_budgets().report_suppressed(self.id());
        self.host.forget(self);
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for ComponentChain {
    forward_storage!(self => self.storage);
}
