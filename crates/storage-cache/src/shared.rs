//! One cache for many components.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use storage_core::{ComponentId, ComponentStorage, NamespacedStorage};

use crate::cached::CachedStorage;
use crate::clock::Clock;
use crate::coherence::{Coherence, DEFAULT_MAX_STALENESS};
use crate::config::CacheConfig;
use crate::pool::SharedPool;
use crate::stats::CacheStats;

/// One cache for all components of a host, in front of their storage.
///
/// Each component gets its own [`CachedStorage`], with its own statistics. All of
/// them share one size limit, so that memory goes where it is used.
///
/// The cache has 16 segments, and each component uses two of them. So a component
/// fills at most an eighth of the cache, and its scans evict nothing from the other 14
/// segments. The entries of a component stay after its last handle is dropped, until
/// they are evicted.
///
/// A value is cached if it fills at most 97 % of a segment, or of one shard of a large
/// segment ([`CachedStorage`] says when there are several).
///
/// A clone is another handle to the same cache.
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
    pool: Arc<SharedPool>,
}

impl<S: ComponentStorage + Clone> SharedCache<S> {
    /// Creates a cache in front of `storage`. The limits of `config` are for all
    /// components together.
    pub fn new(storage: S, config: CacheConfig) -> Self {
        Self::with_clock(storage, config, Clock::system())
    }

    /// Creates a cache with another clock, for tests.
    pub fn with_clock(storage: S, config: CacheConfig, clock: Clock) -> Self {
        Self { storage, pool: Arc::new(SharedPool::new(config, clock, None)) }
    }

    /// Creates a cache in front of a storage that other hosts may write to, as
    /// [`CachedStorage::coherent`] does for one component.
    pub fn coherent(storage: S, config: CacheConfig, coherence: &Coherence) -> Self {
        let clock = coherence.clock().clone();
        let pool = SharedPool::new(config, clock, Some(coherence.clone()));
        Self { storage, pool: Arc::new(pool) }
    }

    /// A component's view of the storage. All views of one id are coherent with each
    /// other.
    pub fn component(&self, id: ComponentId) -> NamespacedStorage<CachedStorage<S>> {
        self.component_within(id, DEFAULT_MAX_STALENESS)
    }

    /// The same as [`component`](Self::component), with another maximum staleness. It has
    /// an effect only if other hosts may write to the storage. All views of one id must have
    /// the same.
    pub fn component_within(
        &self,
        id: ComponentId,
        max_staleness: Duration,
    ) -> NamespacedStorage<CachedStorage<S>> {
        let (pool, prefix) = (Arc::clone(&self.pool), id.key_prefix().into());
        let cached = CachedStorage::shared(self.storage.clone(), pool, prefix, max_staleness);
        NamespacedStorage::new(id, cached)
    }

    /// The storage below.
    pub fn inner(&self) -> &S {
        &self.storage
    }

    /// The limits of the cache.
    pub fn config(&self) -> &CacheConfig {
        &self.pool.config
    }

    /// The statistics of all components, removed ones included.
    pub fn stats(&self) -> CacheStats {
        self.pool.stats()
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
