//! What a cache has done, counted so that a hit hardly notices.

use std::cell::Cell;

use crate::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use crate::sync::{shared_static, thread_local};

/// What a [`CachedStorage`](crate::CachedStorage) has done since it was made,
/// and what it holds now.
///
/// The numbers are read one after another while others work, so they belong
/// together only when nobody does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Keys that were answered from the cache, values and absence alike.
    pub hits: u64,
    /// Keys for which the storage below was asked or waited for.
    /// [`try_get`](storage_core::ComponentStorage::try_get) counts hits only: who
    /// gets no answer from it asks again.
    pub misses: u64,
    /// Entries that reads brought in.
    pub fills: u64,
    /// Entries that gave way to others.
    pub evictions: u64,
    /// Values that reads and writes brought but that were too large to keep.
    pub refusals: u64,
    /// Bytes of keys and values that are held, with 48 for each entry. The table
    /// that they stand in is not counted here, but always fits in
    /// `max_size_bytes` together with them.
    pub bytes: u64,
    /// Keys that are held, those known to be absent included.
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
            bytes: sum.bytes + one.bytes,
            entries: sum.entries + one.entries,
        })
    }
}

impl CacheStats {
    /// No entry weighs less than its bytes, nor less than `floor`, so there are at
    /// no moment more than what is weighed. What is counted may be ahead.
    pub(crate) fn within(self, weight: u64, floor: u64) -> Self {
        let (bytes, entries) = (self.bytes.min(weight), self.entries.min(weight / floor.max(1)));
        Self { bytes, entries, ..self }
    }
}

/// The running numbers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    hits: Hits,
    misses: AtomicU64,
    pub(crate) fills: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) refusals: AtomicU64,
    /// These two may be behind or ahead while a change is on its way, and below
    /// zero too.
    bytes: AtomicI64,
    entries: AtomicI64,
}

impl Counters {
    #[inline]
    pub(crate) fn hit(&self) {
        self.hits.add_one();
    }

    pub(crate) fn missed(&self, keys: u64) {
        self.misses.fetch_add(keys, Ordering::Relaxed);
    }

    /// An entry of so many bytes came.
    pub(crate) fn added(&self, bytes: u64) {
        self.bytes.fetch_add(bytes as i64, Ordering::Relaxed);
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// An entry of so many bytes went.
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
            bytes: now(&self.bytes),
            entries: now(&self.entries),
        }
    }
}

/// How many threads at a time count without an atomic addition, which takes as
/// long as a quarter of a hit.
const OWNED: usize = 16;

/// Where all other threads count.
const SHARED: usize = 4;

/// A count to which each thread adds in a place of its own, as far as there are
/// places.
#[derive(Debug, Default)]
struct Hits {
    owned: [Place; OWNED],
    shared: [Place; SHARED],
}

/// Apart from the others, so that threads do not share a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Place(AtomicU64);

impl Hits {
    #[inline]
    fn add_one(&self) {
        let thread = thread_number();
        if let Some(Place(count)) = self.owned.get(thread) {
            // No other live thread has this number.
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        } else if let Some(Place(count)) = self.shared.get(thread % SHARED) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn total(&self) -> u64 {
        let places = self.owned.iter().chain(&self.shared);
        places.map(|Place(count)| count.load(Ordering::Relaxed)).sum()
    }
}

shared_static! {
    /// A bit for each number below [`OWNED`] that no live thread has. Giving one
    /// back and taking it orders what its threads have counted.
    static FREE_NUMBERS: AtomicU32 = AtomicU32::new((1 << OWNED) - 1);
}

/// The number of a thread that is ending, or came when all others were taken.
const NO_NUMBER: usize = OWNED;

const NOT_ASKED: usize = usize::MAX;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(NOT_ASKED) };
    static OWNED_NUMBER: OwnedNumber = OwnedNumber::take();
}

/// A number below [`OWNED`] that this thread has until it ends.
struct OwnedNumber(Option<usize>);

impl OwnedNumber {
    fn take() -> Self {
        let without_lowest = |free: u32| (free != 0).then_some(free & free.wrapping_sub(1));
        let taken = FREE_NUMBERS.fetch_update(Ordering::AcqRel, Ordering::Relaxed, without_lowest);
        Self(taken.ok().map(|free| free.trailing_zeros() as usize))
    }
}

impl Drop for OwnedNumber {
    fn drop(&mut self) {
        // What this thread still counts while it ends, it counts as one of many.
        let _ = NUMBER.try_with(|number| number.set(NO_NUMBER));
        if let Some(number) = self.0 {
            FREE_NUMBERS.fetch_or(1 << number, Ordering::AcqRel);
        }
    }
}

#[inline]
fn thread_number() -> usize {
    match NUMBER.try_with(Cell::get) {
        Ok(NOT_ASKED) => ask_for_number(),
        Ok(number) => number,
        Err(_) => NO_NUMBER,
    }
}

#[cold]
fn ask_for_number() -> usize {
    let number = OWNED_NUMBER.try_with(|owned| owned.0).ok().flatten().unwrap_or(NO_NUMBER);
    let _ = NUMBER.try_with(|cell| cell.set(number));
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// More threads than places, all alive at once, twice over.
    #[test]
    fn hits_of_all_threads_add_up() {
        const THREADS: usize = 3 * OWNED;
        let counters = Counters::default();
        for round in 1..=2 {
            let all_there = Barrier::new(THREADS);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        all_there.wait();
                        (0..10_000).for_each(|_| counters.hit());
                        all_there.wait();
                    });
                }
            });
            assert_eq!(counters.read().hits, round * THREADS as u64 * 10_000);
        }
    }

    #[test]
    fn what_is_on_its_way_is_never_shown_above_the_weight_or_below_zero() {
        let counters = Counters::default();
        counters.removed(100);
        assert_eq!((counters.read().bytes, counters.read().entries), (0, 0));
        counters.added(2_100);
        counters.added(0);
        assert_eq!(counters.read().within(1_000, 1).bytes, 1_000);
        assert_eq!(counters.read().within(3_000, 1).bytes, 2_000);
        assert_eq!(counters.read().entries, 1);
        // Two that are gone already, and not counted yet.
        counters.added(0);
        counters.added(0);
        assert_eq!(counters.read().within(1_000, 400).entries, 2);
        assert_eq!(counters.read().within(4_000, 400).entries, 3);
    }
}
