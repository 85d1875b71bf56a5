//! Locks that order writes to the same key.

use std::hash::BuildHasher;
use std::sync::PoisonError;

use crate::sync::{DefaultHashBuilder, Mutex, MutexGuard};

pub(crate) const LOCKS: usize = 64;

/// A fixed number of locks. Each key has one, which it shares with other keys.
#[derive(Debug)]
pub(crate) struct KeyLocks {
    locks: [Mutex<()>; LOCKS],
    hasher: DefaultHashBuilder,
}

impl KeyLocks {
    pub(crate) fn new() -> Self {
        Self { locks: [const { Mutex::new(()) }; LOCKS], hasher: DefaultHashBuilder::default() }
    }

    pub(crate) fn lock(&self, key: &str) -> Option<MutexGuard<'_, ()>> {
        self.lock_index(self.index(key))
    }

    /// Takes each lock once and in ascending order, so that two callers never wait
    /// for each other.
    pub(crate) fn lock_all<'k>(
        &self,
        keys: impl Iterator<Item = &'k str>,
    ) -> Vec<MutexGuard<'_, ()>> {
        let mut indexes: Vec<usize> = keys.map(|key| self.index(key)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes.into_iter().filter_map(|index| self.lock_index(index)).collect()
    }

    pub(crate) fn index(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize % LOCKS
    }

    fn lock_index(&self, index: usize) -> Option<MutexGuard<'_, ()>> {
        // The lock guards no data, so poisoning is harmless.
        self.locks.get(index).map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_take_each_lock_once() {
        let locks = KeyLocks::new();
        let keys: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
        let guards = locks.lock_all(keys.iter().chain(keys.iter().rev()).map(String::as_str));
        assert_eq!(guards.len(), LOCKS);
        drop(guards);
        let _guard = locks.lock("key");
        let taken = locks.locks.iter().filter(|lock| lock.try_lock().is_err());
        assert_eq!(taken.count(), 1);
    }
}
