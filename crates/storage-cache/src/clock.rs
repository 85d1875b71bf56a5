//! The time, read cheaply enough for a hit.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
#[cfg(not(target_os = "linux"))]
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sync::atomic::{AtomicU64, Ordering};

/// Where a [`CachedStorage`](crate::CachedStorage) reads the time: the system's
/// monotonic clock, or a [`ManualClock`].
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<ManualClock>);

impl Clock {
    /// The system's monotonic clock. It may stop while the machine sleeps, so a
    /// [`Coherence`](crate::Coherence) compares the wall clock too.
    pub fn system() -> Self {
        Self(None)
    }

    /// The time since an arbitrary moment, which is the same for all clocks of the system. It
    /// never goes back.
    ///
    /// ```
    /// use std::time::Duration;
    /// use storage_cache::ManualClock;
    ///
    /// let manual = ManualClock::new();
    /// let clock = manual.clock();
    /// let before = clock.now();
    /// manual.advance(Duration::from_secs(1));
    /// assert_eq!(clock.now() - before, Duration::from_secs(1));
    /// ```
    pub fn now(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        match &self.0 {
            Some(ManualClock(manual)) => Duration::from_nanos(manual.now.load(Ordering::SeqCst)),
            None => START.elapsed(),
        }
    }

    /// Whether it moves only when a test advances it.
    pub fn is_manual(&self) -> bool {
        self.0.is_some()
    }
}

/// A clock for tests. It moves only when [`advance`](Self::advance) is called.
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
/// storage.inner().set("a", "bypasses the cache".into())?;
/// assert_eq!(storage.get("a")?, None);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(storage.get("a")?, Some("bypasses the cache".into()));
/// # Ok::<(), storage_core::StorageError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<Manual>);

#[derive(Debug, Default)]
struct Manual {
    now: AtomicU64,
    /// How long the machine has slept.
    slept: AtomicU64,
}

impl ManualClock {
    /// A new clock. Its clones are the same clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Advances the time for every cache that uses this clock.
    pub fn advance(&self, by: Duration) {
        self.0.now.fetch_add(nanos(by), Ordering::SeqCst);
    }

    /// Lets the machine sleep: the wall clock goes on. The monotonic clock stops, but not
    /// before a nanosecond has passed, and goes on for one before the program does.
    pub fn sleep(&self, time: Duration) {
        self.advance(Duration::from_nanos(1));
        self.0.slept.fetch_add(nanos(time), Ordering::SeqCst);
        self.advance(Duration::from_nanos(1));
    }

    /// This clock, for a cache.
    pub fn clock(&self) -> Clock {
        Clock(Some(self.clone()))
    }
}

/// Nanoseconds since an arbitrary start.
pub(crate) type Moment = u64;

const NEVER: Moment = Moment::MAX;

/// The time of both clocks at one moment.
///
/// The monotonic clock may stop while the machine sleeps, and the wall clock may be set back.
/// The time that passed is the longer of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) now: Moment,
    wall: u64,
}

/// Reads the time and computes deadlines.
#[derive(Debug)]
pub(crate) struct Timer {
    source: Source,
    lifetime: u64,
    /// How late a reading may be.
    tick: u64,
}

/// The longest lifetime of an entry whose deadline tells when it was added: 146 years.
const LONG: Duration = Duration::from_nanos(1 << 62);

#[derive(Debug)]
enum Source {
    /// Nothing expires, so the time is not needed.
    Off,
    #[cfg(target_os = "linux")]
    Coarse,
    Precise(Instant),
    Manual(ManualClock),
}

impl Timer {
    pub(crate) fn new(clock: &Clock, ttl: Option<Duration>) -> Self {
        let Some(ttl) = ttl else {
            return Self { source: Source::Off, lifetime: NEVER, tick: 0 };
        };
        if let Clock(Some(manual)) = clock {
            let source = Source::Manual(manual.clone());
            return Self { source, lifetime: nanos(ttl), tick: 0 };
        }
        #[cfg(target_os = "linux")]
        if let Some(timer) = Self::coarse(ttl) {
            return timer;
        }
        Self { source: Source::Precise(Instant::now()), lifetime: nanos(ttl), tick: 0 }
    }

    /// A timer whose clock always runs, and whose deadlines differ if their moments do.
    pub(crate) fn running(clock: &Clock, ttl: Option<Duration>) -> Self {
        Self::new(clock, Some(ttl.unwrap_or(LONG).min(LONG)))
    }

    /// The coarse clock, if its ticks are short compared with the TTL.
    ///
    /// A reading is up to one tick late, so entries live one tick less than the TTL.
    #[cfg(target_os = "linux")]
    fn coarse(ttl: Duration) -> Option<Self> {
        const TICKS_PER_TTL: u64 = 100;
        let resolution = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
        let tick = timespec_nanos(resolution);
        let ttl = nanos(ttl);
        let is_short = tick.saturating_mul(TICKS_PER_TTL) <= ttl;
        is_short.then(|| Self { source: Source::Coarse, lifetime: ttl.saturating_sub(tick), tick })
    }

    /// The time; a constant if nothing expires.
    #[inline]
    pub(crate) fn now(&self) -> Moment {
        match &self.source {
            // Inlined, because it is the usual source of a hit.
            #[cfg(target_os = "linux")]
            Source::Coarse => coarse(),
            source => source.now(),
        }
    }

    /// When an entry that was added at `moment` expires.
    #[inline]
    pub(crate) fn deadline(&self, moment: Moment) -> Moment {
        moment.saturating_add(self.lifetime)
    }

    /// The time of both clocks.
    pub(crate) fn times(&self) -> Times {
        let now = self.now();
        let wall = match &self.source {
            Source::Manual(ManualClock(manual)) => {
                now.saturating_add(manual.slept.load(Ordering::SeqCst))
            }
            _ => wall(),
        };
        Times { now, wall }
    }

    /// The nanoseconds that have passed from one reading to another, at most.
    pub(crate) fn passed(&self, from: Times, to: Times) -> u64 {
        let monotonic = to.now.saturating_sub(from.now);
        monotonic.max(to.wall.saturating_sub(from.wall)).saturating_add(self.tick)
    }

    /// How long a comparison of both clocks stays valid: while the reading of a coarse clock
    /// does not change. A precise one always changes, so a machine that sleeps may gain this
    /// millisecond.
    pub(crate) fn lease(&self) -> u64 {
        match self.source {
            Source::Precise(_) => 1_000_000,
            _ => 1,
        }
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
            Self::Manual(ManualClock(manual)) => manual.now.load(Ordering::SeqCst),
        }
    }
}

#[cfg(target_os = "linux")]
#[inline]
fn coarse() -> Moment {
    timespec_nanos(rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse))
}

#[cfg(target_os = "linux")]
fn wall() -> u64 {
    timespec_nanos(rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse))
}

#[cfg(not(target_os = "linux"))]
fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos)
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Monotonic clocks are never negative, nor is the wall clock after 1970, and both fit for
/// centuries.
#[cfg(target_os = "linux")]
#[inline]
fn timespec_nanos(time: rustix::time::Timespec) -> u64 {
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_ttl_never_expires() {
        let timer = Timer::new(&Clock::system(), Some(Duration::MAX));
        assert_eq!(timer.deadline(timer.now()), NEVER);
    }

    /// Both clocks run, so this holds however long it takes.
    #[test]
    fn the_system_clock_advances_and_grants_no_more_than_the_ttl() {
        for ttl in [Duration::from_millis(1), Duration::from_secs(3600)] {
            let timer = Timer::new(&Clock::system(), Some(ttl));
            let start = Instant::now();
            let before = timer.now();
            while timer.now() == before {
                std::hint::spin_loop();
            }
            let passed = timer.now() - before;
            // The first reading may be late by what the lifetime lacks.
            let late = nanos(ttl) - timer.lifetime;
            assert!(passed <= nanos(start.elapsed()) + late, "{ttl:?}: {passed} ns");
        }
    }
}
