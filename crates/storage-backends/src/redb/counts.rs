//! Counts the keys of components that have no usage counter yet, while others write.
//!
//! A count reads one snapshot. The changes of later transactions are added up after
//! each commit. The first transaction after the count ends stores the sum of both as
//! the usage counter. So only writes that need the counter wait for it.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use storage_core::{Usage, UsageChange};

/// The components that are being counted, or were counted and have no counter yet.
#[derive(Debug, Default)]
pub(super) struct Counts {
    by_component: Mutex<HashMap<String, Count>>,
    ended: Condvar,
}

#[derive(Debug)]
struct Count {
    /// The engine's generation at the start. Another generation may lack changes
    /// that this one had.
    generation: u64,
    /// The usage in the snapshot; `None` while counting.
    counted: Option<Usage>,
    since: UsageChange,
}

/// What exists instead of a usage counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CountState {
    None,
    /// Transactions must report their changes.
    Counting,
    /// The current usage.
    Counted(Usage),
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Count>> {
        // No code panics while it holds the lock.
        self.by_component.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a count while no transaction is open. Returns `false` if there is one.
    pub(super) fn begin(&self, component: &str, generation: u64) -> bool {
        let mut counts = self.lock();
        if counts.get(component).is_some_and(|count| count.generation == generation) {
            return false;
        }
        let count = Count { generation, counted: None, since: UsageChange::default() };
        counts.insert(component.to_owned(), count);
        true
    }

    /// Waits until no count of the component is running.
    pub(super) fn wait(&self, component: &str) {
        let is_counting = |counts: &mut HashMap<String, Count>| {
            counts.get(component).is_some_and(|count| count.counted.is_none())
        };
        let waited = self.ended.wait_while(self.lock(), is_counting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends a count; `counted` is `None` if it failed.
    pub(super) fn end(&self, component: &str, generation: u64, counted: Option<Usage>) {
        let mut counts = self.lock();
        // A newer generation may have started another count.
        if let Some(count) = counts.get_mut(component)
            && count.generation == generation
        {
            match counted {
                Some(_) => count.counted = counted,
                None => drop(counts.remove(component)),
            }
        }
        drop(counts);
        self.ended.notify_all();
    }

    pub(super) fn get(&self, component: &str, generation: u64) -> CountState {
        match self.lock().get(component) {
            Some(count) if count.generation == generation => match count.counted {
                Some(counted) => {
                    CountState::Counted(counted + count.since.added - count.since.removed)
                }
                None => CountState::Counting,
            },
            _ => CountState::None,
        }
    }

    /// Records the change of a committed transaction.
    pub(super) fn record(&self, component: &str, generation: u64, change: UsageChange) {
        if let Some(count) = self.lock().get_mut(component)
            && count.generation == generation
        {
            count.since = count.since + change;
        }
    }

    /// Removes a count that a committed transaction stored as a usage counter.
    pub(super) fn remove(&self, component: &str) {
        let mut counts = self.lock();
        if !counts.is_empty() && counts.remove(component).is_some() {
            drop(counts);
            self.ended.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "app/notes/home/";

    fn usage(bytes: u64, keys: u64) -> Usage {
        Usage { bytes, keys }
    }

    fn change(added: Usage, removed: Usage) -> UsageChange {
        UsageChange { added, removed }
    }

    #[test]
    fn a_counter_is_the_count_and_the_changes_since() {
        let counts = Counts::default();
        assert_eq!(counts.get(NAME, 1), CountState::None);
        assert!(counts.begin(NAME, 1));
        assert!(!counts.begin(NAME, 1));
        assert_eq!(counts.get(NAME, 1), CountState::Counting);
        counts.record(NAME, 1, change(usage(10, 1), usage(0, 0)));
        counts.record(NAME, 1, change(usage(0, 0), usage(30, 2)));
        counts.end(NAME, 1, Some(usage(100, 5)));
        counts.record(NAME, 1, change(usage(7, 1), usage(5, 1)));
        assert_eq!(counts.get(NAME, 1), CountState::Counted(usage(82, 4)));
        counts.remove(NAME);
        assert_eq!(counts.get(NAME, 1), CountState::None);
    }

    #[test]
    fn a_count_of_an_older_generation_is_ignored() {
        let counts = Counts::default();
        assert!(counts.begin(NAME, 1));
        assert_eq!(counts.get(NAME, 2), CountState::None);
        counts.record(NAME, 2, change(usage(10, 1), usage(0, 0)));
        assert!(counts.begin(NAME, 2));
        counts.end(NAME, 1, Some(usage(100, 5)));
        assert_eq!(counts.get(NAME, 2), CountState::Counting);
        counts.end(NAME, 2, None);
        assert_eq!(counts.get(NAME, 2), CountState::None);
    }

    #[test]
    fn waiters_continue_when_a_count_ends_or_fails() {
        let counts = Counts::default();
        for counted in [Some(usage(1, 1)), None] {
            assert!(counts.begin(NAME, 1));
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| counts.wait(NAME));
                counts.end(NAME, 1, counted);
                waiting.join().unwrap();
            });
            counts.remove(NAME);
        }
    }
}
