//! How much a component may write to the log of the host.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use storage_core::ComponentId;

/// The `tracing` target of what components log, for filters.
pub const LOG_TARGET: &str = "storage_host::guest_log";

/// The most lines that a component may log within [`PERIOD`].
pub(crate) const LINES: u32 = 100;

const PERIOD: Duration = Duration::from_secs(1);

/// The lines that each component has logged recently. A component keeps its budget when its
/// last instance ends: hosts may create one for each request.
#[derive(Debug, Default)]
pub(crate) struct LogBudgets(Mutex<HashMap<ComponentId, Period>>);

/// How many budgets are kept before those of ended periods are removed.
const KEPT: usize = 1_024;

/// A period of a component that logs.
#[derive(Debug)]
struct Period {
    began: Instant,
    lines: u32,
    /// The lines suppressed since the last one that was logged.
    suppressed: u64,
    /// Whether suppressed lines were reported without a line in this period.
    is_reported: bool,
}

impl Period {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= PERIOD
    }
}

impl LogBudgets {
    /// Takes one line. Returns how many lines were suppressed before it, or `None` if it
    /// must be suppressed itself.
    pub(crate) fn take(&self, component: &ComponentId, now: Instant) -> Option<u64> {
        let mut periods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if periods.len() >= KEPT && !periods.contains_key(component) {
            periods.retain(|_, period| !period.is_over(now) || period.suppressed > 0);
        }
        let period = periods.entry(component.clone()).or_insert(Period {
            began: now,
            lines: 0,
            suppressed: 0,
            is_reported: false,
        });
        if period.is_over(now) {
            (period.began, period.lines, period.is_reported) = (now, 0, false);
        }
        if period.lines >= LINES {
            period.suppressed = period.suppressed.saturating_add(1);
            return None;
        }
        period.lines += 1;
        Some(std::mem::take(&mut period.suppressed))
    }

    /// Reports the suppressed lines that no later line has reported, once in a period. Called
    /// when the last instance of a component ends.
    pub(crate) fn report_suppressed(&self, component: &ComponentId) {
        report(component, self.take_suppressed(component));
    }

    fn take_suppressed(&self, component: &ComponentId) -> u64 {
        let mut periods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match periods.get_mut(component) {
            Some(period) if !period.is_reported => {
                period.is_reported = period.suppressed > 0;
                std::mem::take(&mut period.suppressed)
            }
            _ => 0,
        }
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
        let budgets = LogBudgets::default();
        let [one, other]: [ComponentId; 2] = ["a/b/1", "a/b/2"].map(|id| id.parse().unwrap());
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let taken = |count| (0..count).filter_map(|_| budgets.take(&one, at(0))).count();
        assert_eq!(taken(150), 100);
        assert_eq!(budgets.take(&one, at(999)), None);
        assert_eq!(budgets.take(&other, at(999)), Some(0));
        assert_eq!(budgets.take(&one, at(1_000)), Some(51));
        assert_eq!(budgets.take(&one, at(1_001)), Some(0));
        // Time that seems to go back, as between threads, does not begin a period.
        for _ in 0..98 {
            assert_eq!(budgets.take(&one, at(0)), Some(0));
        }
        assert_eq!(budgets.take(&one, at(0)), None);
        assert_eq!(budgets.take_suppressed(&one), 1);
        assert_eq!(budgets.take(&one, at(500)), None, "a report begins no period");
        assert_eq!(budgets.take_suppressed(&one), 0, "the second report of a period");
        assert_eq!(budgets.take(&one, at(60_000)), Some(1));
    }

    #[test]
    fn ended_periods_of_many_components_are_removed() {
        let budgets = LogBudgets::default();
        let start = Instant::now();
        for number in 0..3 * KEPT as u32 {
            let id = ComponentId::new("a", "b", &number.to_string()).unwrap();
            assert_eq!(budgets.take(&id, start + PERIOD * number), Some(0));
        }
        assert!(budgets.0.lock().unwrap().len() <= KEPT);
    }
}
