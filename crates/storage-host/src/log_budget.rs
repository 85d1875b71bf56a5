//! How much a component may write to the log of the host.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use storage_core::ComponentId;

/// The `tracing` target of what components log, for filters.
pub const LOG_TARGET: &str = "storage_host::guest_log";

/// The most lines that a component may log within [`PERIOD`].
pub(crate) const LINES: u32 = 100;

const PERIOD: Duration = Duration::from_secs(1);

/// The lines that the instances of a component have logged recently.
#[derive(Debug, Default)]
pub(crate) struct LogBudget(Mutex<Period>);

#[derive(Debug, Default)]
struct Period {
    began: Option<Instant>,
    lines: u32,
    /// The lines suppressed since the last one that was logged.
    suppressed: u64,
}

impl LogBudget {
    /// Takes one line. Returns how many lines were suppressed before it, or `None` if it
    /// must be suppressed itself.
    pub(crate) fn take(&self, now: Instant) -> Option<u64> {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if period.began.is_none_or(|began| now.saturating_duration_since(began) >= PERIOD) {
            (period.began, period.lines) = (Some(now), 0);
        }
        if period.lines >= LINES {
            period.suppressed = period.suppressed.saturating_add(1);
            return None;
        }
        period.lines += 1;
        Some(std::mem::take(&mut period.suppressed))
    }

    /// Reports the suppressed lines that no later line has reported.
    pub(crate) fn end(&mut self, component: &ComponentId) {
        let period = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        report(component, std::mem::take(&mut period.suppressed));
    }
}

/// Logs that lines of a component were suppressed, if any were. An error, so that it is
/// logged whenever one of the lines would have been.
pub(crate) fn report(component: &ComponentId, suppressed: u64) {
    if suppressed > 0 {
        tracing::error!(
            target: LOG_TARGET,
            %component,
            suppressed,
            "a component logged more than {LINES} lines per second",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_period_has_its_lines_and_reports_what_was_suppressed() {
        let budget = LogBudget::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let taken = |from, count| (from..from + count).filter_map(|_| budget.take(at(0))).count();
        assert_eq!(taken(0, 150), 100);
        assert_eq!(budget.take(at(999)), None);
        assert_eq!(budget.take(at(1_000)), Some(51));
        assert_eq!(budget.take(at(1_001)), Some(0));
        // Time that seems to go back, as between threads, does not begin a period.
        for _ in 0..98 {
            assert_eq!(budget.take(at(0)), Some(0));
        }
        assert_eq!(budget.take(at(0)), None);
        assert_eq!(budget.take(at(60_000)), Some(1));
    }
}
