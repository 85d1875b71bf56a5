//! The memory of a cache, and eviction.

use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use crate::clock::{Clock, Timer};
use crate::coherence::Coherence;
use crate::config::CacheConfig;
use crate::entry::Entry;
use crate::key::Key;
use crate::layout::{HOT_PART, Layout, bytes};
use crate::scope::Scopes;
use crate::stats::CacheStats;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{DefaultHashBuilder, OnceLock};

pub(crate) type Entries = Cache<Key, Entry, Layout, DefaultHashBuilder, CountEvictions>;

/// The entries of one private cache, or of all components of a shared one.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Equal parts with independent eviction.
    pub(crate) segments: Box<[Arc<Entries>]>,
    /// The layout of a segment.
    pub(crate) layout: Layout,
    pub(crate) timer: Timer,
    next_id: AtomicU64,
}

impl Pool {
    /// `None` if quick_cache refuses the layout.
    pub(crate) fn new(layout: Layout, segments: usize, timer: Timer) -> Option<Arc<Self>> {
        let segment = || {
            let options = OptionsBuilder::new()
                .weight_capacity(layout.room)
                .estimated_items_capacity(usize::try_from(layout.max_entries).unwrap_or(usize::MAX))
                .shards(usize::try_from(layout.shards).unwrap_or(1))
                .hot_allocation(HOT_PART)
                .ghost_allocation(layout.ghost_allocation())
                .build()
                .ok()?;
            let hasher = DefaultHashBuilder::default();
            Some(Arc::new(Cache::with_options(options, layout, hasher, CountEvictions)))
        };
        let segments = (0..segments).map(|_| segment()).collect::<Option<_>>()?;
        Some(Arc::new(Self { segments, layout, timer, next_id: AtomicU64::new(0) }))
    }

    /// A number that this pool has not returned before.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The statistics, capped by what the segments hold.
    pub(crate) fn cap(&self, stats: CacheStats) -> CacheStats {
        let weight = self.segments.iter().map(|segment| segment.weight()).sum();
        stats.capped(weight, self.layout.min_weight)
    }
}

/// How many segments a shared pool has.
const SEGMENTS: usize = 16;

/// The pool of a shared cache, created on first use, and its components.
pub(crate) struct SharedPool {
    pub(crate) config: CacheConfig,
    /// Follows the writes of other hosts, if there are any.
    pub(crate) coherence: Option<Coherence>,
    clock: Clock,
    pub(crate) hasher: DefaultHashBuilder,
    pub(crate) scopes: Arc<Scopes>,
    /// The inner `Option` is `None` if the cache is off.
    pool: OnceLock<Option<Arc<Pool>>>,
}

impl SharedPool {
    pub(crate) fn new(config: CacheConfig, clock: Clock, coherence: Option<Coherence>) -> Self {
        Self {
            config,
            coherence,
            clock,
            hasher: DefaultHashBuilder::default(),
            scopes: Arc::default(),
            pool: OnceLock::new(),
        }
    }

    /// The pool; `None` if the cache is off.
    pub(crate) fn pool(&self) -> Option<&Arc<Pool>> {
        let make = || {
            let layout = Layout::of(&self.config.part(SEGMENTS))?;
            let timer = match self.coherence {
                Some(_) => Timer::running(&self.clock, self.config.ttl),
                None => Timer::new(&self.clock, self.config.ttl),
            };
            Pool::new(layout, SEGMENTS, timer)
        };
        self.pool.get_or_init(make).as_ref()
    }

    /// The statistics of all components.
    pub(crate) fn stats(&self) -> CacheStats {
        self.cap(self.scopes.stats())
    }

    pub(crate) fn stats_of(&self, prefix: &str) -> CacheStats {
        self.cap(self.scopes.stats_of(prefix))
    }

    fn cap(&self, stats: CacheStats) -> CacheStats {
        match self.pool.get() {
            Some(Some(pool)) => pool.cap(stats),
            _ => stats,
        }
    }
}

impl Weighter<Key, Entry> for Layout {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        Layout::weight(self, key.len(), entry)
    }
}

/// Counts evictions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountEvictions;

/// The first two entries that an insert evicts; usually there are no more. Dropped
/// after the shard is unlocked.
#[derive(Debug, Default)]
pub(crate) struct Evicted {
    pub(crate) first: [Option<(Key, Entry)>; 2],
}

impl Lifecycle<Key, Entry> for CountEvictions {
    type RequestState = Evicted;

    fn on_evict(&self, evicted: &mut Evicted, key: Key, entry: Entry) {
        let counters = &key.scope.counters;
        counters.evictions.fetch_add(1, Ordering::Relaxed);
        counters.removed(bytes(key.len(), &entry));
        if let Some(free) = evicted.first.iter_mut().find(|first| first.is_none()) {
            *free = Some((key, entry));
        }
    }
}
