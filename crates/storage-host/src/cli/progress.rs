//! Progress of long work on a terminal, and actions when work takes long.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;
use super::stderr;
use crate::cli::failure::Failure;

/// How often the line is drawn.
const TICK: Duration = Duration::from_millis(100);

/// A progress line on standard error, if that is a terminal without JSON. Dropping it
/// removes the line.
pub(super) struct Progress {
    line: ProgressBar,
    next: Instant,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        let line =
            if stderr::is_json() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}") {
            line.set_style(style);
        }
        line.set_prefix(what);
        // indicatif panics if it cannot start a thread, even if nothing is drawn.
        if stderr::is_watched() && thread::Builder::new().spawn(|| ()).is_ok() {
            line.enable_steady_tick(TICK);
        }
        Self { line, next: Instant::now() }
    }

    /// Shows how far the work is, at most once per [`TICK`].
    pub(super) fn update(&mut self, message: impl FnOnce() -> String) {
        let now = Instant::now();
        if now >= self.next && !self.line.is_hidden() {
            self.next = now + TICK;
            self.line.set_message(message());
        }
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
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::when_late;

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
