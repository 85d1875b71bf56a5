//! Counters that many threads add to at little cost.

use std::array;
use std::cell::Cell;
use std::marker::PhantomData;

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{shared_static, thread_local};

/// The number of threads with a slot of their own. An atomic addition to a shared slot
/// would take a quarter of the time of a hit.
const OWN_SLOTS: usize = 16;

/// The slots of all other threads.
const SHARED_SLOTS: usize = 4;

/// `N` counters that many threads add to.
///
/// Up to 16 threads have a slot of their own, so that an addition takes about a nanosecond and
/// no thread waits for another. Takes 20 times `8 * N` bytes, rounded up to 64.
///
/// ```
/// use storage_cache::ThreadCounters;
///
/// let counters = ThreadCounters::<2>::default();
/// let slot = counters.slot();
/// slot.add(0, 1);
/// slot.add(1, 10);
/// slot.add(1, 10);
/// assert_eq!((counters.total(0), counters.total(1)), (1, 20));
/// ```
#[derive(Debug)]
pub struct ThreadCounters<const N: usize> {
    own: [Slot<N>; OWN_SLOTS],
    shared: [Slot<N>; SHARED_SLOTS],
}

/// Aligned so that threads do not share a cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Slot<N> {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl<const N: usize> Default for ThreadCounters<N> {
    fn default() -> Self {
        Self {
            own: array::from_fn(|_| Slot::default()),
            shared: array::from_fn(|_| Slot::default()),
        }
    }
}

impl<const N: usize> ThreadCounters<N> {
    /// The counters of this thread.
    #[inline]
    pub fn slot(&self) -> CounterSlot<'_, N> {
        let thread = thread_number();
        let own = self.own.get(thread);
        let [first, ..] = &self.shared;
        let shared = || self.shared.get(thread % SHARED_SLOTS).unwrap_or(first);
        let Slot(counts) = own.unwrap_or_else(shared);
        CounterSlot { counts, is_own: own.is_some(), this_thread: PhantomData }
    }

    /// The sum of one counter over all threads; 0 if there is no such counter. Additions of
    /// other threads that are in progress may be missing.
    pub fn total(&self, counter: usize) -> u64 {
        let slots = self.own.iter().chain(&self.shared);
        let counts = slots.filter_map(|Slot(counts)| counts.get(counter));
        counts.map(|count| count.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

/// The counters of one thread in [`ThreadCounters`].
#[derive(Debug)]
pub struct CounterSlot<'a, const N: usize> {
    counts: &'a [AtomicU64; N],
    is_own: bool,
    /// Another thread must not use it.
    this_thread: PhantomData<*const ()>,
}

impl<const N: usize> CounterSlot<'_, N> {
    /// Adds to a counter. Does nothing if there is no such counter.
    #[inline]
    pub fn add(&self, counter: usize, number: u64) {
        let Some(count) = self.counts.get(counter) else { return };
        if self.is_own {
            // No other live thread has this slot.
            count.store(count.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
        } else {
            count.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// What the threads of this slot have added to a counter.
    #[inline]
    pub fn get(&self, counter: usize) -> u64 {
        self.counts.get(counter).map_or(0, |count| count.load(Ordering::Relaxed))
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
    fn the_counts_of_all_threads_add_up() {
        const THREADS: usize = 3 * OWN_SLOTS;
        let counters = ThreadCounters::<2>::default();
        for round in 1..=2 {
            let barrier = Barrier::new(THREADS);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        barrier.wait();
                        (0..10_000).for_each(|_| counters.slot().add(1, 2));
                        barrier.wait();
                    });
                }
            });
            assert_eq!(counters.total(1), round * THREADS as u64 * 20_000);
            assert_eq!(counters.total(0), 0);
        }
    }
}
