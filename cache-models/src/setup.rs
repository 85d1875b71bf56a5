//! What an execution begins with: a cache over a storage, and what both know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cache_under_test::{CacheConfig, CacheStats, CachedStorage, ManualClock, SharedCache};
use storage_core::{ComponentId, ComponentStorage, NamespacedStorage, StorageError, StorageValue};

use crate::below::{Below, announce};
use crate::random::Random;
use crate::values::{KEY, Names, Values};

pub(crate) const TTL: Duration = Duration::from_secs(60);

/// Which call wrote what was there before the threads.
pub(crate) const SETUP: usize = 0;
/// Which call wrote around the cache.
pub(crate) const AROUND: usize = 1;

/// What is known of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing, there is none, and the cache has never been used.
    Unused,
    /// Nothing, but there is one.
    Unread,
    /// Its value, from a write that told no revision.
    Set,
    /// Its value, from a write that told one.
    Put,
    /// Its value, from a read.
    Read,
    /// That there is none.
    Absent,
    /// That there is one.
    Present,
    /// That its value is too large.
    TooLarge,
    /// What is no longer true, but has expired.
    Expired,
    /// What is no longer true, and will expire or be dropped.
    Overtaken,
}

impl Start {
    const ALL: [Self; 10] = [
        Self::Unused,
        Self::Unread,
        Self::Set,
        Self::Put,
        Self::Read,
        Self::Absent,
        Self::Present,
        Self::TooLarge,
        Self::Expired,
        Self::Overtaken,
    ];

    /// Where nothing expires, what was overtaken would never be seen.
    pub(crate) fn choose(random: &mut Random, expires: bool) -> Self {
        match random.pick(&Self::ALL) {
            Self::Overtaken if !expires => Self::Expired,
            start => start,
        }
    }
}

/// Where the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In front of the storage, and nothing in front of it.
    Bare,
    /// Below the namespace of a component, which asks it in a way of its own.
    Namespaced,
    /// The same, in a budget that several components share.
    Shared,
}

/// A cache and what belongs to it.
pub(crate) struct Setup {
    place: Place,
    /// What threads use: two views of one component in a shared cache, or twice the
    /// same.
    views: [Arc<dyn ComponentStorage>; 2],
    stats: Stats,
    clear: Clear,
    pub(crate) below: Arc<Below>,
    pub(crate) clock: ManualClock,
    pub(crate) names: Names,
    pub(crate) config: CacheConfig,
    /// Whether it has room for all keys.
    pub(crate) roomy: bool,
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with {:?}", self.place, self.config)
    }
}

type Stats = Box<dyn Fn() -> CacheStats + Send + Sync>;
type Clear = Box<dyn Fn() + Send + Sync>;

/// The budget of a shared cache is divided among so many segments.
const SEGMENTS: usize = 16;

impl Setup {
    pub(crate) fn choose(random: &mut Random, evicts: bool) -> Self {
        let roomy = !evicts && !random.once_in(4);
        let place = match random.below(4) {
            0 => Place::Shared,
            1 => Place::Namespaced,
            _ => Place::Bare,
        };
        let (max_entries, kib) = if roomy { (16, 16) } else { (random.pick(&[1, 2]), 4) };
        let parts = if place == Place::Shared { SEGMENTS } else { 1 };
        let config = CacheConfig {
            max_entries: max_entries * parts,
            ttl: Some(TTL),
            max_size_bytes: (kib << 10) * parts,
        };
        let prefix = if place == Place::Bare { "" } else { "app/models/1/" };
        let names = Names::new(prefix, random);
        let (below, clock) = (Arc::new(Below::new()), ManualClock::new());
        let (storage, with, time) = (Arc::clone(&below), config.clone(), clock.clock());
        let (views, stats, clear): ([Arc<dyn ComponentStorage>; 2], Stats, Clear) =
            if place == Place::Shared {
                let cache = SharedCache::with_clock(storage, with, time);
                let view = || Arc::new(cache.component(component()));
                let (first, second) = (view(), view());
                let of_second = Arc::clone(&second);
                let clear = Box::new(move || of_second.inner().clear());
                ([first, second], Box::new(move || cache.stats()), clear)
            } else {
                let cache = Arc::new(CachedStorage::with_clock(storage, with, time));
                let view: Arc<dyn ComponentStorage> = match place {
                    Place::Bare => Arc::clone(&cache) as _,
                    _ => Arc::new(NamespacedStorage::new(component(), Arc::clone(&cache))),
                };
                let cleared = Arc::clone(&cache);
                let clear = Box::new(move || cleared.clear());
                ([Arc::clone(&view), view], Box::new(move || cache.stats()), clear)
            };
        Self { place, views, stats, clear, below, clock, names, config, roomy }
    }

    /// The cache as a thread of this number uses it.
    pub(crate) fn view(&self, thread: usize) -> &dyn ComponentStorage {
        let [first, second] = &self.views;
        if thread.is_multiple_of(2) { first } else { second }
    }

    /// Each way to see the cache.
    pub(crate) fn views(&self) -> impl Iterator<Item = &dyn ComponentStorage> {
        (0..if self.place == Place::Shared { 2 } else { 1 }).map(|thread| self.view(thread))
    }

    pub(crate) fn stats(&self) -> CacheStats {
        (self.stats)()
    }

    /// Drops what the cache keeps.
    pub(crate) fn clear(&self) {
        (self.clear)();
    }

    /// Writes the key without the cache; `None` deletes it.
    pub(crate) fn write_around(&self, value: Option<StorageValue>) -> Result<(), StorageError> {
        let key = self.names.below(KEY);
        match value {
            Some(value) => self.below.set(&key, value),
            None => self.below.delete(&key),
        }
    }

    /// Brings the cache and the storage to where the threads begin; tells how
    /// many keys were read through the cache.
    pub(crate) fn bring_to(
        &self,
        start: Start,
        random: &mut Random,
        values: &mut Values,
    ) -> Result<u64, StorageError> {
        let (cached, key) = (self.view(0), self.names.get(KEY));
        let below = self.names.below(KEY);
        announce(SETUP, None);
        match start {
            Start::Unused => return Ok(0),
            Start::Unread => self.below.set(&below, values.small())?,
            Start::Set => cached.set(key, values.small())?,
            Start::Put => drop(cached.put(key, values.small())?),
            Start::Read | Start::Present => {
                self.below.set(&below, values.small())?;
                match start {
                    Start::Read => drop(cached.get(key)?),
                    _ => drop(cached.exists(key)?),
                }
                return Ok(1);
            }
            Start::Absent => cached.delete(key)?,
            Start::TooLarge => cached.set(key, values.large())?,
            Start::Expired | Start::Overtaken => {
                match random.coin() {
                    true => cached.set(key, values.small())?,
                    false => cached.delete(key)?,
                }
                announce(AROUND, None);
                self.write_around(random.coin().then(|| values.small()))?;
                if start == Start::Expired {
                    self.clock.advance(TTL);
                }
            }
        }
        Ok(0)
    }
}

fn component() -> ComponentId {
    "app/models/1".parse().unwrap_or_else(|error| unreachable!("{error}"))
}
