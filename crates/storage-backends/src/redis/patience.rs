//! How long a call goes on, and what it tries again.

use std::thread;
use std::time::{Duration, Instant};

/// The pauses between attempts: the first one, doubled each time up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How many redirections are followed without a pause.
const MAX_REDIRECTIONS: u32 = 4;

/// What is left of one call.
pub(super) struct Patience {
    pub(super) deadline: Instant,
    pause: Duration,
    redirections: u32,
    has_lost: bool,
}

impl Patience {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, pause: FIRST_PAUSE, redirections: 0, has_lost: false }
    }

    /// Waits before the next attempt. Returns `false` at once if there is no time for one.
    pub(super) fn pause(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left <= self.pause {
            return false;
        }
        thread::sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }

    /// Waits before following a redirection, if there were many. Returns `false` if there is no
    /// time left.
    pub(super) fn redirect(&mut self) -> bool {
        self.redirections += 1;
        self.redirections <= MAX_REDIRECTIONS || self.pause()
    }

    /// Whether this is the first connection that was lost, and there is time for another one.
    pub(super) fn first_loss(&mut self) -> bool {
        !std::mem::replace(&mut self.has_lost, true) && Instant::now() < self.deadline
    }
}
