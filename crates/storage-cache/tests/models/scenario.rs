//! The start of an execution: a cache over a storage, and what it knows about a key.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use storage_cache::{CacheConfig, CacheStats, CachedStorage, ManualClock, SharedCache};
use storage_core::{
    Commit, ComponentId, ComponentStorage, NamespacedStorage, StorageError, StorageValue,
};

use crate::storage::{RecordingStorage, announce};

pub(crate) const TTL: Duration = Duration::from_secs(60);

/// The call that wrote before the threads started.
pub(crate) const SETUP: usize = 0;
/// The call that bypassed the cache with a write.
pub(crate) const AROUND: usize = 1;

/// The key that every operation is about.
pub(crate) const KEY: usize = 0;
/// The second key of batches and commits.
pub(crate) const OTHER: usize = 1;
/// Keys that evict these two from a small cache.
pub(crate) const FILLERS: [usize; 3] = [2, 3, 4];

/// No cache of the models keeps a value of this size.
const LARGE: usize = 20 << 10;

/// The names of the keys.
#[derive(Debug)]
pub(crate) struct Names {
    prefix: &'static str,
    names: [String; 5],
}

impl Names {
    fn new(prefix: &'static str, random: &mut Rng) -> Self {
        // Some of these share a key lock with the key.
        let other = format!("other {}", random.u8(..));
        Self { prefix, names: ["key".into(), other, "c".into(), "d".into(), "e".into()] }
    }

    pub(crate) fn all(&self) -> std::ops::Range<usize> {
        0..self.names.len()
    }

    pub(crate) fn get(&self, key: usize) -> &str {
        &self.names[key]
    }

    /// The name of a key in the storage below.
    pub(crate) fn below(&self, key: usize) -> String {
        format!("{}{}", self.prefix, self.get(key))
    }
}

/// Values, each of another length: that is what `Debug` shows of them.
#[derive(Debug, Default)]
pub(crate) struct Values {
    count: usize,
}

impl Values {
    pub(crate) fn small(&mut self) -> StorageValue {
        self.count += 1;
        vec![0; self.count].into()
    }

    pub(crate) fn large(&mut self) -> StorageValue {
        self.count += 1;
        vec![0; LARGE + self.count].into()
    }
}

pub(crate) fn is_large(value: &StorageValue) -> bool {
    value.len() >= LARGE
}

/// What the cache knows about the key at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing: the key is absent, and the cache was never used.
    Unused,
    /// Nothing, but the key has a value.
    Unread,
    /// Its value, without a revision.
    Set,
    /// Its value, with the revision.
    Committed,
    /// Its value, from a read.
    Read,
    /// That it is absent.
    Absent,
    /// That it has a value.
    Present,
    /// That its value is too large.
    TooLarge,
    /// An entry that is wrong, and has expired.
    Expired,
    /// An entry that is wrong, until it expires or is cleared.
    Stale,
}

impl Start {
    #[rustfmt::skip]
    const ALL: [Self; 10] = [
        Self::Unused, Self::Unread, Self::Set, Self::Committed, Self::Read, Self::Absent,
        Self::Present, Self::TooLarge, Self::Expired, Self::Stale,
    ];

    /// Chooses no stale entry if no operation ends it.
    pub(crate) fn choose(random: &mut Rng, ends: bool) -> Self {
        match Self::ALL[random.usize(..Self::ALL.len())] {
            Self::Stale if !ends => Self::Expired,
            start => start,
        }
    }
}

/// A cache over a recording storage.
pub(crate) struct Scenario {
    /// One for a private cache, two of one component for a shared one.
    views: Vec<Box<dyn ComponentStorage>>,
    stats: Box<dyn Fn() -> CacheStats + Send + Sync>,
    clear: Box<dyn Fn() + Send + Sync>,
    pub(crate) below: Arc<RecordingStorage>,
    pub(crate) clock: ManualClock,
    pub(crate) names: Names,
    pub(crate) config: CacheConfig,
    /// Whether all keys fit.
    pub(crate) is_roomy: bool,
}

/// The number of segments of a shared cache.
const SEGMENTS: usize = 16;

impl Scenario {
    pub(crate) fn choose(random: &mut Rng, evicts: bool) -> Self {
        let is_roomy = !evicts && random.u8(..4) != 0;
        let (is_shared, is_namespaced) = (random.u8(..4) == 0, random.bool());
        let (max_entries, kib) = if is_roomy { (16, 16) } else { (random.usize(1..=2), 4) };
        let parts = if is_shared { SEGMENTS } else { 1 };
        let config = CacheConfig {
            max_entries: max_entries * parts,
            ttl: Some(TTL),
            max_size_bytes: (kib << 10) * parts,
        };
        let (below, clock) = (Arc::new(RecordingStorage::default()), ManualClock::new());
        let (storage, id) = (Arc::clone(&below), || -> ComponentId { "a/b/1".parse().unwrap() });
        let prefix = if is_shared || is_namespaced { "a/b/1/" } else { "" };
        let names = Names::new(prefix, random);
        if is_shared {
            let cache = SharedCache::with_clock(storage, config.clone(), clock.clock());
            let cleared = cache.component(id());
            let view = || Box::new(cache.component(id())) as Box<dyn ComponentStorage>;
            let (views, clear) = (vec![view(), view()], Box::new(move || cleared.inner().clear()));
            let stats = Box::new(move || cache.stats());
            return Self { views, stats, clear, below, clock, names, config, is_roomy };
        }
        let cache = CachedStorage::with_clock(storage, config.clone(), clock.clock());
        let [cache, measured, cleared] = {
            let cache = Arc::new(cache);
            [Arc::clone(&cache), Arc::clone(&cache), cache]
        };
        let view: Box<dyn ComponentStorage> = match is_namespaced {
            true => Box::new(NamespacedStorage::new(id(), cache)),
            false => Box::new(cache),
        };
        let (stats, clear) =
            (Box::new(move || measured.stats()), Box::new(move || cleared.clear()));
        Self { views: vec![view], stats, clear, below, clock, names, config, is_roomy }
    }

    /// The view that a thread uses.
    pub(crate) fn view(&self, thread: usize) -> &dyn ComponentStorage {
        &*self.views[thread % self.views.len()]
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = &dyn ComponentStorage> {
        self.views.iter().map(|view| &**view)
    }

    pub(crate) fn stats(&self) -> CacheStats {
        (self.stats)()
    }

    pub(crate) fn clear(&self) {
        (self.clear)();
    }

    /// Writes the key past the cache, directly to the storage below; `None` deletes it.
    pub(crate) fn write_around(&self, value: Option<StorageValue>) -> Result<(), StorageError> {
        match value {
            Some(value) => self.below.set(&self.names.below(KEY), value),
            None => self.below.delete(&self.names.below(KEY)),
        }
    }

    /// Prepares the cache and the storage for `start`. Returns how many keys were
    /// read through the cache.
    pub(crate) fn prepare(
        &self,
        start: Start,
        random: &mut Rng,
        values: &mut Values,
    ) -> Result<u64, StorageError> {
        let (cached, key, below) = (self.view(0), self.names.get(KEY), self.names.below(KEY));
        announce(SETUP, None);
        match start {
            Start::Unused => {}
            Start::Unread => self.below.set(&below, values.small())?,
            Start::Set => cached.set(key, values.small())?,
            Start::Committed => drop(cached.commit(Commit::new().set(key, values.small()))?),
            Start::Read => {
                self.below.set(&below, values.small())?;
                return cached.get(key).map(|_| 1);
            }
            Start::Present => {
                self.below.set(&below, values.small())?;
                return cached.exists(key).map(|_| 1);
            }
            Start::Absent => cached.delete(key)?,
            Start::TooLarge => cached.set(key, values.large())?,
            Start::Expired | Start::Stale => {
                match random.bool() {
                    true => cached.set(key, values.small())?,
                    false => cached.delete(key)?,
                }
                announce(AROUND, None);
                self.write_around(random.bool().then(|| values.small()))?;
                if start == Start::Expired {
                    self.clock.advance(TTL);
                }
            }
        }
        Ok(0)
    }
}
