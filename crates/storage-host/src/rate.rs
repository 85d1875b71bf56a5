//! Rate limits: how much of the host a component may use in a second.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use storage_core::StorageError;

/// How many operations and bytes a component may use in a second.
///
/// All instances of a component share it, and its calls through grants count for it and not
/// for the owner of the keys. A call that reads or writes several keys counts as one operation
/// for each of them; a commit, as many as it has checks or writes, whichever are more. Bytes are
/// those of keys and values, in and out.
///
/// A component that has paused can use at once what it may use within the burst. A call is
/// made while anything is left of this, also if it needs more: later calls then wait until
/// this has been made up for. So every call is possible whose size is within
/// [`Limits`](crate::Limits), and on average the rate holds. The bytes of a result are counted
/// after the call.
///
/// Beyond the rate a call fails with [`StorageError::LimitExceeded`] for the limit `operations
/// per second` or `bytes per second`, and changes nothing. It does not count.
/// [`ComponentChain::retry_after`](crate::ComponentChain::retry_after) says when the next call
/// is possible. A component without a rate limit pays nothing for this.
///
/// ```
/// use std::time::Duration;
/// use storage_host::RateLimit;
///
/// let rate = RateLimit::new(Some(1_000), Some(10 << 20), Duration::from_secs(2))?;
/// assert_eq!(rate.operations_per_second(), Some(1_000));
/// assert!(RateLimit::new(Some(5), None, Duration::from_millis(100)).is_err());
/// # Ok::<(), storage_host::InvalidRateLimit>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    operations: Option<u64>,
    bytes: Option<u64>,
    burst: Duration,
}

/// No limit.
impl Default for RateLimit {
    fn default() -> Self {
        Self { operations: None, bytes: None, burst: Self::DEFAULT_BURST }
    }
}

impl RateLimit {
    /// The burst if none is set: one second.
    pub const DEFAULT_BURST: Duration = Duration::from_secs(1);

    /// Creates a rate limit; `None` for no limit.
    ///
    /// # Errors
    /// If the burst allows less than one operation or one byte, so that no call would be
    /// possible.
    pub fn new(
        operations_per_second: Option<u64>,
        bytes_per_second: Option<u64>,
        burst: Duration,
    ) -> Result<Self, InvalidRateLimit> {
        for (unit, rate) in [("operation", operations_per_second), ("byte", bytes_per_second)] {
            let Some(per_second) = rate else { continue };
            if burst.as_nanos().saturating_mul(u128::from(per_second)) < NANOS {
                return Err(InvalidRateLimit { unit, per_second, burst });
            }
        }
        Ok(Self { operations: operations_per_second, bytes: bytes_per_second, burst })
    }

    /// The operations per second; `None` for no limit.
    pub fn operations_per_second(&self) -> Option<u64> {
        self.operations
    }

    /// The bytes per second; `None` for no limit.
    pub fn bytes_per_second(&self) -> Option<u64> {
        self.bytes
    }

    /// The time whose operations and bytes can be used at once.
    pub fn burst(&self) -> Duration {
        self.burst
    }

    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.operations.is_none() && self.bytes.is_none()
    }
}

/// A [`RateLimit`] with which no call would be possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRateLimit {
    unit: &'static str,
    per_second: u64,
    burst: Duration,
}

impl fmt::Display for InvalidRateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, per_second, burst } = self;
        if *per_second == 0 {
            return write!(f, "a rate of 0 {unit}s per second allows no call: use at least 1");
        }
        write!(
            f,
            "a rate of {per_second} {unit}s per second with a burst of {} s allows less than one \
             {unit} at once: use a burst of at least {} s",
            burst.as_secs_f64(),
            1.0 / *per_second as f64
        )
    }
}

impl std::error::Error for InvalidRateLimit {}

const OPERATIONS: &str = "operations per second";
const BYTES: &str = "bytes per second";

/// Whether a limit of [`StorageError::LimitExceeded`] is a rate.
#[cfg(feature = "tracing")]
pub(crate) fn is_rate(limit: &str) -> bool {
    limit == OPERATIONS || limit == BYTES
}

const NANOS: u128 = 1_000_000_000;

/// One operation or byte. Amounts are in billionths, so that they grow by the rate in each
/// nanosecond and nothing is rounded.
const ONE: i128 = NANOS as i128;

/// What a component may use now, and how this grows.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    limit: RateLimit,
    /// When it was last updated, in nanoseconds.
    at: u64,
    operations: Bucket,
    bytes: Bucket,
}

/// The operations or bytes that a component may use. Negative if the last calls needed more
/// than was left.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// `None` for no limit.
    per_second: Option<u64>,
    capacity: i128,
    left: i128,
}

impl Bucket {
    fn full(per_second: Option<u64>, burst: Duration) -> Self {
        let burst = i128::try_from(burst.as_nanos()).unwrap_or(i128::MAX);
        let capacity = i128::from(per_second.unwrap_or(0)).saturating_mul(burst);
        Self { per_second, capacity, left: capacity }
    }

    fn refill(&mut self, nanos: u64) {
        let more = i128::from(self.per_second.unwrap_or(0)).saturating_mul(i128::from(nanos));
        self.left = self.left.saturating_add(more).min(self.capacity);
    }

    /// Takes an amount; a negative one is given back.
    fn take(&mut self, amount: i128) {
        self.left = self.left.saturating_sub(amount.saturating_mul(ONE)).min(self.capacity);
    }

    /// The nanoseconds until one is left.
    fn wait(&self) -> u64 {
        match self.per_second {
            Some(per_second) if self.left < ONE => {
                let missing = ONE.saturating_sub(self.left).unsigned_abs();
                let wait = missing.div_ceil(u128::from(per_second.max(1)));
                u64::try_from(wait).unwrap_or(u64::MAX)
            }
            _ => 0,
        }
    }

    /// The error if nothing is left.
    fn check(&self, limit: &'static str) -> Result<(), StorageError> {
        match self.per_second {
            Some(max) if self.left < ONE => {
                Err(StorageError::LimitExceeded { limit, max, actual: max.saturating_add(1) })
            }
            _ => Ok(()),
        }
    }
}

impl Allowance {
    fn full(limit: RateLimit, now: u64) -> Self {
        let operations = Bucket::full(limit.operations, limit.burst);
        let bytes = Bucket::full(limit.bytes, limit.burst);
        Self { limit, at: now, operations, bytes }
    }

    fn refill(&mut self, now: u64) {
        // Another thread may have read the clock later and come first.
        let nanos = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        self.operations.refill(nanos);
        self.bytes.refill(nanos);
    }

    /// Changes the limit. What was used before still counts.
    fn change(&mut self, limit: RateLimit, now: u64) {
        self.refill(now);
        let full = Self::full(limit, now);
        for (old, new) in [(&mut self.operations, full.operations), (&mut self.bytes, full.bytes)] {
            let left = if old.per_second.is_some() { old.left.min(new.capacity) } else { new.left };
            *old = Bucket { left, ..new };
        }
        self.limit = limit;
    }

    /// Whether nothing is used, as in a new one.
    pub(crate) fn is_full(&mut self, now: u64) -> bool {
        self.refill(now);
        let is_full = |bucket: &Bucket| bucket.left >= bucket.capacity;
        is_full(&self.operations) && is_full(&self.bytes)
    }
}

/// The allowance of a component that has a rate limit, shared by its calls.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Option<Box<Allowance>>>);

impl Throttle {
    /// The throttle of a component that was in use before.
    pub(crate) fn resumed(allowance: Option<Box<Allowance>>) -> Self {
        Self(Mutex::new(allowance))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Box<Allowance>>> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes operations and bytes for a call.
    ///
    /// # Errors
    /// [`StorageError::LimitExceeded`]. Nothing was taken.
    pub(crate) fn admit(
        &self,
        now: Duration,
        operations: usize,
        bytes: usize,
    ) -> Result<(), StorageError> {
        if let Some(allowance) = &mut *self.lock() {
            allowance.refill(nanos(now));
            allowance.operations.check(OPERATIONS)?;
            allowance.bytes.check(BYTES)?;
            allowance.operations.take(amount(operations));
            allowance.bytes.take(amount(bytes));
        }
        Ok(())
    }

    /// Counts the bytes of a result.
    pub(crate) fn charge(&self, bytes: usize) {
        if let Some(allowance) = &mut *self.lock() {
            allowance.bytes.take(amount(bytes));
        }
    }

    /// Gives back what a call took that was not made.
    pub(crate) fn refund(&self, operations: usize, bytes: usize) {
        if let Some(allowance) = &mut *self.lock() {
            allowance.operations.take(-amount(operations));
            allowance.bytes.take(-amount(bytes));
        }
    }

    /// Returns how long a call must wait; zero if it need not.
    pub(crate) fn retry_after(&self, now: Duration) -> Duration {
        self.lock().as_deref_mut().map_or(Duration::ZERO, |allowance| {
            allowance.refill(nanos(now));
            Duration::from_nanos(allowance.operations.wait().max(allowance.bytes.wait()))
        })
    }

    /// Returns the error of a call that is made now, without a call.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    #[cfg(feature = "async")]
    pub(crate) fn check(&self, now: Duration) -> Result<(), StorageError> {
        self.admit(now, 0, 0)
    }
}

/// Changes the limit of a locked throttle.
pub(crate) fn set_limit(
    throttle: &mut MutexGuard<'_, Option<Box<Allowance>>>,
    limit: RateLimit,
    now: Duration,
) {
    let now = nanos(now);
    match throttle.as_deref_mut() {
        _ if limit.is_unlimited() => **throttle = None,
        Some(allowance) if allowance.limit == limit => {}
        Some(allowance) => allowance.change(limit, now),
        None => **throttle = Some(Box::new(Allowance::full(limit, now))),
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn amount(number: usize) -> i128 {
    number as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn throttle(operations: Option<u64>, bytes: Option<u64>, burst: Duration) -> Throttle {
        let throttle = Throttle::default();
        let limit = RateLimit::new(operations, bytes, burst).unwrap();
        set_limit(&mut throttle.lock(), limit, Duration::ZERO);
        throttle
    }

    /// The calls of this size that are admitted at a moment.
    fn admitted(throttle: &Throttle, now: Duration, operations: usize, bytes: usize) -> usize {
        (0..100_000).take_while(|_| throttle.admit(now, operations, bytes).is_ok()).count()
    }

    #[test]
    fn the_number_of_calls_is_exact() {
        for (rate, burst) in [(1_000, SECOND), (7, SECOND * 3), (3, SECOND / 2), (1, SECOND)] {
            let throttle = throttle(Some(rate), None, burst);
            let mut total = 0;
            // In steps that do not divide a second.
            for step in 0..5_000_u32 {
                let now = Duration::from_nanos(1_234_567) * step;
                total += admitted(&throttle, now, 1, 10) as u128;
                let ever = u128::from(rate) * (burst + now).as_nanos() / NANOS;
                // A burst of 1.5 operations admits one, and half of one stays.
                assert!(total <= ever && total + 1 >= ever, "{total} of {ever} at {now:?}");
            }
        }
    }

    #[test]
    fn bytes_may_exceed_what_is_left_once_and_are_made_up_for() {
        let throttle = throttle(None, Some(100), SECOND);
        assert_eq!(throttle.admit(Duration::ZERO, 1, 1_000), Ok(()));
        let refused = StorageError::LimitExceeded { limit: BYTES, max: 100, actual: 101 };
        assert_eq!(throttle.admit(Duration::ZERO, 1, 1), Err(refused));
        // 900 too many, and one for the next call.
        let wait = throttle.retry_after(Duration::ZERO);
        assert_eq!(wait, Duration::from_millis(9_010));
        assert!(throttle.admit(wait - Duration::from_nanos(1), 1, 1).is_err());
        assert_eq!(throttle.admit(wait, 1, 1), Ok(()));
        assert!(throttle.admit(wait, 1, 1).is_err());
        // A result counts too, and what was not used comes back.
        let later = wait + SECOND * 10;
        throttle.admit(later, 1, 10).unwrap();
        throttle.charge(100);
        assert!(throttle.admit(later, 1, 0).is_err());
        throttle.refund(1, 50);
        assert_eq!(admitted(&throttle, later, 1, 40), 1);
    }

    #[test]
    fn a_pause_fills_the_burst_and_no_more() {
        let throttle = throttle(Some(10), None, SECOND * 2);
        assert_eq!(admitted(&throttle, Duration::ZERO, 1, 0), 20);
        assert_eq!(admitted(&throttle, SECOND * 1_000, 1, 0), 20);
        // Time that seems to go back, as between threads, gives nothing.
        assert_eq!(admitted(&throttle, SECOND, 1, 0), 0);
        assert_eq!(admitted(&throttle, Duration::MAX, 1, 0), 20);
        assert_eq!(throttle.retry_after(Duration::MAX), SECOND / 10);
    }

    #[test]
    fn what_was_used_counts_after_a_change() {
        let throttle = throttle(Some(10), None, SECOND);
        assert_eq!(admitted(&throttle, Duration::ZERO, 1, 0), 10);
        let change = |operations, now| {
            let limit = RateLimit::new(operations, None, SECOND).unwrap();
            set_limit(&mut throttle.lock(), limit, now);
        };
        change(Some(1_000), Duration::ZERO);
        assert_eq!(admitted(&throttle, Duration::ZERO, 1, 0), 0);
        assert_eq!(admitted(&throttle, SECOND, 1, 0), 1_000);
        change(Some(5), SECOND * 10);
        assert_eq!(admitted(&throttle, SECOND * 10, 1, 0), 5);
        change(None, SECOND * 10);
        assert_eq!(admitted(&throttle, SECOND * 10, 1, 0), 100_000);
    }

    #[test]
    fn extreme_rates_do_not_overflow() {
        let throttle = throttle(Some(u64::MAX), Some(u64::MAX), Duration::MAX);
        for now in [Duration::ZERO, Duration::MAX] {
            assert_eq!(throttle.admit(now, usize::MAX, usize::MAX), Ok(()));
            throttle.charge(usize::MAX);
            throttle.refund(usize::MAX, usize::MAX);
        }
        assert_eq!(throttle.retry_after(Duration::MAX), Duration::ZERO);
    }

    #[test]
    fn a_rate_that_allows_no_call_is_refused() {
        let error = |operations, bytes, burst| {
            RateLimit::new(operations, bytes, burst).unwrap_err().to_string()
        };
        assert_eq!(
            error(Some(0), None, SECOND),
            "a rate of 0 operations per second allows no call: use at least 1"
        );
        assert_eq!(
            error(None, Some(4), SECOND / 8),
            "a rate of 4 bytes per second with a burst of 0.125 s allows less than one byte at \
             once: use a burst of at least 0.25 s"
        );
        assert!(RateLimit::new(Some(4), None, SECOND / 4).is_ok());
        assert!(RateLimit::new(None, None, Duration::ZERO).unwrap().is_unlimited());
    }
}
