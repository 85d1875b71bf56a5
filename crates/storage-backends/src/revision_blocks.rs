//! Hands out revisions from a counter that is reserved in blocks.
//!
//! A block is durable before its first revision is used, so no revision is used
//! twice, even after a power cut, and most writes do no extra I/O. Revisions left
//! in a block when the store closes are skipped.

use std::sync::{Mutex, MutexGuard, PoisonError};

use storage_core::{Revision, StorageError};

use crate::first_revision::first_revision;
use crate::identity;

/// How many revisions are reserved at once: one extra fsync in 65,536 writes.
pub(crate) const BLOCK: u64 = 1 << 16;

#[derive(Debug)]
pub(crate) struct RevisionBlocks {
    #[cfg(feature = "file")]
    first: Revision,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: u64,
    /// The first revision that is not reserved.
    reserved_up_to: u64,
}

impl RevisionBlocks {
    /// Continues at the end of the last reservation, or at the current time if that
    /// is later ([`first_revision`]).
    pub(crate) fn new(reserved_up_to: u64) -> Self {
        let next = first_revision(reserved_up_to);
        Self {
            #[cfg(feature = "file")]
            first: Revision::new(next),
            state: Mutex::new(State { next, reserved_up_to }),
        }
    }

    /// The first revision of this opening. Earlier openings used smaller ones only.
    #[cfg(feature = "file")]
    pub(crate) fn first(&self) -> Revision {
        self.first
    }

    /// Makes sure that the next `count` revisions are reserved.
    ///
    /// `persist` durably records that all revisions below its argument are reserved.
    /// If it fails, nothing is reserved.
    #[cfg(feature = "redb")]
    pub(crate) fn reserve(
        &self,
        count: u64,
        persist: impl FnOnce(u64) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        self.state().reserve(count, persist)
    }

    /// Returns the next revision. Calls `persist` as [`reserve`](Self::reserve) does,
    /// if the block is used up.
    pub(crate) fn next(
        &self,
        persist: impl FnOnce(u64) -> Result<(), StorageError>,
    ) -> Result<Revision, StorageError> {
        let mut state = self.state();
        state.reserve(1, persist)?;
        let revision = Revision::new(state.next);
        state.next = state.next.checked_add(1).ok_or_else(identity::no_revision_left)?;
        Ok(revision)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a single store, so a panic leaves it valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reserve(
        &mut self,
        count: u64,
        persist: impl FnOnce(u64) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if self.next.saturating_add(count) > self.reserved_up_to {
            let up_to = self.next.saturating_add(count.max(BLOCK));
            persist(up_to)?;
            self.reserved_up_to = up_to;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::thread;

    use super::*;

    #[test]
    fn the_largest_revision_is_the_last() {
        let blocks = RevisionBlocks::new(u64::MAX - 1);
        assert_eq!(blocks.next(|_| Ok(())), Ok(Revision::new(u64::MAX - 1)));
        for _ in 0..2 {
            let next = blocks.next(|_| Ok(()));
            assert!(matches!(next, Err(StorageError::Corrupt { .. })), "{next:?}");
        }
    }

    #[test]
    fn a_revision_is_used_only_after_its_block_is_durable() {
        let blocks = RevisionBlocks::new(100);
        let reserved = Cell::new(100);
        for expected in 100..100 + 2 * BLOCK + 2 {
            let number = blocks.next(|up_to| {
                reserved.set(up_to);
                Ok(())
            });
            assert_eq!(number.map(Revision::get), Ok(expected));
            assert!(expected < reserved.get());
        }
        assert_eq!(reserved.get(), 100 + 3 * BLOCK);
    }

    #[test]
    fn a_failed_reservation_is_retried() {
        let blocks = RevisionBlocks::new(7);
        let error = StorageError::IoError("full".into());
        assert_eq!(blocks.next(|_| Err(error.clone())), Err(error));
        let persist = |up_to| {
            assert_eq!(up_to, 7 + BLOCK);
            Ok(())
        };
        assert_eq!(blocks.next(persist), Ok(Revision::new(7)));
    }

    #[test]
    fn threads_never_share_a_revision() {
        let blocks = RevisionBlocks::new(1);
        let take = || (0..BLOCK / 2).map(|_| blocks.next(|_| Ok(())).unwrap().get());
        let mut numbers: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| take().collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(1..=2 * BLOCK));
    }
}
