//! Locks on keys, and the keys whose state is not known.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use storage_core::StorageError;

/// How many locks on keys there are. Enough that two keys in use at once seldom
/// meet; 16 KiB a store.
pub(crate) const KEY_STRIPES: usize = 1024;

/// Locks by the hash of a name. On keys a writer holds a key's lock until its
/// change is durable, and so a reader never sees a value that a power cut could
/// take back.
#[derive(Debug)]
pub(crate) struct Stripes {
    locks: Box<[RwLock<()>]>,
    hasher: RandomState,
}

impl Stripes {
    pub(crate) fn new(count: usize) -> Self {
        Self { locks: (0..count).map(|_| RwLock::new(())).collect(), hasher: RandomState::new() }
    }

    fn number(&self, name: &str) -> usize {
        // The remainder is less than their number.
        (self.hasher.hash_one(name) % self.locks.len().max(1) as u64) as usize
    }

    fn of(&self, name: &str) -> Option<&RwLock<()>> {
        self.locks.get(self.number(name))
    }

    /// Those of several names, each once and in an order that everybody keeps.
    fn of_all<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> impl Iterator<Item = &RwLock<()>> {
        let mut last = None;
        // The partitions of a write are most often one.
        let other = names.filter(|name| last.replace(*name) != Some(*name));
        let mut numbers: Vec<usize> = other.map(|name| self.number(name)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().filter_map(|number| self.locks.get(number))
    }

    /// Shares the lock of one name.
    pub(crate) fn read(&self, name: &str) -> Option<RwLockReadGuard<'_, ()>> {
        Some(self.of(name)?.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shares the locks of several names.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn read_all<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<RwLockReadGuard<'_, ()>> {
        let locks = self.of_all(names);
        locks.map(|lock| lock.read().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    /// Takes the lock of one name alone.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn write(&self, name: &str) -> Option<RwLockWriteGuard<'_, ()>> {
        Some(self.of(name)?.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the locks of several names alone.
    pub(crate) fn write_all<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<RwLockWriteGuard<'_, ()>> {
        let locks = self.of_all(names);
        locks.map(|lock| lock.write().unwrap_or_else(PoisonError::into_inner)).collect()
    }
}

/// Why it is not known what a key's value will be after a power cut.
pub(crate) trait Doubt: Clone {
    /// What happened, and what ends it.
    fn detail(&self) -> &'static str;
}

fn unavailable(key: &str, why: &impl Doubt) -> StorageError {
    StorageError::Unavailable { key: Some(key.to_owned()), detail: why.detail().to_owned() }
}

/// The keys that cannot be answered for, after an I/O error.
#[derive(Debug)]
pub(crate) struct UnsettledKeys<D> {
    keys: Mutex<HashMap<String, D>>,
    // Spares every other call the lock.
    count: AtomicUsize,
}

impl<D> Default for UnsettledKeys<D> {
    fn default() -> Self {
        Self { keys: Mutex::default(), count: AtomicUsize::new(0) }
    }
}

impl<D: Doubt> UnsettledKeys<D> {
    pub(crate) fn get(&self, key: &str) -> Option<D> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// # Errors
    /// [`StorageError::Unavailable`] if the key is unsettled.
    pub(crate) fn check(&self, key: &str) -> Result<(), StorageError> {
        self.get(key).map_or(Ok(()), |why| Err(unavailable(key, &why)))
    }

    /// # Errors
    /// [`StorageError::Unavailable`] if any unsettled key is `wanted`: the first.
    pub(crate) fn check_all(&self, wanted: impl Fn(&str) -> bool) -> Result<(), StorageError> {
        let unsettled = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let first = unsettled.iter().filter(|(key, _)| wanted(key)).min_by_key(|(key, _)| *key);
        first.map_or(Ok(()), |(key, why)| Err(unavailable(key, why)))
    }

    pub(crate) fn insert<'a>(&self, keys: impl Iterator<Item = &'a str>, why: &D) {
        let mut unsettled = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            unsettled.insert(key.to_owned(), why.clone());
        }
        self.count.store(unsettled.len(), Ordering::Release);
    }

    pub(crate) fn remove<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut unsettled = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            unsettled.remove(key);
        }
        self.count.store(unsettled.len(), Ordering::Release);
    }
}
