//! Locks on keys, and the keys whose state is not known.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
#[cfg(feature = "file")]
use std::sync::RwLockReadGuard;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockWriteGuard};

use storage_core::StorageError;

/// Enough that two keys in use at once seldom meet; 16 KiB a store.
const STRIPES: usize = 1024;

/// Locks by the hash of the key. A writer holds a key's lock until its change is
/// durable, and so a reader never sees a value that a power cut could take back.
#[derive(Debug)]
pub(crate) struct KeyLocks {
    stripes: Box<[RwLock<()>]>,
    hasher: RandomState,
}

impl KeyLocks {
    pub(crate) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            hasher: RandomState::new(),
        }
    }

    fn stripe(&self, key: &str) -> usize {
        // The remainder is less than STRIPES.
        (self.hasher.hash_one(key) % STRIPES as u64) as usize
    }

    #[cfg(feature = "file")]
    pub(crate) fn read(&self, key: &str) -> Option<RwLockReadGuard<'_, ()>> {
        let stripe = self.stripes.get(self.stripe(key))?;
        Some(stripe.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks one key.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn write_one(&self, key: &str) -> Option<RwLockWriteGuard<'_, ()>> {
        let stripe = self.stripes.get(self.stripe(key))?;
        Some(stripe.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks several keys, in an order that everybody keeps.
    pub(crate) fn write<'a>(
        &self,
        keys: impl Iterator<Item = &'a str>,
    ) -> Vec<RwLockWriteGuard<'_, ()>> {
        let mut numbers: Vec<usize> = keys.map(|key| self.stripe(key)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
            .iter()
            .filter_map(|number| self.stripes.get(*number))
            .map(|stripe| stripe.write().unwrap_or_else(PoisonError::into_inner))
            .collect()
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
