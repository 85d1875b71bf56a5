//! Caches that are asked for values, and ask the same maker for those that they
//! do not hold.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use lru::LruCache;
use storage_cache::{CacheConfig, CachedStorage};
use storage_core::{ComponentStorage, StorageError, StorageValue};

use crate::keys::{Keys, Maker};
use crate::traces::Trace;

/// What bounds a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many entries.
    Entries(usize),
    /// So many bytes of keys and values.
    Bytes(usize),
}

/// A cache that makes what it does not hold.
pub trait ReadThrough: Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// Only ours can have any.
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError>;

    /// How many entries it holds.
    fn entries(&self) -> u64;

    /// The bytes that it says it holds, if it says.
    fn stated_bytes(&self) -> Option<u64> {
        None
    }
}

/// The caches that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `CachedStorage`.
    Ours,
    /// moka's.
    Moka,
    /// A plain LRU in a mutex.
    Lru,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Ours, Self::Moka, Self::Lru];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Moka => "moka",
            Self::Lru => "LRU",
        }
    }

    /// An empty cache of this kind.
    pub fn build(self, bound: Bound, maker: &Maker) -> Box<dyn ReadThrough + '_> {
        match self {
            Self::Ours => Box::new(CachedStorage::new(maker, config(bound))),
            Self::Moka => Box::new(Moka { cache: moka(bound), maker }),
            Self::Lru => Box::new(Lru { state: Mutex::new(LruState::new(bound)), maker }),
        }
    }
}

/// Asks a cache for the keys of a trace, from so many threads.
///
/// # Errors
/// If it has no answer.
pub fn replay(trace: &Trace, keys: &Keys, threads: usize, cache: &dyn ReadThrough) -> Result<()> {
    trace.replay(threads, &|number| {
        black_box(cache.get(keys.get(number))).is_ok_and(|found| found.is_some())
    })
}

/// So many bytes for each entry that the entries are what binds, with the values
/// that are measured here.
const AMPLE_BYTES_EACH: usize = 16 << 10;

fn config(bound: Bound) -> CacheConfig {
    let (max_entries, max_size_bytes) = match bound {
        Bound::Entries(entries) => (entries, entries * AMPLE_BYTES_EACH),
        Bound::Bytes(bytes) => (usize::MAX, bytes),
    };
    CacheConfig { max_entries, ttl: None, max_size_bytes }
}

impl ReadThrough for CachedStorage<&Maker> {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        ComponentStorage::get(self, key)
    }

    fn entries(&self) -> u64 {
        self.stats().entries
    }

    fn stated_bytes(&self) -> Option<u64> {
        Some(self.stats().bytes)
    }
}

/// The bytes of an entry, as whoever knows its key and value alone counts them.
fn bytes(key: &str, value: &StorageValue) -> usize {
    key.len() + value.len()
}

/// moka, asked and then filled.
struct Moka<'a> {
    cache: moka::sync::Cache<String, StorageValue>,
    maker: &'a Maker,
}

fn moka(bound: Bound) -> moka::sync::Cache<String, StorageValue> {
    let builder = moka::sync::Cache::builder();
    match bound {
        Bound::Entries(entries) => builder.max_capacity(entries as u64).build(),
        Bound::Bytes(most) => builder
            .max_capacity(most as u64)
            .weigher(|key: &String, value| u32::try_from(bytes(key, value)).unwrap_or(u32::MAX))
            .build(),
    }
}

impl ReadThrough for Moka<'_> {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        if let Some(value) = self.cache.get(key) {
            return Ok(Some(value));
        }
        let value = self.maker.make(key);
        self.cache.insert(key.to_owned(), value.clone());
        Ok(Some(value))
    }

    fn entries(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }
}

/// The least recently used gives way; one lock for all.
struct Lru<'a> {
    state: Mutex<LruState>,
    maker: &'a Maker,
}

struct LruState {
    cache: LruCache<String, StorageValue>,
    bytes: usize,
    max_bytes: usize,
}

impl LruState {
    fn new(bound: Bound) -> Self {
        let (cache, max_bytes) = match bound {
            Bound::Entries(entries) => {
                (LruCache::new(NonZeroUsize::new(entries).unwrap_or(NonZeroUsize::MIN)), usize::MAX)
            }
            Bound::Bytes(bytes) => (LruCache::unbounded(), bytes),
        };
        Self { cache, bytes: 0, max_bytes }
    }

    fn insert(&mut self, key: String, value: StorageValue) {
        self.bytes += bytes(&key, &value);
        // What it returns is the key's old value, or what had to make room.
        if let Some((key, value)) = self.cache.push(key, value) {
            self.bytes -= bytes(&key, &value);
        }
        while self.bytes > self.max_bytes
            && let Some((key, value)) = self.cache.pop_lru()
        {
            self.bytes -= bytes(&key, &value);
        }
    }
}

impl ReadThrough for Lru<'_> {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        let lock = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = lock().cache.get(key) {
            return Ok(Some(value.clone()));
        }
        let value = self.maker.make(key);
        lock().insert(key.to_owned(), value.clone());
        Ok(Some(value))
    }

    fn entries(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).cache.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PREFIX;

    #[test]
    fn every_cache_answers_with_the_values_of_the_keys_and_stays_within_its_bound() {
        const VALUE_BYTES: usize = 100;
        let keys = Keys::new(PREFIX, 2_000);
        let budget = 256 << 10;
        for kind in Kind::ALL {
            for bound in [Bound::Entries(300), Bound::Bytes(budget)] {
                let maker = Maker::new(VALUE_BYTES);
                let cache = kind.build(bound, &maker);
                for key in keys.iter().chain(keys.iter()) {
                    let value = cache.get(key).unwrap().unwrap();
                    assert!(maker.is_value_of(key, value.as_bytes()), "{kind:?}, {key}");
                }
                let entries = cache.entries() as usize;
                assert!(entries > 100, "{kind:?}, {bound:?}: {entries}");
                match bound {
                    Bound::Entries(most) => assert!(entries <= most, "{kind:?}: {entries}"),
                    Bound::Bytes(most) => {
                        assert!(entries * (keys.len_each() + VALUE_BYTES) <= most, "{kind:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_held_is_not_made_again() {
        let keys = Keys::new(PREFIX, 100);
        for kind in Kind::ALL {
            let maker = Maker::new(10);
            let cache = kind.build(Bound::Entries(1_000), &maker);
            for key in keys.iter().chain(keys.iter()) {
                cache.get(key).unwrap();
            }
            assert_eq!(maker.made(), 100, "{kind:?}");
            assert_eq!(cache.entries(), 100, "{kind:?}");
            assert_eq!(cache.stated_bytes().is_some(), kind == Kind::Ours);
        }
    }

    #[test]
    fn an_lru_drops_what_was_not_asked_for_longest() {
        let maker = Maker::new(72);
        for bound in [Bound::Entries(2), Bound::Bytes(200)] {
            let cache = Kind::Lru.build(bound, &maker);
            let made = |number: usize| {
                let before = maker.made();
                cache.get(Keys::new(PREFIX, 5).get(number)).unwrap();
                maker.made() > before
            };
            assert!(made(1) && made(2) && !made(1) && made(3));
            assert!(!made(1) && made(2), "{bound:?}");
        }
    }
}
