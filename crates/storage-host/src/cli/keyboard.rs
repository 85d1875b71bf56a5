//! Single keys on a terminal, without echo.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::ending::OnSignal;

/// Standard input as a keyboard, if it is a terminal.
pub(super) struct Keyboard(Option<(Arc<Original>, OnSignal)>);

/// The settings of a terminal, which are restored at the end.
pub(super) struct Original(Termios);

impl Original {
    pub(super) fn restore(&self) {
        // Nothing helps if it fails.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

impl Keyboard {
    /// No keyboard: only the time passes.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Turns line editing and echo off. Ctrl-C still sends its signal.
    pub(super) fn open() -> Self {
        let Ok(original) = tcgetattr(io::stdin()) else { return Self(None) };
        let mut single = original.clone();
        single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        let original = Arc::new(Original(original));
        let on_signal = OnSignal::restore(&original);
        if tcsetattr(io::stdin(), OptionalActions::Now, &single).is_err() {
            return Self(None);
        }
        Self(Some((original, on_signal)))
    }

    /// Waits for this time. Returns early, with `true`, if `q` is pressed or the terminal is
    /// gone.
    pub(super) fn is_quit_within(&self, time: Duration) -> bool {
        if self.0.is_none() {
            thread::sleep(time);
            return false;
        }
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let stdin = io::stdin();
            let mut keys = [PollFd::new(&stdin, PollFlags::IN)];
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut keys, timeout.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(_) => return true,
            }
            let mut key = [0];
            match rustix::io::read(&stdin, &mut key) {
                Ok(0) | Err(_) => return true,
                Ok(_) if matches!(&key, b"q" | b"Q") => return true,
                Ok(_) => {}
            }
        }
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        if let Some((original, _)) = &self.0 {
            original.restore();
        }
    }
}
