//! Locks on keys, and the keys whose last write has an unknown outcome.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use storage_core::StorageError;

/// The number of key locks: 16 KiB for each store. Two keys in use at the same time
/// rarely share a lock.
pub(crate) const KEY_LOCKS: usize = 1024;

/// A fixed number of locks, chosen by the hash of a name. A writer holds the lock of
/// its key until the change is durable, so a reader never sees a value that a power
/// cut could undo.
#[derive(Debug)]
pub(crate) struct KeyLocks {
    locks: Box<[RwLock<()>]>,
    hasher: RandomState,
}

impl KeyLocks {
    pub(crate) fn new(count: usize) -> Self {
        Self { locks: (0..count).map(|_| RwLock::new(())).collect(), hasher: RandomState::new() }
    }

    fn slot(&self, name: &str) -> usize {
        (self.hasher.hash_one(name) % self.locks.len().max(1) as u64) as usize
    }

    fn of(&self, name: &str) -> Option<&RwLock<()>> {
        self.locks.get(self.slot(name))
    }

    /// The locks of several names, each once and in the order of their slots, so that
    /// two callers cannot deadlock.
    fn of_all<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> impl Iterator<Item = &RwLock<()>> {
        let mut last = None;
        // Most commits have a single component.
        let distinct = names.filter(|name| last.replace(*name) != Some(*name));
        let mut slots: Vec<usize> = distinct.map(|name| self.slot(name)).collect();
        slots.sort_unstable();
        slots.dedup();
        slots.into_iter().filter_map(|slot| self.locks.get(slot))
    }

    /// Takes the shared lock of a name.
    pub(crate) fn read(&self, name: &str) -> Option<RwLockReadGuard<'_, ()>> {
        Some(self.of(name)?.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the shared locks of several names.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn read_all<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<RwLockReadGuard<'_, ()>> {
        let locks = self.of_all(names);
        locks.map(|lock| lock.read().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    /// Takes the exclusive lock of a name.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn write(&self, name: &str) -> Option<RwLockWriteGuard<'_, ()>> {
        Some(self.of(name)?.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the exclusive locks of several names.
    pub(crate) fn write_all<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<RwLockWriteGuard<'_, ()>> {
        let locks = self.of_all(names);
        locks.map(|lock| lock.write().unwrap_or_else(PoisonError::into_inner)).collect()
    }
}

/// Why the outcome of a write is unknown.
pub(crate) trait IndeterminateCause: Clone {
    /// What happened, and how to resolve it.
    fn detail(&self) -> &'static str;
}

fn unavailable(key: &str, cause: &impl IndeterminateCause) -> StorageError {
    StorageError::Unavailable { key: Some(key.to_owned()), detail: cause.detail().to_owned() }
}

/// The keys whose last write failed with an unknown outcome.
#[derive(Debug)]
pub(crate) struct IndeterminateKeys<C> {
    keys: Mutex<HashMap<String, C>>,
    /// The number of `keys`: other calls need no lock while it is zero.
    count: AtomicUsize,
}

impl<C> Default for IndeterminateKeys<C> {
    fn default() -> Self {
        Self { keys: Mutex::default(), count: AtomicUsize::new(0) }
    }
}

impl<C: IndeterminateCause> IndeterminateKeys<C> {
    pub(crate) fn get(&self, key: &str) -> Option<C> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// # Errors
    /// [`StorageError::Unavailable`] if the key is indeterminate.
    pub(crate) fn check(&self, key: &str) -> Result<(), StorageError> {
        self.get(key).map_or(Ok(()), |cause| Err(unavailable(key, &cause)))
    }

    /// # Errors
    /// [`StorageError::Unavailable`] with the first indeterminate key that is
    /// `wanted`.
    pub(crate) fn check_all(&self, wanted: impl Fn(&str) -> bool) -> Result<(), StorageError> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let first = keys.iter().filter(|(key, _)| wanted(key)).min_by_key(|(key, _)| *key);
        first.map_or(Ok(()), |(key, cause)| Err(unavailable(key, cause)))
    }

    pub(crate) fn insert<'a>(&self, new: impl Iterator<Item = &'a str>, cause: &C) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.extend(new.map(|key| (key.to_owned(), cause.clone())));
        self.count.store(keys.len(), Ordering::Release);
    }

    pub(crate) fn remove<'a>(&self, resolved: impl Iterator<Item = &'a str>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.for_each(|key| drop(keys.remove(key)));
        self.count.store(keys.len(), Ordering::Release);
    }
}
