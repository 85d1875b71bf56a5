//! The host: one chain for each component, and its settings.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

#[cfg(doc)]
use storage_cache::SharedCache;
use storage_cache::{CacheConfig, CacheStats, Clock, CoherenceStats, DEFAULT_MAX_STALENESS};
use storage_core::{Budget, ComponentId, StorageError, Store};
#[cfg(doc)]
use storage_core::{ComponentStorage, StoreProperties};

use crate::caches::{CacheSettings, Caches};
use crate::coherence::Follower;
use crate::component_chain::{ComponentChain, ComponentUsage};
use crate::component_config::ComponentConfig;
use crate::grants::{Grant, GrantedStorage, Grants};
use crate::limits::Limits;
use crate::live::{Account, Live};
#[cfg(feature = "metrics")]
use crate::metrics::{DEFAULT_COMPONENTS, Readings};
#[cfg(feature = "async")]
use crate::offload::{Offload, Offloader};
use crate::rate::{Allowance, RateLimit, nanos};
use crate::settings::HostSettings;
use crate::shutdown::GatedStore;

/// The settings of a component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComponentSettings {
    /// How much the component may store; `None` for no quota.
    pub quota: Option<Budget>,
    /// The limits on one call of the component.
    pub limits: Limits,
    /// How many operations and bytes it may use in a second.
    pub rate: RateLimit,
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
    live: Arc<Live>,
    grants: Grants,
    chains: Mutex<Chains>,
    #[cfg(feature = "metrics")]
    readings: Readings,
    #[cfg(feature = "wasmtime")]
    log_budgets: crate::log_budget::LogBudgets,
    #[cfg(feature = "async")]
    behaviour: StoreBehaviour,
    #[cfg(feature = "async")]
    offloader: Offloader,
}

/// The components in use.
#[derive(Default)]
struct Chains {
    in_use: HashSet<InUse>,
    /// What components have left of their rate that are not in use any more. A component that
    /// ends and starts again gets no more than one that runs on.
    allowances: HashMap<ComponentId, Box<Allowance>>,
}

/// A component in use. Found by its id, which the account has.
struct InUse {
    chain: Weak<ComponentChain>,
    account: Arc<Account>,
}

impl Borrow<ComponentId> for InUse {
    fn borrow(&self) -> &ComponentId {
        self.account.id()
    }
}

impl PartialEq for InUse {
    fn eq(&self, other: &Self) -> bool {
        self.account.id() == other.account.id()
    }
}

impl Eq for InUse {}

impl Hash for InUse {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.account.id().hash(state);
    }
}

impl Chains {
    fn get(&self, id: &ComponentId) -> Option<Arc<ComponentChain>> {
        self.in_use.get(id)?.chain.upgrade()
    }

    /// Keeps an allowance. Forgets those that are full again once their number has doubled.
    fn keep_allowance(&mut self, id: &ComponentId, allowance: Box<Allowance>, now: u64) {
        if self.allowances.len() >= self.allowances.capacity() {
            self.allowances.retain(|_, allowance| !allowance.is_full(now));
        }
        self.allowances.insert(id.clone(), allowance);
    }
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
            #[cfg(feature = "metrics")]
            metrics_components: DEFAULT_COMPONENTS,
        }
    }

    /// Returns the component's chain: the one in use, or a new one.
    pub fn component(&self, id: &ComponentId) -> Arc<ComponentChain> {
        let mut chains = self.shared.lock_chains();
        if let Some(chain) = chains.get(id) {
            return chain;
        }
        // If the last chain is being dropped, its successor continues its account.
        let account = chains.in_use.get(id).map(|in_use| Arc::clone(&in_use.account));
        let account = account.unwrap_or_else(|| {
            let allowance = chains.allowances.remove(id);
            Arc::new(Account::new(id.clone(), &self.shared.live, allowance))
        });
        let chain = Arc::new(ComponentChain::new(self, &account));
        let in_use = InUse { chain: Arc::downgrade(&chain), account };
        chains.in_use.replace(in_use);
        chain
    }

    /// Returns how much a component stores and may store; zero for an unknown
    /// component. Not a call of the component: it has no rate limit and is not counted.
    ///
    /// # Errors
    /// As [`ComponentStorage::usage`].
    pub fn usage(&self, id: &ComponentId) -> Result<ComponentUsage, StorageError> {
        let chain = self.component(id);
        chain.usage_in(chain.unobserved())
    }

    /// Returns the statistics of a component's cache since its chain was created; all
    /// zero while the component is not in use, and without a cache.
    pub fn cache_stats(&self, id: &ComponentId) -> CacheStats {
        let chain = self.shared.lock_chains().get(id);
        chain.map_or_else(CacheStats::default, |chain| chain.cache_stats())
    }

    /// Returns the statistics of all caches: of a shared cache since the host was
    /// created, and of the private caches of components that are in use.
    pub fn total_cache_stats(&self) -> CacheStats {
        // Dropping the last reference to a chain takes the lock.
        let chains: Vec<_> = self.in_use().into_iter().filter_map(|(_, chain)| chain).collect();
        let private = chains.iter().filter_map(|chain| chain.private_cache_stats());
        private.chain(self.shared_cache_stats()).sum()
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
    /// a grant. Its calls are calls of `to`: they have its rate limit, and the limits and
    /// the quota of `owner`.
    pub fn granted(&self, to: &ComponentId, owner: &ComponentId) -> Option<GrantedStorage> {
        let allowed = self.shared.grants.between(to, owner)?;
        Some(GrantedStorage::new(self.component(to), self.component(owner), allowed))
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

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.shared.live
    }

    pub(crate) fn all_grants(&self) -> &Grants {
        &self.shared.grants
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn readings(&self) -> &Readings {
        &self.shared.readings
    }

    /// The components in use. A chain is `None` if it is being dropped.
    ///
    /// Dropping a chain that has no other handle takes the lock of the chains.
    pub(crate) fn in_use(&self) -> Vec<(Arc<Account>, Option<Arc<ComponentChain>>)> {
        let chains = self.shared.lock_chains();
        let in_use = chains.in_use.iter();
        in_use.map(|one| (Arc::clone(&one.account), one.chain.upgrade())).collect()
    }

    pub(crate) fn caches(&self) -> &Caches {
        &self.shared.caches
    }

    /// The lines that components may log.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn log_budgets(&self) -> &crate::log_budget::LogBudgets {
        &self.shared.log_budgets
    }

    pub(crate) fn shared_cache_stats(&self) -> Option<CacheStats> {
        self.shared.caches.shared_stats()
    }

    /// Forgets a chain that is being dropped.
    pub(crate) fn forget(&self, chain: &ComponentChain) {
        let mut chains = self.shared.lock_chains();
        #[cfg(feature = "metrics")]
        if let Some(stats) = chain.private_cache_stats() {
            self.shared.readings.retire_cache(stats);
        }
        // The component may have a new chain since the last reference was dropped.
        let in_use = chains.in_use.get(chain.id());
        if !in_use.is_some_and(|in_use| ptr::eq(in_use.chain.as_ptr(), chain)) {
            return;
        }
        chains.in_use.remove(chain.id());
        // A map keeps its memory; shrink it after many components were dropped.
        let capacity = chains.in_use.capacity();
        if chains.in_use.len() < capacity / 4 {
            chains.in_use.shrink_to(capacity / 2);
        }
        if let Some(allowance) = chain.account().take_allowance() {
            chains.keep_allowance(chain.id(), allowance, nanos(self.shared.live.now()));
        }
        drop(chains);
        #[cfg(feature = "metrics")]
        self.shared.readings.retire(chain.id(), &chain.account().report());
    }
}

impl fmt::Debug for StorageHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chains, capacity) = {
            let chains = self.shared.lock_chains();
            (chains.in_use.len(), chains.in_use.capacity())
        };
        let cache = self.shared.caches.settings();
        f.debug_struct("StorageHost")
            .field("cache", &cache.config)
            .field("shares_cache", &cache.is_shared)
            .field("max_staleness", &cache.max_staleness)
            .field("settings", &self.shared.live)
            .field("chains", &chains)
            .field("room_for_chains", &capacity)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock_chains(&self) -> MutexGuard<'_, Chains> {
        // Every change of a map is one call, so a panic cannot leave it half changed.
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
    #[cfg(feature = "metrics")]
    metrics_components: usize,
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

    /// Sets the clock of the caches and of the rate limits, for tests. With a manual clock no
    /// thread polls a store that other hosts may write to: call [`StorageHost::poll_changes`].
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

    /// Sets the rate limit of components without their own settings.
    #[must_use]
    pub fn rate(mut self, rate: RateLimit) -> Self {
        self.defaults.rate = rate;
        self
    }

    /// Sets all settings of components without their own settings. Replaces
    /// [`quota`](Self::quota), [`limits`](Self::limits) and [`rate`](Self::rate).
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

    /// Sets how many components have numbers of their own in
    /// [`metrics`](StorageHost::metrics): the busiest. Default 100.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics_components(mut self, components: usize) -> Self {
        self.metrics_components = components;
        self
    }

    /// Builds the host.
    pub fn build(self) -> StorageHost {
        let properties = self.store.properties();
        #[cfg(feature = "async")]
        let behaviour = StoreBehaviour {
            may_block: properties.may_block,
            is_shared: properties.shared_with_other_hosts,
        };
        let gated = Arc::new(GatedStore::new(self.store));
        let clock = self.cache.clock.clone();
        let caches = Caches::new(&gated, self.cache, &self.defaults, &self.overrides);
        let settings = HostSettings {
            defaults: self.defaults,
            components: self.overrides.into_iter().collect(),
            ..HostSettings::default()
        };
        StorageHost {
            shared: Arc::new(Shared {
                store: gated.clone(),
                gated,
                caches,
                live: Arc::new(Live::new(settings, clock, &properties)),
                grants: Grants::default(),
                chains: Mutex::default(),
                #[cfg(feature = "metrics")]
                readings: Readings::new(self.metrics_components),
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
