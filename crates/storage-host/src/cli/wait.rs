//! `--wait`: trying again while another process has the store locked.

use std::thread;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::stderr;

/// How long a command waits for a locked store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait(Duration);

/// The pause after the first attempt. It doubles up to `LONGEST_PAUSE`, so that
/// many waiting processes do not keep the machine busy.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How long a person at a terminal waits without being told why.
const QUIET: Duration = Duration::from_secs(1);

impl Wait {
    pub(super) const fn seconds(seconds: u32) -> Self {
        Self(Duration::from_secs(seconds as u64))
    }

    /// The number for `--wait` of another process.
    pub(super) fn as_seconds(self) -> u64 {
        self.0.as_secs()
    }

    /// Repeats `attempt` while it fails because the store is locked, until the time
    /// is over. There is at least one attempt, and the last one comes after the end
    /// of the time.
    pub(super) fn until_unlocked<T>(
        self,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            let failure = match attempt() {
                Err(failure) if failure.is_of_kind("locked") => failure,
                other => return other,
            };
            let waited = start.elapsed();
            let Some(left) = self.0.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Err(self.given_up(failure));
            };
            if pause == FIRST_PAUSE {
                tracing::info!("waiting for up to {} s: {failure}", self.0.as_secs());
            }
            if !told && waited >= QUIET && stderr::is_watched() {
                told = true;
                let seconds = left.as_secs();
                stderr::note(format_args!("waiting for up to {seconds} s more: {failure}"));
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn given_up(self, failure: Failure) -> Failure {
        match self.0.as_secs() {
            0 => failure,
            seconds => failure.with(&format!("; waited {seconds} s (--wait SECONDS)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked() -> Failure {
        Failure::new("locked", "the store is locked")
    }

    fn message(failure: Failure) -> String {
        failure.to_string()
    }

    #[test]
    fn without_a_wait_there_is_one_attempt() {
        let mut attempts = 0;
        let ended = Wait::seconds(0).until_unlocked(|| -> Result<(), Failure> {
            attempts += 1;
            Err(locked())
        });
        assert_eq!(message(ended.unwrap_err()), "the store is locked");
        assert_eq!(attempts, 1);
    }

    #[test]
    fn a_locked_store_is_tried_again_until_it_is_free() {
        let mut attempts = 0;
        let ended = Wait::seconds(600).until_unlocked(|| {
            attempts += 1;
            if attempts < 4 { Err(locked()) } else { Ok(attempts) }
        });
        assert_eq!(ended.unwrap(), 4);
    }

    #[test]
    fn other_failures_are_not_tried_again() {
        let mut attempts = 0;
        let ended = Wait::seconds(600).until_unlocked(|| -> Result<(), Failure> {
            attempts += 1;
            Err(Failure::new("io", "the disk failed"))
        });
        assert_eq!(message(ended.unwrap_err()), "the disk failed");
        assert_eq!(attempts, 1);
    }

    #[test]
    fn the_failure_after_a_wait_says_how_long_it_was() {
        let ended = Wait::seconds(1).until_unlocked(|| -> Result<(), Failure> { Err(locked()) });
        assert_eq!(message(ended.unwrap_err()), "the store is locked; waited 1 s (--wait SECONDS)");
    }
}
