//! One budget for the caches of many components.

use std::fmt;
use std::sync::Arc;

use storage_core::{ComponentId, ComponentStorage, NamespacedStorage};

use crate::cached::CachedStorage;
use crate::clock::{Clock, Timer};
use crate::config::{CacheConfig, Layout};
use crate::owner::Register;
use crate::stats::CacheStats;
use crate::sync::{DefaultHashBuilder, OnceLock};
use crate::table::{Budget, Table};

/// Into how many segments a shared budget is divided.
const SEGMENTS: usize = 16;

/// One cache budget for all components of a host, in front of their storage.
///
/// Each component gets a [`CachedStorage`] of its own, which is as coherent as
/// any and has statistics of its own. What they keep counts against one budget,
/// so that memory goes where it is used.
///
/// The budget has 16 segments. A component can fill two of them, an eighth of it,
/// and makes room within these two; it shares each with whichever components
/// happen to have it too. So a component that reads everything once displaces
/// nothing in fourteen segments of sixteen. Entries that a component leaves
/// behind when it goes are there for it when it comes back, until they make way.
///
/// A value is kept if it fills at most 0.97 of a segment, or of a shard of one
/// that is large enough to have several ([`CachedStorage`] says when).
///
/// A clone is another handle on the same cache.
///
/// ```
/// use std::sync::Arc;
/// use storage_cache::{CacheConfig, SharedCache};
/// use storage_core::{ComponentStorage, conformance::ReferenceStorage};
///
/// let backend: Arc<dyn ComponentStorage> = Arc::new(ReferenceStorage::new());
/// let shared = SharedCache::new(backend, CacheConfig { max_size_bytes: 256 << 20, ..CacheConfig::default() });
/// let home = shared.component("app/notes/home".parse()?);
/// let work = shared.component("app/notes/work".parse()?);
///
/// home.set("user:123", "Ada".into())?;
/// assert_eq!(home.get("user:123")?, Some("Ada".into())); // from memory
/// assert_eq!(work.get("user:123")?, None);
/// assert_eq!((home.inner().stats().hits, shared.stats().entries), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SharedCache<S: ComponentStorage + Clone> {
    storage: S,
    shared: Arc<Shared>,
}

/// What the caches of a budget have in common.
pub(crate) struct Shared {
    pub(crate) config: CacheConfig,
    clock: Clock,
    hasher: DefaultHashBuilder,
    register: Arc<Register>,
    /// Made by the first use; `None` where nothing shall be kept.
    budget: OnceLock<Option<Arc<Budget>>>,
}

impl<S: ComponentStorage + Clone> SharedCache<S> {
    /// Puts a cache in front of `storage`, to be shared by its components. The
    /// numbers of `config` are those of all together.
    pub fn new(storage: S, config: CacheConfig) -> Self {
        Self::with_clock(storage, config, Clock::system())
    }

    /// The same with another clock, for tests of what expires.
    pub fn with_clock(storage: S, config: CacheConfig, clock: Clock) -> Self {
        let shared = Shared {
            config,
            clock,
            hasher: DefaultHashBuilder::default(),
            register: Arc::default(),
            budget: OnceLock::new(),
        };
        Self { storage, shared: Arc::new(shared) }
    }

    /// A component's view of the storage, with its part of the cache. However many
    /// there are for one id, they see each other's writes.
    pub fn component(&self, id: ComponentId) -> NamespacedStorage<CachedStorage<S>> {
        let prefix = id.key_prefix().into();
        let cached = CachedStorage::shared(self.storage.clone(), Arc::clone(&self.shared), prefix);
        NamespacedStorage::new(id, cached)
    }

    /// The storage below.
    pub fn inner(&self) -> &S {
        &self.storage
    }

    /// What was asked of the cache.
    pub fn config(&self) -> &CacheConfig {
        &self.shared.config
    }

    /// What all components together have done and hold, those included that are
    /// there no more.
    pub fn stats(&self) -> CacheStats {
        self.shared.bound(self.shared.register.stats())
    }
}

impl Shared {
    fn bound(&self, counted: CacheStats) -> CacheStats {
        match self.budget.get() {
            Some(Some(budget)) => budget.bound(counted),
            _ => counted,
        }
    }

    /// What the caches of the keys that begin with `prefix` have done and hold.
    pub(crate) fn stats_of(&self, prefix: &str) -> CacheStats {
        self.bound(self.register.stats_of(prefix))
    }

    /// The table of the keys that begin with `prefix`.
    pub(crate) fn table(&self, prefix: &str) -> Option<Table> {
        let budget = self.budget.get_or_init(|| {
            let layout = Layout::of(&self.config.part(SEGMENTS))?;
            Budget::new(layout, SEGMENTS, Timer::new(&self.clock, self.config.ttl))
        });
        Table::within(budget.as_ref()?, &self.register, &self.hasher, prefix)
    }
}

impl<S: ComponentStorage + Clone + fmt::Debug> fmt::Debug for SharedCache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCache")
            .field("inner", &self.storage)
            .field("config", self.config())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
