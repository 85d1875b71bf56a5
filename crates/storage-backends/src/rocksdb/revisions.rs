//! Where revisions come from: a counter that is reserved in blocks.
//!
//! A block is made durable before its first number is used, so no number is
//! given twice, not after a power cut either, and most writes cost nothing
//! extra. What is left of a block when the store closes is skipped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use storage_core::{Revision, StorageError};

use crate::first_revision::first_revision;
use crate::identity;

/// How many numbers are reserved at once: one extra synced write in 65,536.
const BLOCK: u64 = 1 << 16;

/// The first number of a new store.
pub(super) const FIRST: u64 = 1;

#[derive(Debug)]
pub(super) struct Revisions {
    next: AtomicU64,
    /// The first number that is not reserved.
    reserved: AtomicU64,
    reserving: Mutex<()>,
}

impl Revisions {
    /// Goes on where the last reservation ended, or at the current time
    /// ([`first_revision`]).
    pub(super) fn new(reserved: u64) -> Self {
        Self {
            next: AtomicU64::new(first_revision(reserved)),
            reserved: AtomicU64::new(reserved),
            reserving: Mutex::default(),
        }
    }

    /// The next revision. `reserve` makes durable that all numbers before its
    /// argument are taken; if it fails, numbers are skipped.
    pub(super) fn next(
        &self,
        reserve: impl FnOnce(u64) -> Result<(), StorageError>,
    ) -> Result<Revision, StorageError> {
        let number = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| number.checked_add(1))
            .map_err(|_| identity::no_revision_left())?;
        if number >= self.reserved.load(Ordering::Acquire) {
            let _reserving = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
            if number >= self.reserved.load(Ordering::Acquire) {
                let up_to = number.saturating_add(BLOCK);
                reserve(up_to)?;
                self.reserved.store(up_to, Ordering::Release);
            }
        }
        Ok(Revision::new(number))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::thread;

    use super::*;

    #[test]
    fn no_number_follows_the_largest() {
        let revisions = Revisions::new(u64::MAX - 1);
        assert_eq!(revisions.next(|_| Ok(())), Ok(Revision::new(u64::MAX - 1)));
        for _ in 0..2 {
            let next = revisions.next(|_| Ok(()));
            assert!(matches!(next, Err(StorageError::Corrupt { .. })), "{next:?}");
        }
    }

    #[test]
    fn no_number_is_given_before_its_block_is_reserved() {
        let revisions = Revisions::new(100);
        let reserved = Cell::new(100);
        for expected in 100..100 + 2 * BLOCK + 2 {
            let number = revisions.next(|up_to| {
                reserved.set(up_to);
                Ok(())
            });
            assert_eq!(number.map(Revision::get), Ok(expected));
            assert!(expected < reserved.get());
        }
        assert_eq!(reserved.get(), 100 + 3 * BLOCK);
    }

    #[test]
    fn a_reservation_that_fails_is_tried_again() {
        let revisions = Revisions::new(7);
        let error = StorageError::IoError("full".into());
        assert_eq!(revisions.next(|_| Err(error.clone())), Err(error));
        assert_eq!(
            revisions.next(|up_to| {
                assert_eq!(up_to, 8 + BLOCK);
                Ok(())
            }),
            Ok(Revision::new(8))
        );
    }

    #[test]
    fn threads_never_share_a_number() {
        let revisions = Revisions::new(1);
        let mut numbers: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..BLOCK / 2)
                            .map(|_| revisions.next(|_| Ok(())).unwrap().get())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(1..=2 * BLOCK));
    }
}
