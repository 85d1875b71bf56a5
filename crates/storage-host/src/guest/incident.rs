//! Numbers that connect what a guest or client is told with the log.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies the log entry with the details of an error. Counted per process.
pub(crate) struct Incident(u64);

impl Incident {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn number(&self) -> String {
        format!("{:08x}", self.0)
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "incident {}", self.number())
    }
}
