//! The time, read cheaply enough for a hit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicU64, Ordering};

/// Where a [`CachedStorage`](crate::CachedStorage) reads the time: the system's
/// monotonic clock, or a [`ManualClock`].
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<ManualClock>);

impl Clock {
    /// The system's monotonic clock. It may stop while the machine sleeps.
    pub fn system() -> Self {
        Self(None)
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
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A new clock. Its clones are the same clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Advances the time for every cache that uses this clock.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(nanos(by), Ordering::SeqCst);
    }

    /// This clock, for a cache.
    pub fn clock(&self) -> Clock {
        Clock(Some(self.clone()))
    }
}

/// Nanoseconds since an arbitrary start.
pub(crate) type Moment = u64;

const NEVER: Moment = Moment::MAX;

/// Reads the time and computes deadlines.
#[derive(Debug)]
pub(crate) struct Timer {
    source: Source,
    lifetime: u64,
}

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
        is_short.then(|| Self { source: Source::Coarse, lifetime: ttl.saturating_sub(tick) })
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

#[cfg(target_os = "linux")]
#[inline]
fn coarse() -> Moment {
    timespec_nanos(rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Monotonic clocks are never negative, and fit for centuries.
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
