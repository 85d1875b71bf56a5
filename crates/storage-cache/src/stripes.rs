//! Locks that order the writes to a key, without a lock for each key.

use std::hash::BuildHasher;
use std::sync::PoisonError;

use crate::sync::{DefaultHashBuilder, Mutex, MutexGuard};

/// As many writes as can be on their way at once.
const STRIPES: usize = 64;

/// A fixed number of locks; each key belongs to one.
#[derive(Debug)]
pub(crate) struct Stripes {
    locks: [Mutex<()>; STRIPES],
    hasher: DefaultHashBuilder,
}

impl Stripes {
    pub(crate) fn new() -> Self {
        Self { locks: [const { Mutex::new(()) }; STRIPES], hasher: DefaultHashBuilder::default() }
    }

    /// Waits for the stripe of a key.
    pub(crate) fn lock(&self, key: &str) -> Option<MutexGuard<'_, ()>> {
        self.lock_stripe(self.stripe(key))
    }

    /// Waits for the stripes of several keys: each once and in ascending order,
    /// so that two callers never wait for each other.
    pub(crate) fn lock_all<'k>(
        &self,
        keys: impl Iterator<Item = &'k str>,
    ) -> Vec<MutexGuard<'_, ()>> {
        let mut stripes: Vec<usize> = keys.map(|key| self.stripe(key)).collect();
        stripes.sort_unstable();
        stripes.dedup();
        stripes.into_iter().filter_map(|stripe| self.lock_stripe(stripe)).collect()
    }

    fn stripe(&self, key: &str) -> usize {
        self.hasher.hash_one(key) as usize % STRIPES
    }

    fn lock_stripe(&self, stripe: usize) -> Option<MutexGuard<'_, ()>> {
        // A lock guards no data, so a panic under it leaves nothing half done.
        self.locks.get(stripe).map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_each_stripe_once_whatever_its_keys() {
        let stripes = Stripes::new();
        let keys: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
        let both_ways = keys.iter().chain(keys.iter().rev());
        let held = stripes.lock_all(both_ways.map(String::as_str));
        assert_eq!(held.len(), STRIPES);
        assert!(stripes.locks.iter().all(|lock| lock.try_lock().is_err()));
        drop(held);
        assert!(stripes.locks.iter().all(|lock| lock.try_lock().is_ok()));
    }

    #[test]
    fn a_key_keeps_its_stripe() {
        let stripes = Stripes::new();
        let _held = stripes.lock("key");
        assert!(stripes.locks[stripes.stripe("key")].try_lock().is_err());
        assert_eq!(stripes.locks.iter().filter(|lock| lock.try_lock().is_err()).count(), 1);
    }

    #[test]
    fn a_panic_under_a_stripe_leaves_it_usable() {
        let stripes = Stripes::new();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = stripes.lock("key");
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert!(stripes.lock("key").is_some());
    }
}
