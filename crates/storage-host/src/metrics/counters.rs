//! What calls count: for the whole host and for each component.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storage_cache::{CounterSlot, ThreadCounters};

use super::latency::{BUCKETS, LatencyHistogram, bucket};
use crate::live::Account;
use crate::operation::{Operation, Outcome};

const OPERATIONS: usize = Operation::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();

/// One of this many reads from memory of a thread is timed. Reading the clock twice would take a
/// tenth of the time of such a read.
pub(crate) const SAMPLED: u64 = 1_024;

/// One of this many calls of a thread to a store in memory is timed, and counts for all of them
/// in histograms and sums of times. Reading the clock twice would take a quarter of the time of
/// such a call.
const CALLS_FOR_EACH_TIMED: u64 = 64;

// The counters of a host: where each group begins.
/// For each operation and outcome, without reads from memory.
const CALLS: usize = 0;
/// For each operation, the histogram.
const LATENCY: usize = CALLS + OPERATIONS * OUTCOMES;
const NANOS: usize = LATENCY + OPERATIONS * BUCKETS;
/// The histogram of sampled reads from memory.
const SAMPLES: usize = NANOS + OPERATIONS;
const SAMPLE_NANOS: usize = SAMPLES + BUCKETS;
/// The calls to a store in memory.
const MEMORY_CALLS: usize = SAMPLE_NANOS + 1;
const COUNTERS: usize = MEMORY_CALLS + 1;

/// The counters of a host, without those of reads from memory.
#[derive(Default)]
pub(crate) struct HostCounters(ThreadCounters<COUNTERS>);

impl HostCounters {
    pub(crate) fn calls(&self, operation: Operation, outcome: Outcome) -> u64 {
        self.0.total(calls(operation, outcome))
    }

    pub(crate) fn latency(&self, operation: Operation) -> LatencyHistogram {
        let first = LATENCY + operation as usize * BUCKETS;
        let buckets = array::from_fn(|index| self.0.total(first + index));
        LatencyHistogram::new(buckets, self.0.total(NANOS + operation as usize))
    }

    pub(crate) fn memory_latency(&self) -> LatencyHistogram {
        let buckets = array::from_fn(|index| self.0.total(SAMPLES + index));
        LatencyHistogram::new(buckets, self.0.total(SAMPLE_NANOS))
    }
}

// The numbers of a component.
pub(crate) const ALL: usize = 0;
pub(crate) const READ_BYTES: usize = 1;
pub(crate) const WRITTEN_BYTES: usize = 2;
/// Reads from memory.
pub(crate) const HITS: usize = 3;
/// Reads of one key that were not answered from memory.
pub(crate) const MISSES: usize = 4;
pub(crate) const OVER_LIMIT: usize = 5;
pub(crate) const OVER_QUOTA: usize = 6;
pub(crate) const OVER_RATE: usize = 7;
pub(crate) const ERRORS: usize = 8;
pub(crate) const TIME: usize = 9;
pub(crate) const TIMES: usize = 10;
/// Reads from memory, as [`memory_counter`] counts them.
const MEMORY: usize = TIMES + BUCKETS;
pub(crate) const NUMBERS: usize = MEMORY + MEMORY_READS;

/// The counters of reads from memory: of `get` and `exists` for keys that exist and for others,
/// and of `get_many`.
const MEMORY_READS: usize = 5;

// The counters of a component that most calls change: the reads from memory, and these. They
// fill a cache line of each thread.
/// Calls that were not answered from memory.
const OTHER_CALLS: usize = MEMORY_READS;
const BYTES_READ: usize = OTHER_CALLS + 1;
const BYTES_WRITTEN: usize = BYTES_READ + 1;
const FREQUENT: usize = BYTES_WRITTEN + 1;

/// The first counter of an operation that may be answered from memory.
#[inline]
fn memory_counter(operation: Operation) -> usize {
    match operation {
        Operation::Get => 0,
        Operation::Exists => 2,
        _ => 4,
    }
}

/// The numbers of a component at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) [u64; NUMBERS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; NUMBERS])
    }
}

impl Counts {
    pub(crate) fn get(&self, number: usize) -> u64 {
        self.0.get(number).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, number) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(number);
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        for (number, before) in since.0.iter_mut().zip(earlier.0) {
            *number = number.saturating_sub(before);
        }
        since
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|number| *number == 0)
    }

    pub(crate) fn latency(&self) -> LatencyHistogram {
        let buckets = array::from_fn(|index| self.get(TIMES + index));
        LatencyHistogram::new(buckets, self.get(TIME))
    }

    /// The reads from memory of an operation, for keys that exist or others.
    pub(crate) fn memory_reads(&self, operation: Operation, found: bool) -> u64 {
        match (operation, found) {
            (Operation::Get | Operation::Exists, _) | (Operation::GetMany, true) => {
                self.get(MEMORY + memory_counter(operation) + usize::from(!found))
            }
            _ => 0,
        }
    }
}

/// The counters of a component that has made a call.
pub(crate) struct Activity {
    frequent: ThreadCounters<FREQUENT>,
    /// All numbers without what `frequent` has.
    numbers: [AtomicU64; NUMBERS],
    /// What was reported already.
    reported: Mutex<Counts>,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            frequent: ThreadCounters::default(),
            numbers: array::from_fn(|_| AtomicU64::new(0)),
            reported: Mutex::default(),
        }
    }
}

impl Activity {
    fn add(&self, number: usize, count: u64) {
        if let Some(number) = self.numbers.get(number) {
            number.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Counts a call that was not answered from memory, and the bytes that it read and wrote.
    fn count(&self, outcome: Outcome, [read, written]: [usize; 2]) {
        let frequent = self.frequent.slot();
        frequent.add(OTHER_CALLS, 1);
        frequent.add(BYTES_READ, read as u64);
        frequent.add(BYTES_WRITTEN, written as u64);
        match outcome {
            Outcome::Limit => self.add(OVER_LIMIT, 1),
            Outcome::Quota => self.add(OVER_QUOTA, 1),
            Outcome::Rate => self.add(OVER_RATE, 1),
            Outcome::Error => self.add(ERRORS, 1),
            _ => {}
        }
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts(array::from_fn(|index| {
            self.numbers.get(index).map_or(0, |number| number.load(Ordering::Relaxed))
        }));
        let reads: [u64; MEMORY_READS] = array::from_fn(|read| self.frequent.total(read));
        let mut frequent = Counts::default();
        let [all, read_bytes, written_bytes, hits, ..] = &mut frequent.0;
        *hits = reads.iter().sum();
        *all = *hits + self.frequent.total(OTHER_CALLS);
        *read_bytes = self.frequent.total(BYTES_READ);
        *written_bytes = self.frequent.total(BYTES_WRITTEN);
        for (number, reads) in frequent.0.iter_mut().skip(MEMORY).zip(reads) {
            *number = reads;
        }
        counts.add(&frequent);
        counts
    }

    fn lock_reported(&self) -> MutexGuard<'_, Counts> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read that may be answered from memory.
pub(crate) struct MemoryRead<'a> {
    slot: CounterSlot<'a, FREQUENT>,
    counter: usize,
    began: Option<Instant>,
}

/// Measures a call.
pub(crate) struct Timer {
    began: Instant,
    /// How many calls it counts for.
    calls: u64,
}

impl Account {
    #[inline]
    fn counters(&self) -> &Activity {
        self.activity.get_or_init(Box::default)
    }

    /// What was counted since the last report.
    pub(crate) fn report(&self) -> Counts {
        let Some(activity) = self.activity.get() else { return Counts::default() };
        let mut reported = activity.lock_reported();
        let now = activity.counts();
        let since = now.since(&reported);
        *reported = now;
        since
    }

    #[inline]
    pub(crate) fn begin_memory_read(&self, operation: Operation) -> MemoryRead<'_> {
        let slot = self.counters().frequent.slot();
        let counter = memory_counter(operation);
        let before = slot.get(counter).wrapping_add(slot.get(counter + 1));
        let began = (before % SAMPLED == SAMPLED - 1).then(Instant::now);
        MemoryRead { slot, counter, began }
    }

    /// Counts a read that was answered from memory.
    #[inline]
    pub(crate) fn end_memory_read(&self, read: MemoryRead<'_>, found: bool, bytes: usize) {
        read.slot.add(read.counter + usize::from(!found), 1);
        read.slot.add(BYTES_READ, bytes as u64);
        if let Some(began) = read.began {
            self.count_sample(began.elapsed());
        }
    }

    #[cold]
    fn count_sample(&self, took: Duration) {
        let nanos = crate::rate::nanos(took);
        let host = self.live().counters.0.slot();
        host.add(SAMPLES + bucket(nanos), 1);
        host.add(SAMPLE_NANOS, nanos);
    }

    /// Counts a call that was refused before storage was asked.
    pub(crate) fn count_refusal(&self, operation: Operation, outcome: Outcome) {
        self.live().counters.0.slot().add(calls(operation, outcome), 1);
        self.counters().count(outcome, [0, 0]);
    }

    /// Starts to measure a call, unless it is one that is not timed.
    #[inline]
    pub(crate) fn start_timer(&self) -> Option<Timer> {
        let mut calls = 1;
        if !self.live().may_block() {
            let host = self.live().counters.0.slot();
            host.add(MEMORY_CALLS, 1);
            calls = CALLS_FOR_EACH_TIMED;
            if !host.get(MEMORY_CALLS).is_multiple_of(calls) {
                return None;
            }
        }
        Some(Timer { began: Instant::now(), calls })
    }

    /// Counts a call that was not answered from memory.
    pub(crate) fn count_call(
        &self,
        operation: Operation,
        outcome: Outcome,
        timer: Option<Timer>,
        bytes: [usize; 2],
    ) {
        let host = self.live().counters.0.slot();
        host.add(calls(operation, outcome), 1);
        let own = self.counters();
        own.count(outcome, bytes);
        if let Some(Timer { began, calls }) = timer {
            let nanos = crate::rate::nanos(began.elapsed());
            host.add(LATENCY + operation as usize * BUCKETS + bucket(nanos), calls);
            host.add(NANOS + operation as usize, nanos.saturating_mul(calls));
            own.add(TIMES + bucket(nanos), calls);
            own.add(TIME, nanos.saturating_mul(calls));
        }
        if matches!(operation, Operation::Get | Operation::Exists) {
            own.add(MISSES, 1);
        }
    }
}

fn calls(operation: Operation, outcome: Outcome) -> usize {
    CALLS + operation as usize * OUTCOMES + outcome as usize
}
