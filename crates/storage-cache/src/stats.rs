//! Statistics, counted at little cost to a hit.

use std::cell::Cell;

use crate::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use crate::sync::{shared_static, thread_local};

/// What a [`CachedStorage`](crate::CachedStorage) has done, and what it holds now.
///
/// Not a snapshot: concurrent calls may change one number while another is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Keys read from the cache, values and absence alike.
    pub hits: u64,
    /// Keys read from the storage below, or by waiting for another such read.
    /// [`try_get`](storage_core::ComponentStorage::try_get) counts hits only: the
    /// `get` that follows counts the miss.
    pub misses: u64,
    /// Entries added by reads.
    pub fills: u64,
    /// Entries removed to make room.
    pub evictions: u64,
    /// Values read or written that were too large to cache.
    pub refusals: u64,
    /// Entries removed because another host changed their keys.
    pub invalidations: u64,
    /// How often all entries of a component were dropped because a change of another host
    /// was lost, or named no keys.
    pub drops: u64,
    /// How often all entries of a component were dropped because they could have been older
    /// than the maximum staleness: the store did not answer in time, or the component was
    /// not in use.
    pub lapses: u64,
    /// Bytes of cached keys and values, plus 48 for each entry. Excludes the table,
    /// which `max_size_bytes` includes.
    pub bytes: u64,
    /// Cached keys, cached absence included. Expired and dropped entries count until they
    /// are replaced or evicted.
    pub entries: u64,
}

impl std::iter::Sum for CacheStats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            hits: sum.hits + one.hits,
            misses: sum.misses + one.misses,
            fills: sum.fills + one.fills,
            evictions: sum.evictions + one.evictions,
            refusals: sum.refusals + one.refusals,
            invalidations: sum.invalidations + one.invalidations,
            drops: sum.drops + one.drops,
            lapses: sum.lapses + one.lapses,
            bytes: sum.bytes + one.bytes,
            entries: sum.entries + one.entries,
        })
    }
}

impl CacheStats {
    /// Caps the bytes and entries by the current sum of weights, which the counters may
    /// exceed while a change is in progress.
    pub(crate) fn capped(self, weight: u64, min_weight: u64) -> Self {
        let bytes = self.bytes.min(weight);
        let entries = self.entries.min(weight / min_weight.max(1));
        Self { bytes, entries, ..self }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    hits: Hits,
    misses: AtomicU64,
    pub(crate) fills: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) invalidations: AtomicU64,
    pub(crate) drops: AtomicU64,
    pub(crate) lapses: AtomicU64,
    /// These two may be negative while a change is in progress.
    bytes: AtomicI64,
    entries: AtomicI64,
}

impl Counters {
    #[inline]
    pub(crate) fn hit(&self) {
        self.hits.add_one();
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.total()
    }

    pub(crate) fn missed(&self, keys: u64) {
        self.misses.fetch_add(keys, Ordering::Relaxed);
    }

    pub(crate) fn added(&self, bytes: u64) {
        self.bytes.fetch_add(bytes as i64, Ordering::Relaxed);
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn removed(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes as i64, Ordering::Relaxed);
        self.entries.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> CacheStats {
        let now = |number: &AtomicI64| u64::try_from(number.load(Ordering::Relaxed)).unwrap_or(0);
        CacheStats {
            hits: self.hits.total(),
            misses: self.misses.load(Ordering::Relaxed),
            fills: self.fills.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            refusals: self.refusals.load(Ordering::Relaxed),
            invalidations: self.invalidations.load(Ordering::Relaxed),
            drops: self.drops.load(Ordering::Relaxed),
            lapses: self.lapses.load(Ordering::Relaxed),
            bytes: now(&self.bytes),
            entries: now(&self.entries),
        }
    }
}

/// The number of threads with a slot of their own. An atomic addition to a shared slot
/// would take a quarter of the time of a hit.
const OWN_SLOTS: usize = 16;

/// The slots of all other threads.
const SHARED_SLOTS: usize = 4;

#[derive(Debug, Default)]
struct Hits {
    own: [Slot; OWN_SLOTS],
    shared: [Slot; SHARED_SLOTS],
}

/// Aligned so that threads do not share a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot(AtomicU64);

impl Hits {
    #[inline]
    fn add_one(&self) {
        let thread = thread_number();
        if let Some(Slot(count)) = self.own.get(thread) {
            // No other live thread has this number.
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        } else if let Some(Slot(count)) = self.shared.get(thread % SHARED_SLOTS) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn total(&self) -> u64 {
        let slots = self.own.iter().chain(&self.shared);
        slots.map(|Slot(count)| count.load(Ordering::Relaxed)).sum()
    }
}

shared_static! {
    /// One bit for each number below [`OWN_SLOTS`] that no live thread has. Releasing
    /// and acquiring a bit orders what its threads have counted.
    static FREE_NUMBERS: AtomicU32 = AtomicU32::new((1 << OWN_SLOTS) - 1);
}

/// The number of a thread without a slot of its own.
const NO_NUMBER: usize = OWN_SLOTS;

const UNASSIGNED: usize = usize::MAX;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(UNASSIGNED) };
    static OWN_NUMBER: OwnNumber = OwnNumber::take();
}

/// A number below [`OWN_SLOTS`] that this thread has until it ends.
struct OwnNumber(Option<usize>);

impl OwnNumber {
    fn take() -> Self {
        let without_lowest = |free: u32| (free != 0).then_some(free & free.wrapping_sub(1));
        let taken = FREE_NUMBERS.fetch_update(Ordering::AcqRel, Ordering::Relaxed, without_lowest);
        Self(taken.ok().map(|free| free.trailing_zeros() as usize))
    }
}

impl Drop for OwnNumber {
    fn drop(&mut self) {
        // A thread that is ending may still count, in a shared slot.
        let _ = NUMBER.try_with(|number| number.set(NO_NUMBER));
        if let Some(number) = self.0 {
            FREE_NUMBERS.fetch_or(1 << number, Ordering::AcqRel);
        }
    }
}

#[inline]
fn thread_number() -> usize {
    match NUMBER.try_with(Cell::get) {
        Ok(UNASSIGNED) => assign_number(),
        Ok(number) => number,
        Err(_) => NO_NUMBER,
    }
}

#[cold]
fn assign_number() -> usize {
    let number = OWN_NUMBER.try_with(|own| own.0).ok().flatten().unwrap_or(NO_NUMBER);
    let _ = NUMBER.try_with(|cell| cell.set(number));
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// More live threads than slots, twice.
    #[test]
    fn the_hits_of_all_threads_add_up() {
        const THREADS: usize = 3 * OWN_SLOTS;
        let counters = Counters::default();
        for round in 1..=2 {
            let barrier = Barrier::new(THREADS);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        barrier.wait();
                        (0..10_000).for_each(|_| counters.hit());
                        barrier.wait();
                    });
                }
            });
            assert_eq!(counters.read().hits, round * THREADS as u64 * 10_000);
        }
    }
}
