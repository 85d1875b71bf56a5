//! The revision that an opening for writing begins with.
//!
//! A store that was restored from a copy has the counter of that copy, so the
//! counter alone would give revisions a second time, and a check against one
//! that a caller kept would pass for another write. Nothing in the store can
//! tell: a snapshot of a disk restores every byte. The clock can. Each opening
//! begins at the current time in nanoseconds at least.
//!
//! The time stays ahead of every store: a write takes more than a nanosecond, and
//! an opening, which skips what is left of a reserved block of 65,536 revisions,
//! more than 66 microseconds. Nanoseconds fit into 63 bits until the year 2262.

use std::time::{SystemTime, UNIX_EPOCH};

/// The first revision of an opening of a store whose revisions below `reserved`
/// may have been given: `reserved`, or the nanoseconds since 1970 if they are
/// more.
pub(crate) fn first_revision(reserved: u64) -> u64 {
    reserved.max(clock::nanos())
}

/// Nanoseconds since 1970; 0 for a clock that is before it.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}

#[cfg(not(any(test, feature = "internals")))]
use self::real as clock;
#[cfg(any(test, feature = "internals"))]
pub(crate) use self::stoppable as clock;

#[cfg(not(any(test, feature = "internals")))]
mod real {
    pub(super) use super::now as nanos;
}

/// A clock that tests of the counter stop: it would hide that the counter fails.
#[cfg(any(test, feature = "internals"))]
pub(crate) mod stoppable {
    use std::sync::atomic::{AtomicBool, Ordering};

    // The tests inside this crate are of the counter.
    static STOPPED: AtomicBool = AtomicBool::new(cfg!(test));

    pub(super) fn nanos() -> u64 {
        if STOPPED.load(Ordering::Relaxed) { 0 } else { super::now() }
    }

    #[cfg(feature = "internals")]
    pub(crate) fn stop() {
        STOPPED.store(true, Ordering::Relaxed);
    }
}
