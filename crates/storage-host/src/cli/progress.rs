//! Progress of long work on a terminal, and actions when work takes long.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use storage_host::Usage;

use super::output::Output;
use super::stderr;
use crate::cli::failure::Failure;

/// How often the line is drawn.
const TICK: Duration = Duration::from_millis(100);

/// A progress line on standard error, if that is a terminal without JSON. Dropping it
/// removes the line.
pub(super) struct Progress {
    line: ProgressBar,
    begun: Instant,
    next: Instant,
}

impl Progress {
    /// Progress whose end is unknown.
    pub(super) fn new(what: &'static str) -> Self {
        Self::of(what, None)
    }

    /// Progress to a total, with the share that is done and the remaining time.
    pub(super) fn of(what: &'static str, total: Option<u64>) -> Self {
        let line = match total {
            _ if stderr::is_json() => ProgressBar::hidden(),
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::new_spinner(),
        };
        let template = match total {
            Some(_) => "{spinner} {prefix} {elapsed} {percent}%, {eta} left, {wide_msg}",
            None => "{spinner} {prefix} {elapsed} {wide_msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            line.set_style(style);
        }
        line.set_prefix(what);
        // indicatif panics if it cannot start a thread, even if nothing is drawn.
        if stderr::is_watched() && thread::Builder::new().spawn(|| ()).is_ok() {
            line.enable_steady_tick(TICK);
        }
        let now = Instant::now();
        Self { line, begun: now, next: now }
    }

    /// Shows how far the work is, at most once per [`TICK`]. `message` gets the time since
    /// the beginning.
    fn update(&mut self, position: u64, message: impl FnOnce(Duration) -> String) {
        let now = Instant::now();
        if now >= self.next && !self.line.is_hidden() {
            self.next = now + TICK;
            self.line.set_position(position);
            self.line.set_message(message(now.duration_since(self.begun)));
        }
    }

    /// Shows how much was transferred, at which rate, and the last key. `position` is in the
    /// unit of the total.
    pub(super) fn moved(&mut self, position: u64, moved: Usage, key: &str) {
        self.update(position, |time| format!("{}, at {}", rates(moved, time), key.escape_debug()));
    }

    /// Shows a number of keys, of which the total is known.
    pub(super) fn counted(&mut self, keys: u64) {
        self.update(keys, |time| {
            format!("{}, {}/s", counted(keys, "key"), HumanCount(per_second(keys, time)))
        });
    }

    /// Writes to the output at once, above the line.
    pub(super) fn show(
        &self,
        output: &mut Output,
        write: impl FnOnce(&mut Output) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.line.suspend(|| {
            write(output)?;
            output.finish()
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}

/// An amount, and how much of it a second.
fn rates(moved: Usage, time: Duration) -> String {
    format!(
        "{}, {}, {} keys/s, {}/s",
        counted(moved.keys, "key"),
        HumanBytes(moved.bytes),
        HumanCount(per_second(moved.keys, time)),
        HumanBytes(per_second(moved.bytes, time))
    )
}

fn per_second(amount: u64, time: Duration) -> u64 {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    amount.saturating_mul(1_000) / milliseconds
}

/// Runs `work`, and calls `act` if the work takes longer than `time`, unless no thread can
/// be started for this.
pub(super) fn when_late<R>(
    time: Duration,
    act: impl FnOnce() + Send,
    work: impl FnOnce() -> R,
) -> R {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let started = thread::Builder::new().spawn_scoped(scope, move || {
            if is_done.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
                act();
            }
        });
        if let Err(error) = started {
            tracing::warn!("cannot start a thread to watch the time: {error}");
        }
        let result = work();
        drop(done);
        result
    })
}

/// A number with its noun: `1 key`, `2 keys`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A readable number of bytes: `1.5 GiB`.
pub(super) fn human_bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use storage_host::Usage;

    use super::{rates, when_late};

    #[test]
    fn rates_are_those_since_the_beginning() {
        let moved = Usage { keys: 3_000, bytes: 3 << 20 };
        let shown = rates(moved, Duration::from_secs(2));
        assert_eq!(shown, "3000 keys, 3.00 MiB, 1,500 keys/s, 1.50 MiB/s");
        // Not divided by zero.
        let shown = rates(Usage { keys: 1, bytes: 1 }, Duration::ZERO);
        assert_eq!(shown, "1 key, 1 B, 1,000 keys/s, 1000 B/s");
    }

    #[test]
    fn only_late_work_calls_the_action() {
        let (called, is_called) = mpsc::channel();
        // The work ends only after the call.
        let waited = when_late(
            Duration::ZERO,
            || called.send(()).unwrap(),
            || is_called.recv_timeout(Duration::from_secs(600)),
        );
        assert_eq!(waited, Ok(()));
        when_late(Duration::from_secs(600), || panic!("it was not late"), || ());
    }
}
