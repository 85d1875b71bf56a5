//! The count of a partition that has no ledger yet, while others write.
//!
//! The keys are counted as of one moment, in a read transaction. What each
//! transaction has changed since is added up beside it, once it has been
//! committed. The first one that comes when the count is done writes the two
//! down as the ledger. So nobody waits for a count but those who need it.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use storage_core::Usage;

/// By how much the keys of a partition have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    added: Usage,
    removed: Usage,
}

impl Change {
    pub(super) fn and(&mut self, added: Usage, removed: Usage) {
        self.added = self.added + added;
        self.removed = self.removed + removed;
    }

    fn applied_to(self, usage: Usage) -> Usage {
        usage + self.added - self.removed
    }
}

/// The partitions that are being counted, or have been and have no ledger yet.
#[derive(Debug, Default)]
pub(super) struct Counts {
    of: Mutex<HashMap<String, Count>>,
    /// A count has ended.
    ended: Condvar,
}

#[derive(Debug)]
struct Count {
    /// The generation of the engine that it counts in: what another one has may
    /// lack changes that this one had.
    generation: u64,
    /// What there was at the beginning; `None` while it is being counted.
    counted: Option<Usage>,
    since: Change,
}

/// What there is in place of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A count is under way, which has to be told of changes.
    Counting,
    /// The count is done: what would be in the ledger.
    Counted(Usage),
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Count>> {
        // Nothing panics with the lock held.
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to count, unless somebody does or has: `false`, once that has
    /// ended. No transaction is under way.
    pub(super) fn begin(&self, partition: &str, generation: u64) -> bool {
        let mut counts = self.lock();
        if counts.get(partition).is_some_and(|count| count.generation == generation) {
            return false;
        }
        let count = Count { generation, counted: None, since: Change::default() };
        counts.insert(partition.to_owned(), count);
        true
    }

    /// Waits until nobody counts.
    pub(super) fn wait(&self, partition: &str) {
        let is_counting = |counts: &mut HashMap<String, Count>| {
            counts.get(partition).is_some_and(|count| count.counted.is_none())
        };
        let waited = self.ended.wait_while(self.lock(), is_counting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends a count that was begun; without a number it has failed.
    pub(super) fn end(&self, partition: &str, generation: u64, counted: Option<Usage>) {
        let mut counts = self.lock();
        // There may be another one by now, of another generation.
        if let Some(count) = counts.get_mut(partition)
            && count.generation == generation
        {
            match counted {
                Some(_) => count.counted = counted,
                None => drop(counts.remove(partition)),
            }
        }
        drop(counts);
        self.ended.notify_all();
    }

    /// What there is of a partition, for a transaction.
    pub(super) fn find(&self, partition: &str, generation: u64) -> Found {
        match self.lock().get(partition) {
            Some(count) if count.generation == generation => match count.counted {
                Some(counted) => Found::Counted(count.since.applied_to(counted)),
                None => Found::Counting,
            },
            _ => Found::Nothing,
        }
    }

    /// Takes in what a transaction has changed, which has been committed.
    pub(super) fn tell(&self, partition: &str, generation: u64, change: Change) {
        if let Some(count) = self.lock().get_mut(partition)
            && count.generation == generation
        {
            count.since.and(change.added, change.removed);
        }
    }

    /// Forgets a count that has become a ledger, which has been committed.
    pub(super) fn forget(&self, partition: &str) {
        let mut counts = self.lock();
        if !counts.is_empty() && counts.remove(partition).is_some() {
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

    fn change(added: Usage, removed: Usage) -> Change {
        let mut change = Change::default();
        change.and(added, removed);
        change
    }

    #[test]
    fn a_count_and_what_has_changed_since_make_a_ledger() {
        let counts = Counts::default();
        assert_eq!(counts.find(NAME, 1), Found::Nothing);
        assert!(counts.begin(NAME, 1));
        assert!(!counts.begin(NAME, 1));
        assert_eq!(counts.find(NAME, 1), Found::Counting);
        counts.tell(NAME, 1, change(usage(10, 1), usage(0, 0)));
        counts.tell(NAME, 1, change(usage(0, 0), usage(30, 2)));
        counts.end(NAME, 1, Some(usage(100, 5)));
        counts.tell(NAME, 1, change(usage(7, 1), usage(5, 1)));
        assert_eq!(counts.find(NAME, 1), Found::Counted(usage(82, 4)));
        counts.forget(NAME);
        assert_eq!(counts.find(NAME, 1), Found::Nothing);
    }

    #[test]
    fn what_an_engine_that_has_stopped_counted_is_worth_nothing() {
        let counts = Counts::default();
        assert!(counts.begin(NAME, 1));
        assert_eq!(counts.find(NAME, 2), Found::Nothing);
        counts.tell(NAME, 2, change(usage(10, 1), usage(0, 0)));
        assert!(counts.begin(NAME, 2));
        counts.end(NAME, 1, Some(usage(100, 5)));
        assert_eq!(counts.find(NAME, 2), Found::Counting);
        counts.end(NAME, 2, None);
        assert_eq!(counts.find(NAME, 2), Found::Nothing);
    }

    #[test]
    fn those_who_wait_go_on_when_a_count_has_ended_or_failed() {
        let counts = Counts::default();
        for counted in [Some(usage(1, 1)), None] {
            assert!(counts.begin(NAME, 1));
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| counts.wait(NAME));
                counts.end(NAME, 1, counted);
                waiting.join().unwrap();
            });
            counts.forget(NAME);
        }
    }
}
