//! The first revision of an opening for writing.
//!
//! A store that was restored from a copy has the copy's counter. The counter alone would
//! use revisions again, and a check against an old revision would pass for a different
//! write. The store cannot detect this, because a disk snapshot restores every byte. So
//! each opening starts at the current time in nanoseconds, or later.
//!
//! The time stays ahead of every store: a write takes more than a nanosecond, and an
//! opening, which skips at most a block of 65,536 revisions, more than 66 microseconds.
//! Nanoseconds fit into 63 bits until the year 2262.

use std::time::{SystemTime, UNIX_EPOCH};

/// The larger of `reserved`, below which revisions may be in use, and the nanoseconds
/// since 1970.
pub(crate) fn first_revision(reserved: u64) -> u64 {
    reserved.max(clock::nanos())
}

/// Nanoseconds since 1970; 0 for an earlier clock.
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

/// A clock that tests of the counter stop, because it would hide a broken counter.
#[cfg(any(test, feature = "internals"))]
pub(crate) mod stoppable {
    use std::sync::atomic::{AtomicBool, Ordering};

    // The unit tests of this crate test the counter.
    static STOPPED: AtomicBool = AtomicBool::new(cfg!(test));

    pub(super) fn nanos() -> u64 {
        if STOPPED.load(Ordering::Relaxed) { 0 } else { super::now() }
    }

    #[cfg(feature = "internals")]
    pub(crate) fn stop() {
        STOPPED.store(true, Ordering::Relaxed);
    }
}
