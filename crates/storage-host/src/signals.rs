//! Shuts a process down gracefully on a signal.
//!
//! By default, `SIGTERM`, `SIGINT` and `SIGHUP` end a process at once, which loses writes
//! that a store has acknowledged but not made durable. Process 1 of a container ignores
//! them. With [`on_termination`] they always run an action, such as
//! [`StorageHost::shut_down`](crate::StorageHost::shut_down), and then end the process with
//! the exit status 128 + n, as shells report signal n.
//!
//! ```no_run
//! use std::time::Duration;
//! use storage_host::{Mode, StorageHost, StoreUrl, signals};
//!
//! let store: StoreUrl = "redb:data.redb?durability=relaxed".parse()?;
//! let host = StorageHost::new(store.open(Mode::ReadWrite)?);
//! let ending = host.clone();
//! signals::on_termination(move |signal| {
//!     if let Err(error) = ending.shut_down(Duration::from_secs(10)) {
//!         tracing::error!(%signal, %error, "cannot flush the store");
//!     }
//! })?;
//! signals::survive_file_size_limit()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{flag, iterator, low_level};

/// The signals that ask a process to end.
const ENDING: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// How soon after the first signal another one is part of the same request: `timeout`
/// and some terminals send a signal to the process and to its process group.
const SAME_REQUEST: Duration = Duration::from_millis(200);

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// The exit status of a process that the signal ended: 128 plus its number.
    pub fn exit_status(self) -> u8 {
        u8::try_from(self.0).map_or(u8::MAX, |number| number.saturating_add(128))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match low_level::signal_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// Handles `SIGTERM`, `SIGINT` and `SIGHUP`: calls `action` on a new thread, and ends the
/// process with [`Signal::exit_status`] when it returns. A further signal ends the process
/// at once, unless it arrives within 200 ms of the first and so is part of the same request.
///
/// `action` must limit its own run time, as
/// [`StorageHost::shut_down`](crate::StorageHost::shut_down) does. Nothing else is cleaned
/// up: destructors do not run, and buffered standard output is lost unless `action` flushes
/// it.
///
/// A signal that is already ignored stays ignored, as `nohup` and shells expect. Only on
/// Linux is this known; elsewhere `SIGHUP` keeps its default action. Call this once, early.
///
/// # Errors
/// If no thread or descriptor is left. The signals then end the process at once with that
/// status, even process 1.
pub fn on_termination(action: impl FnOnce(Signal) + Send + 'static) -> io::Result<()> {
    let signals = ENDING.into_iter().filter(|signal| !is_ignored(*signal)).collect();
    start(signals, None::<fn()>, action)
}

/// As [`on_termination`], but `SIGHUP` does not end the process: it calls `reload`, on the
/// thread that waits for signals. `reload` must return soon. A `SIGHUP` that is ignored on
/// Linux stays ignored.
///
/// # Errors
/// As [`on_termination`]; then `SIGHUP` ends the process too.
pub fn on_termination_or_reload(
    action: impl FnOnce(Signal) + Send + 'static,
    reload: impl FnMut() + Send + 'static,
) -> io::Result<()> {
    let is_handled = |signal: &i32| {
        !is_ignored(*signal) || (*signal == SIGHUP && cfg!(not(target_os = "linux")))
    };
    start(ENDING.into_iter().filter(is_handled).collect(), Some(reload), action)
}

fn start(
    signals: Vec<i32>,
    reload: Option<impl FnMut() + Send + 'static>,
    action: impl FnOnce(Signal) + Send + 'static,
) -> io::Result<()> {
    let started = iterator::Signals::new(&signals).and_then(|arriving| {
        let handle = move || handle(arriving, reload, action);
        thread::Builder::new().name("signals".to_owned()).spawn(handle)
    });
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            let always = Arc::new(AtomicBool::new(true));
            for signal in signals {
                let status = Signal(signal).exit_status().into();
                flag::register_conditional_shutdown(signal, status, Arc::clone(&always))?;
            }
            Err(error)
        }
    }
}

fn handle(
    mut arriving: iterator::Signals,
    mut reload: Option<impl FnMut()>,
    action: impl FnOnce(Signal) + Send + 'static,
) {
    let ends = |signal: &Signal| match &mut reload {
        Some(reload) if signal.0 == SIGHUP => {
            reload();
            false
        }
        _ => true,
    };
    let mut signals = arriving.forever().map(Signal).filter(ends);
    let Some(first) = signals.next() else { return };
    let begun = Instant::now();
    let end = move |signal: Signal| low_level::exit(signal.exit_status().into());
    let act = move || {
        action(first);
        end(first);
    };
    if thread::Builder::new().name("ending".to_owned()).spawn(act).is_err() {
        // Without a thread for the action, end at once.
        end(first);
    }
    for next in signals {
        if begun.elapsed() > SAME_REQUEST {
            end(next);
        }
    }
}

/// Whether the parent process set a signal to be ignored.
#[cfg(target_os = "linux")]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    // Signals are counted from 1.
    mask >> (signal - 1) & 1 == 1
}

#[cfg(not(target_os = "linux"))]
fn is_ignored(signal: i32) -> bool {
    signal == SIGHUP
}

/// Makes a write above the file size limit (`ulimit -f`) fail with an error, where
/// `SIGXFSZ` would otherwise end the process.
///
/// # Errors
/// If the signal cannot be handled.
pub fn survive_file_size_limit() -> io::Result<()> {
    // An ignored signal would be inherited by child processes; a handler is not.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(drop)
}
