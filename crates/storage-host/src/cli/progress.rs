//! Long work: how far it has come, on a terminal, and what to do when it is late.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;
use super::stderr;
use crate::cli::failure::Failure;

/// How often the line is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// A line on standard error, if that is a terminal and holds no JSON; otherwise
/// nothing at all.
/// Gone when it is dropped.
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
        // The library panics where no thread is to be had, even if nothing is drawn.
        if stderr::is_watched() && thread::Builder::new().spawn(|| ()).is_ok() {
            line.enable_steady_tick(TICK);
        }
        Self { line, next: Instant::now() }
    }

    /// Says where the work is, if it is time to.
    pub(super) fn at(&mut self, place: impl FnOnce() -> String) {
        let now = Instant::now();
        if now >= self.next && !self.line.is_hidden() {
            self.next = now + TICK;
            self.line.set_message(place());
        }
    }

    /// Shows what is written to the output, now and above the line.
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

/// Does some work, and something else beside it if that is not done in time, and if
/// there is a thread to be had for it.
pub(super) fn when_late<R>(
    time: Duration,
    act: impl FnOnce() + Send,
    work: impl FnOnce() -> R,
) -> R {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let beside = thread::Builder::new().spawn_scoped(scope, move || {
            if is_done.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
                act();
            }
        });
        if let Err(error) = beside {
            tracing::warn!("no thread to wait beside what takes long: {error}");
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

/// Bytes as people say them: `1.5 GiB`.
pub(super) fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::when_late;

    #[test]
    fn only_what_is_late_is_told() {
        let (told, is_told) = mpsc::channel();
        // The work is not done before it is told of.
        let waited = when_late(
            Duration::ZERO,
            || told.send(()).unwrap(),
            || is_told.recv_timeout(Duration::from_secs(600)),
        );
        assert_eq!(waited, Ok(()));
        when_late(Duration::from_secs(600), || panic!("it was in time"), || ());
    }
}
