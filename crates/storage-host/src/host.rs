//! The host: one chain for each component, and its settings.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

#[cfg(doc)]
use storage_cache::SharedCache;
use storage_cache::{CacheConfig, CacheStats, Clock, CoherenceStats, DEFAULT_MAX_STALENESS};
#[cfg(doc)]
use storage_core::StoreProperties;
use storage_core::{
    Budget, ComponentId, ComponentStorage, NamespacedStorage, StorageError, Store, forward_storage,
};

use crate::caches::{CacheSettings, Caches};
use crate::coherence::Follower;
use crate::component_config::ComponentConfig;
use crate::grants::{Grant, GrantedStorage, Grants};
use crate::limits::{LimitedStorage, Limits};
#[cfg(feature = "async")]
use crate::offload::{Offload, Offloader, Share};
use crate::optional_cache::OptionalCache;
use crate::quota::QuotaStorage;
use crate::shutdown::GatedStore;

/// The settings of a component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComponentSettings {
    /// How much the component may store; `None` for no quota.
    pub quota: Option<Budget>,
    /// The limits on one call of the component.
    pub limits: Limits,
    /// A private cache instead of the host's. Like the host's it is not used in front of a
    /// store that answers from memory.
    pub cache: Option<CacheConfig>,
    /// How old a cached value may be if other hosts can write to the store; `None` for the
    /// host's setting ([`StorageHostBuilder::max_staleness`]).
    pub max_staleness: Option<Duration>,
    /// What the component reads through `wasi:config`.
    pub config: ComponentConfig,
}

/// A store, and a chain of decorators for each component that uses it.
///
/// A store whose calls never block ([`StoreProperties::may_block`]) answers from memory.
/// The host puts no cache in front of it, whatever the settings: a cache would hold every
/// value a second time and make writes slower.
///
/// Other hosts may write to a store that says so ([`Store::shared`]). Then a cached value was
/// current within the last second ([`StorageHostBuilder::max_staleness`]).
///
/// All instances of a component share one chain, and so one cache. A chain lives
/// as long as it is used. The host keeps no reference to it, so components that
/// are not in use cost nothing.
///
/// A clone is another handle to the same host.
#[derive(Clone)]
pub struct StorageHost {
    shared: Arc<Shared>,
}

struct Shared {
    gated: Arc<GatedStore>,
    /// The same as `gated`.
    store: Arc<dyn Store>,
    caches: Caches,
    defaults: ComponentSettings,
    overrides: HashMap<ComponentId, ComponentSettings>,
    grants: Grants,
    chains: Mutex<HashMap<ComponentId, Weak<ComponentChain>>>,
    #[cfg(feature = "wasmtime")]
    log_budgets: crate::log_budget::LogBudgets,
    #[cfg(feature = "async")]
    behaviour: StoreBehaviour,
    #[cfg(feature = "async")]
    offloader: Offloader,
}

/// What an asynchronous host must know of its store for each call.
#[cfg(feature = "async")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreBehaviour {
    /// Whether calls may wait for I/O.
    pub(crate) may_block: bool,
    /// Whether other hosts may write to the store.
    pub(crate) is_shared: bool,
}

impl StorageHost {
    /// Creates a host with the default cache and limits and without a quota.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::builder(store).build()
    }

    /// Creates a builder of a host.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use storage_core::conformance::ReferenceStorage;
    /// use storage_host::{Budget, ComponentSettings, StorageHost};
    ///
    /// let small = Budget { max_bytes: 1 << 20, max_keys: 1_000 };
    /// let host = StorageHost::builder(Arc::new(ReferenceStorage::new()))
    ///     .quota(small)
    ///     .component("app/index/main".parse()?, ComponentSettings::default()) // no quota
    ///     .build();
    /// assert_eq!(host.usage(&"app/notes/home".parse()?)?.quota_bytes, 1 << 20);
    /// assert_eq!(host.usage(&"app/index/main".parse()?)?.quota_bytes, u64::MAX);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(store: Arc<dyn Store>) -> StorageHostBuilder {
        StorageHostBuilder {
            store,
            cache: CacheSettings {
                config: CacheConfig::default(),
                is_shared: false,
                max_staleness: DEFAULT_MAX_STALENESS,
                clock: Clock::system(),
            },
            defaults: ComponentSettings::default(),
            overrides: HashMap::new(),
            #[cfg(feature = "async")]
            offload: Offload::default(),
        }
    }

    /// Returns the component's chain: the one in use, or a new one.
    pub fn component(&self, id: &ComponentId) -> Arc<ComponentChain> {
        let mut chains = self.shared.lock_chains();
        if let Some(chain) = chains.get(id).and_then(Weak::upgrade) {
            return chain;
        }
        let chain = Arc::new(self.new_chain(id));
        chains.insert(id.clone(), Arc::downgrade(&chain));
        chain
    }

    /// Returns how much a component stores and may store; zero for an unknown
    /// component.
    ///
    /// # Errors
    /// As [`ComponentStorage::usage`].
    pub fn usage(&self, id: &ComponentId) -> Result<ComponentUsage, StorageError> {
        self.component(id).component_usage()
    }

    /// Returns the statistics of a component's cache since its chain was created; all
    /// zero while the component is not in use, and without a cache.
    pub fn cache_stats(&self, id: &ComponentId) -> CacheStats {
        let chain = self.shared.lock_chains().get(id).and_then(Weak::upgrade);
        chain.map_or_else(CacheStats::default, |chain| chain.cache_stats())
    }

    /// Returns the statistics of all caches: of a shared cache since the host was
    /// created, and of the private caches of components that are in use.
    pub fn total_cache_stats(&self) -> CacheStats {
        // Dropping the last reference to a chain takes the lock.
        let chains: Vec<_> = self.shared.lock_chains().values().filter_map(Weak::upgrade).collect();
        let private = chains.iter().filter(|chain| !chain.shares_cache);
        let private = private.map(|chain| chain.cache_stats());
        private.chain(self.shared.caches.shared_stats()).sum()
    }

    /// Returns how the store is polled for the writes of other hosts; `None` if no other host
    /// can write to it, or nothing is cached.
    pub fn coherence_stats(&self) -> Option<CoherenceStats> {
        self.shared.caches.follower().map(Follower::stats)
    }

    /// Asks a store that other hosts may write to for their changes now, which a thread also
    /// does five times within the maximum staleness. Does nothing if no other host can write
    /// to the store.
    ///
    /// # Errors
    /// As [`SharedStore::component_revisions`](storage_core::SharedStore::component_revisions).
    pub fn poll_changes(&self) -> Result<(), StorageError> {
        self.shared.caches.follower().map_or(Ok(()), Follower::poll)
    }

    /// Grants a component access to keys of another, from its next call on. Replaces
    /// a grant for the same prefix.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use storage_core::conformance::ReferenceStorage;
    /// use storage_host::{Access, ComponentId, ComponentStorage, Grant, StorageHost};
    ///
    /// let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
    /// let (home, report): (ComponentId, ComponentId) =
    ///     ("app/notes/home".parse()?, "app/report/1".parse()?);
    /// host.component(&home).set("shared/title", "Home".into())?;
    /// assert!(host.granted(&report, &home).is_none());
    ///
    /// let prefix = "shared/".to_owned();
    /// host.grant(&report, Grant { owner: home.clone(), prefix, access: Access::Read });
    /// let granted = host.granted(&report, &home).ok_or("nothing granted")?;
    /// assert_eq!(granted.get("shared/title")?, Some("Home".into()));
    /// assert!(granted.set("shared/title", "Mine".into()).is_err());
    ///
    /// host.revoke(&report, &home, "shared/");
    /// assert!(granted.get("shared/title").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn grant(&self, to: &ComponentId, grant: Grant) {
        self.shared.grants.add(to, grant);
    }

    /// Revokes a grant, including for open handles; they keep what other grants allow.
    /// Does not wait for a call in progress, which may still write. Returns whether
    /// the grant existed.
    pub fn revoke(&self, to: &ComponentId, owner: &ComponentId, prefix: &str) -> bool {
        self.shared.grants.remove(to, owner, prefix)
    }

    /// Returns the grants of a component, ordered by owner and prefix.
    pub fn grants(&self, to: &ComponentId) -> Vec<Grant> {
        self.shared.grants.of(to)
    }

    /// Returns the storage of `owner` restricted to the grants of `to`; `None` without
    /// a grant.
    pub fn granted(&self, to: &ComponentId, owner: &ComponentId) -> Option<GrantedStorage> {
        let allowed = self.shared.grants.between(to, owner)?;
        let chain = self.component(owner);
        Some(GrantedStorage::new(owner.clone(), *chain.limits(), chain, allowed))
    }

    /// Refuses new operations, waits until writes in progress have ended, and flushes
    /// the store. After `Ok`, every acknowledged write is durable and nothing more is
    /// written.
    ///
    /// Later operations that need the store fail with [`StorageError::Unavailable`];
    /// cached values can still be read. A guest traps at its next storage call. A
    /// second call flushes again.
    ///
    /// Takes at most `within`: four fifths for writes in progress and the rest for the
    /// flush.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use storage_core::conformance::ReferenceStorage;
    /// use storage_host::{ComponentStorage, StorageError, StorageHost};
    ///
    /// let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
    /// let storage = host.component(&"app/notes/home".parse()?);
    /// storage.set("key", "value".into())?;
    /// host.shut_down(Duration::from_secs(10))?;
    /// let refused = storage.set("key", "other".into());
    /// assert!(matches!(refused, Err(StorageError::Unavailable { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it did not finish in time: the outcome of the
    /// writes in progress, or the durability of the last writes, is unknown. Otherwise
    /// as [`Store::flush`].
    pub fn shut_down(&self, within: Duration) -> Result<(), StorageError> {
        self.shared.gated.shut_down(within)
    }

    /// Returns whether [`shut_down`](Self::shut_down) was called.
    pub fn is_shut_down(&self) -> bool {
        self.shared.gated.gate().is_closed()
    }

    /// Returns the store, which takes full keys.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    #[cfg(feature = "async")]
    pub(crate) fn store_behaviour(&self) -> StoreBehaviour {
        self.shared.behaviour
    }

    #[cfg(feature = "async")]
    pub(crate) fn offloader(&self) -> &Offloader {
        &self.shared.offloader
    }

    fn new_chain(&self, id: &ComponentId) -> ComponentChain {
        let settings = self.shared.overrides.get(id).unwrap_or(&self.shared.defaults);
        let cached = self.shared.caches.of(id, settings);
        let namespaced = NamespacedStorage::new(id.clone(), cached);
        let within_quota = QuotaStorage::new(namespaced, settings.quota);
        ComponentChain {
            storage: LimitedStorage::new(within_quota, settings.limits),
            shares_cache: settings.cache.is_none() && self.shared.caches.settings().is_shared,
            config: settings.config.clone(),
            host: self.clone(),
            #[cfg(feature = "wasmtime")]
            cursors: crate::cursors::Cursors::default(),
            #[cfg(feature = "async")]
            share: self.shared.offloader.new_share(),
        }
    }
}

impl fmt::Debug for StorageHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chains, capacity) = {
            let chains = self.shared.lock_chains();
            (chains.len(), chains.capacity())
        };
        let cache = self.shared.caches.settings();
        f.debug_struct("StorageHost")
            .field("cache", &cache.config)
            .field("shares_cache", &cache.is_shared)
            .field("max_staleness", &cache.max_staleness)
            .field("defaults", &self.shared.defaults)
            .field("overrides", &self.shared.overrides)
            .field("chains", &chains)
            .field("room_for_chains", &capacity)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock_chains(&self) -> MutexGuard<'_, HashMap<ComponentId, Weak<ComponentChain>>> {
        // Every change of the map is one call, so a panic cannot leave it half changed.
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds a [`StorageHost`].
pub struct StorageHostBuilder {
    store: Arc<dyn Store>,
    cache: CacheSettings,
    defaults: ComponentSettings,
    overrides: HashMap<ComponentId, ComponentSettings>,
    #[cfg(feature = "async")]
    offload: Offload,
}

impl StorageHostBuilder {
    /// Gives each component a private cache, unless the store answers from memory.
    #[must_use]
    pub fn cache(mut self, cache: CacheConfig) -> Self {
        self.cache.config = cache;
        self.cache.is_shared = false;
        self
    }

    /// Gives all components one cache of this size, for hosts of many components of
    /// which few are busy. A component can use an eighth of it ([`SharedCache`]). It is not
    /// used if the store answers from memory.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use storage_core::conformance::ReferenceStorage;
    /// use storage_host::{CacheConfig, ComponentStorage, StorageHost};
    ///
    /// let cache = CacheConfig { max_entries: 200_000, ttl: None, max_size_bytes: 256 << 20 };
    /// let host = StorageHost::builder(Arc::new(ReferenceStorage::new())).shared_cache(cache).build();
    /// let id = "app/notes/home".parse()?;
    /// let storage = host.component(&id);
    /// storage.set("user:123", "Ada".into())?;
    /// storage.get("user:123")?;
    /// assert_eq!((host.cache_stats(&id).hits, host.total_cache_stats().entries), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn shared_cache(mut self, cache: CacheConfig) -> Self {
        self.cache.config = cache;
        self.cache.is_shared = true;
        self
    }

    /// Sets how old a cached value may be if other hosts can write to the store, of components
    /// without their own setting. One second by default. Less than 100 ms turns the cache
    /// off, so that every read sees the last write of any host.
    ///
    /// A read from the cache returns a value that was current at some time within
    /// `max_staleness` before the read began, whatever happens to the connection. A host
    /// always sees its own writes. Usually it learns of the writes of others within
    /// milliseconds. If the store does not answer for that long, reads fail as they do without
    /// a cache. Without effect if the store belongs to one host.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use storage_core::conformance::SharedReference;
    /// use storage_host::{CacheConfig, ComponentSettings, ComponentStorage, StorageHost};
    ///
    /// let store = SharedReference::new();
    /// let id = "app/notes/home".parse()?;
    /// let cached = StorageHost::builder(Arc::new(store.connect()))
    ///     .max_staleness(Duration::from_secs(5))
    ///     .build();
    /// let uncached = StorageHost::builder(Arc::new(store.connect()))
    ///     .cache(CacheConfig::off())
    ///     .build();
    /// uncached.component(&id).set("title", "Home".into())?;
    /// assert_eq!(cached.component(&id).get("title")?, Some("Home".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn max_staleness(mut self, max_staleness: Duration) -> Self {
        self.cache.max_staleness = max_staleness;
        self
    }

    /// Sets the clock of the caches, for tests. With a manual clock no thread polls a store
    /// that other hosts may write to: call [`StorageHost::poll_changes`].
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.cache.clock = clock;
        self
    }

    /// Sets the quota of components without their own settings.
    #[must_use]
    pub fn quota(mut self, quota: Budget) -> Self {
        self.defaults.quota = Some(quota);
        self
    }

    /// Sets the limits of components without their own settings.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.defaults.limits = limits;
        self
    }

    /// Sets all settings of components without their own settings. Replaces
    /// [`quota`](Self::quota) and [`limits`](Self::limits).
    #[must_use]
    pub fn defaults(mut self, settings: ComponentSettings) -> Self {
        self.defaults = settings;
        self
    }

    /// Sets the settings of one component.
    #[must_use]
    pub fn component(mut self, id: ComponentId, settings: ComponentSettings) -> Self {
        self.overrides.insert(id, settings);
        self
    }

    /// Sets where calls of guests in an asynchronous linker run that may block.
    #[cfg(feature = "async")]
    #[must_use]
    pub fn offload(mut self, offload: Offload) -> Self {
        self.offload = offload;
        self
    }

    /// Builds the host.
    pub fn build(self) -> StorageHost {
        #[cfg(feature = "async")]
        let properties = self.store.properties();
        #[cfg(feature = "async")]
        let behaviour = StoreBehaviour {
            may_block: properties.may_block,
            is_shared: properties.shared_with_other_hosts,
        };
        let gated = Arc::new(GatedStore::new(self.store));
        let caches = Caches::new(&gated, self.cache, &self.defaults, &self.overrides);
        StorageHost {
            shared: Arc::new(Shared {
                store: gated.clone(),
                gated,
                caches,
                defaults: self.defaults,
                overrides: self.overrides,
                grants: Grants::default(),
                chains: Mutex::default(),
                #[cfg(feature = "wasmtime")]
                log_budgets: crate::log_budget::LogBudgets::default(),
                #[cfg(feature = "async")]
                behaviour,
                #[cfg(feature = "async")]
                offloader: Offloader::new(self.offload),
            }),
        }
    }
}

impl fmt::Debug for StorageHostBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageHostBuilder")
            .field("cache", &self.cache.config)
            .field("shares_cache", &self.cache.is_shared)
            .field("max_staleness", &self.cache.max_staleness)
            .field("defaults", &self.defaults)
            .field("overrides", &self.overrides)
            .finish_non_exhaustive()
    }
}

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

type Chain = LimitedStorage<QuotaStorage<NamespacedStorage<OptionalCache>>>;

/// A component's storage, shared by all of its instances: limits, quota,
/// isolation and, unless the store answers from memory, cache above the host's store.
///
/// Created by [`StorageHost::component`]. As a [`ComponentStorage`] it takes user
/// keys.
pub struct ComponentChain {
    storage: Chain,
    shares_cache: bool,
    config: ComponentConfig,
    host: StorageHost,
    #[cfg(feature = "wasmtime")]
    cursors: crate::cursors::Cursors,
    #[cfg(feature = "async")]
    share: Share,
}

impl ComponentChain {
    /// Returns the component's id.
    pub fn id(&self) -> &ComponentId {
        self.storage.inner().inner().component_id()
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
        &self.host.shared.log_budgets
    }

    /// Returns the component's configuration.
    pub fn config(&self) -> &ComponentConfig {
        &self.config
    }

    /// Returns the limits of the component's calls.
    pub fn limits(&self) -> &Limits {
        self.storage.limits()
    }

    /// Returns the component's quota, if any.
    pub fn quota(&self) -> Option<Budget> {
        self.storage.inner().quota()
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
        self.storage.inner().inner().inner()
    }

    /// Returns how much the component stores and may store.
    ///
    /// # Errors
    /// As [`ComponentStorage::usage`].
    pub fn component_usage(&self) -> Result<ComponentUsage, StorageError> {
        let used = self.storage.usage(None)?;
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
            .field("limits", self.limits())
            .finish_non_exhaustive()
    }
}

impl Drop for ComponentChain {
    fn drop(&mut self) {
        #[cfg(feature = "wasmtime")]
        self.log_budgets().report_suppressed(self.id());
        let mut chains = self.host.shared.lock_chains();
        // The component may have a new chain since the last reference was dropped.
        let mine = chains.get(self.id()).is_some_and(|chain| chain.as_ptr() == &raw const *self);
        if mine {
            chains.remove(self.id());
            // A map keeps its memory; shrink it after many components were dropped.
            let capacity = chains.capacity();
            if chains.len() < capacity / 4 {
                chains.shrink_to(capacity / 2);
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for ComponentChain {
    forward_storage!(self => self.storage);
}
