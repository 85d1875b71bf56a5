//! Locks on keys, and the keys whose state is not known.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use storage_core::StorageError;

use super::journal::Journal;

/// Enough that two keys in use at once seldom meet; 16 KiB a store.
const STRIPES: usize = 1024;

/// Locks by the hash of the key. A writer holds a key's lock until its change is
/// durable, and so a reader never sees a value that a power cut could take back.
#[derive(Debug)]
pub(super) struct KeyLocks {
    stripes: Box<[RwLock<()>]>,
    hasher: RandomState,
}

impl KeyLocks {
    pub(super) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            hasher: RandomState::new(),
        }
    }

    fn stripe(&self, key: &str) -> usize {
        // The remainder is less than STRIPES.
        (self.hasher.hash_one(key) % STRIPES as u64) as usize
    }

    pub(super) fn read(&self, key: &str) -> Option<RwLockReadGuard<'_, ()>> {
        let stripe = self.stripes.get(self.stripe(key))?;
        Some(stripe.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks several keys, in an order that everybody keeps.
    pub(super) fn write<'a>(
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
#[derive(Debug, Clone)]
pub(super) enum Unsettled {
    /// The last write to the key alone may or may not be durable. The next
    /// write to the key settles it.
    Write,
    /// The commit has happened, but not all of it has been applied. It has to
    /// be finished before anything else is done with its keys.
    Commit(Arc<Journal>),
}

impl Unsettled {
    fn unavailable(&self, key: &str) -> StorageError {
        let detail = match self {
            Self::Write => {
                "a write to it failed half-way; write or delete it again, or open the store anew"
            }
            Self::Commit(_) => {
                "a commit that wrote it failed half-way; write again, or open the store anew, to have it finished"
            }
        };
        StorageError::Unavailable { key: Some(key.to_owned()), detail: detail.to_owned() }
    }
}

/// The keys that cannot be answered for, after an I/O error.
#[derive(Debug, Default)]
pub(super) struct UnsettledKeys {
    keys: Mutex<HashMap<String, Unsettled>>,
    // Spares every other call the lock.
    count: AtomicUsize,
}

impl UnsettledKeys {
    pub(super) fn get(&self, key: &str) -> Option<Unsettled> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// # Errors
    /// [`StorageError::Unavailable`] if the key is unsettled.
    pub(super) fn check(&self, key: &str) -> Result<(), StorageError> {
        self.get(key).map_or(Ok(()), |why| Err(why.unavailable(key)))
    }

    /// # Errors
    /// [`StorageError::Unavailable`] if any unsettled key is `wanted`: the first.
    pub(super) fn check_all(&self, wanted: impl Fn(&str) -> bool) -> Result<(), StorageError> {
        let unsettled = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let first = unsettled.iter().filter(|(key, _)| wanted(key)).min_by_key(|(key, _)| *key);
        first.map_or(Ok(()), |(key, why)| Err(why.unavailable(key)))
    }

    pub(super) fn insert<'a>(&self, keys: impl Iterator<Item = &'a str>, why: &Unsettled) {
        let mut unsettled = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            unsettled.insert(key.to_owned(), why.clone());
        }
        self.count.store(unsettled.len(), Ordering::Release);
    }

    pub(super) fn remove<'a>(&self, keys: impl Iterator<Item = &'a str>) {
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
