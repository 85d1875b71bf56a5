//! `--wait`: retries while another process has locked the store.

use std::thread;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::stderr;

/// How long a command waits for a locked store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait(Duration);

/// The pause after the first attempt. It doubles up to `LONGEST_PAUSE`, so that many
/// waiting processes do not use much time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait before a note on a terminal explains it.
const QUIET: Duration = Duration::from_secs(1);

impl Wait {
    pub(super) const fn seconds(seconds: u32) -> Self {
        Self(Duration::from_secs(seconds as u64))
    }

    pub(super) fn as_seconds(self) -> u64 {
        self.0.as_secs()
    }

    /// Repeats `attempt` while the store is locked and the time is not over. Makes at least
    /// one attempt, and a last one after the time.
    pub(super) fn until_unlocked<T>(
        self,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut has_noted = false;
        loop {
            let failure = match attempt() {
                Err(failure) if failure.is_of_kind("locked") => failure,
                other => return other,
            };
            let waited = start.elapsed();
            let Some(left) = self.0.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Err(self.timed_out(failure));
            };
            if pause == FIRST_PAUSE {
                tracing::info!("waiting up to {} s: {failure}", self.0.as_secs());
            }
            if !has_noted && waited >= QUIET && stderr::is_watched() {
                has_noted = true;
                let seconds = left.as_secs();
                stderr::note(format_args!("waiting up to {seconds} s more: {failure}"));
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn timed_out(self, failure: Failure) -> Failure {
        match self.0.as_secs() {
            0 => failure,
            seconds => failure.with(&format!("; waited {seconds} s (see --wait)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_failures_are_not_retried() {
        let mut attempts = 0;
        let ended = Wait::seconds(600).until_unlocked(|| -> Result<(), Failure> {
            attempts += 1;
            Err(Failure::new("io", "the disk failed"))
        });
        assert_eq!(ended.unwrap_err().to_string(), "the disk failed");
        assert_eq!(attempts, 1);
    }
}
