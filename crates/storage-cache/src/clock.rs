//! What time it is, as cheaply as a hit can afford.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicU64, Ordering};

/// Where a [`CachedStorage`](crate::CachedStorage) reads the time: the system's
/// monotonic clock, or a [`ManualClock`].
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<ManualClock>);

impl Clock {
    /// The system's monotonic clock, which no one can set back. It may stand
    /// still while the machine sleeps.
    pub fn system() -> Self {
        Self(None)
    }
}

/// A clock that stands still until it is told to advance, for tests.
///
/// ```
/// use std::time::Duration;
/// use storage_cache::{CacheConfig, CachedStorage, ManualClock};
/// use storage_core::{ComponentStorage, conformance::ReferenceStorage};
///
/// let clock = ManualClock::new();
/// let config = CacheConfig { ttl: Some(Duration::from_secs(60)), ..CacheConfig::default() };
/// let storage = CachedStorage::with_clock(ReferenceStorage::new(), config, clock.clock());
///
/// assert_eq!(storage.get("a")?, None);
/// storage.inner().set("a", "written around the cache".into())?;
/// assert_eq!(storage.get("a")?, None);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(storage.get("a")?, Some("written around the cache".into()));
/// # Ok::<(), storage_core::StorageError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A new clock; its clones are the same clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets time pass, for every cache that reads this clock.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(nanos(by), Ordering::SeqCst);
    }

    /// This clock, as a cache takes it.
    pub fn clock(&self) -> Clock {
        Clock(Some(self.clone()))
    }
}

/// A moment in nanoseconds since some moment before.
pub(crate) type Moment = u64;

/// Later than every moment.
const NEVER: Moment = Moment::MAX;

/// Reads the time where there is a time-to-live, and adds it up.
#[derive(Debug)]
pub(crate) struct Timer {
    source: Source,
    lifetime: u64,
}

#[derive(Debug)]
enum Source {
    /// Nothing expires, so nobody needs the time.
    Off,
    #[cfg(target_os = "linux")]
    Coarse,
    Precise(Instant),
    Manual(ManualClock),
}

impl Timer {
    pub(crate) fn new(clock: &Clock, ttl: Option<Duration>) -> Self {
        let Some(ttl) = ttl else {
            return Self { source: Source::Off, lifetime: NEVER };
        };
        if let Clock(Some(manual)) = clock {
            return Self { source: Source::Manual(manual.clone()), lifetime: nanos(ttl) };
        }
        #[cfg(target_os = "linux")]
        if let Some(timer) = Self::coarse(ttl) {
            return timer;
        }
        Self { source: Source::Precise(Instant::now()), lifetime: nanos(ttl) }
    }

    /// A coarse clock where the time-to-live is long beside its steps.
    ///
    /// Its readings are up to one step late. An entry lives a step less, so that
    /// it never outlives its time.
    #[cfg(target_os = "linux")]
    fn coarse(ttl: Duration) -> Option<Self> {
        const STEPS_PER_TTL: u64 = 100;
        let resolution = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
        let step = timespec_nanos(resolution);
        let ttl = nanos(ttl);
        let worthwhile = step.saturating_mul(STEPS_PER_TTL) <= ttl;
        worthwhile.then(|| Self { source: Source::Coarse, lifetime: ttl.saturating_sub(step) })
    }

    /// The time. Where nothing expires, always the same.
    #[inline]
    pub(crate) fn now(&self) -> Moment {
        match &self.source {
            // The one that counts: every hit with a time-to-live comes by.
            #[cfg(target_os = "linux")]
            Source::Coarse => coarse(),
            source => source.now(),
        }
    }

    /// When something that was true at `moment` counts no more.
    #[inline]
    pub(crate) fn deadline(&self, moment: Moment) -> Moment {
        moment.saturating_add(self.lifetime)
    }
}

impl Source {
    #[inline(never)]
    fn now(&self) -> Moment {
        match self {
            Self::Off => 0,
            #[cfg(target_os = "linux")]
            Self::Coarse => coarse(),
            Self::Precise(start) => nanos(start.elapsed()),
            Self::Manual(ManualClock(now)) => now.load(Ordering::SeqCst),
        }
    }
}

/// The system's coarse clock.
#[cfg(target_os = "linux")]
#[inline]
fn coarse() -> Moment {
    timespec_nanos(rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The system's monotonic clocks are never negative and have centuries to go.
#[cfg(target_os = "linux")]
#[inline]
fn timespec_nanos(time: rustix::time::Timespec) -> u64 {
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_time_to_live_nothing_ends() {
        let clock = ManualClock::new();
        let timer = Timer::new(&clock.clock(), None);
        let deadline = timer.deadline(timer.now());
        clock.advance(Duration::MAX);
        assert!(timer.now() < deadline);
    }

    #[test]
    fn the_longest_time_to_live_never_ends() {
        let timer = Timer::new(&Clock::system(), Some(Duration::MAX));
        assert_eq!(timer.deadline(timer.now()), NEVER);
        assert!(timer.now() < NEVER);
    }

    #[test]
    fn a_manual_clock_ends_it_to_the_nanosecond() {
        let clock = ManualClock::new();
        let timer = Timer::new(&clock.clock(), Some(Duration::from_secs(1)));
        let deadline = timer.deadline(timer.now());
        clock.advance(Duration::from_nanos(999_999_999));
        assert!(timer.now() < deadline);
        clock.advance(Duration::from_nanos(1));
        assert!(timer.now() >= deadline);
    }

    /// Both clocks run, so this holds however long it takes.
    #[test]
    fn the_system_clock_goes_on_and_grants_no_more_than_the_ttl() {
        for ttl in [Duration::from_millis(1), Duration::from_secs(3600)] {
            let timer = Timer::new(&Clock::system(), Some(ttl));
            let start = Instant::now();
            let before = timer.now();
            while timer.now() == before {
                std::hint::spin_loop();
            }
            let passed = timer.now() - before;
            // The first reading was late by no more than is taken off the lifetime.
            let late = nanos(ttl) - timer.lifetime;
            assert!(passed <= nanos(start.elapsed()) + late, "{ttl:?}: {passed} ns");
        }
    }
}
