//! The thread that makes a relaxed store durable at an interval.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use storage_core::StorageError;

/// How long a write to a relaxed store may stay in memory. The tests of this crate
/// flush explicitly: a write that shared a transaction with a background flush would
/// get its error.
const INTERVAL: Duration =
    if cfg!(test) { Duration::from_secs(3_600) } else { Duration::from_millis(100) };

/// Stops the thread, after a last flush, when it is dropped.
#[derive(Debug)]
pub(super) struct Flusher {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    pub(super) fn start(flush: impl Fn() + Send + 'static) -> Result<Self, StorageError> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = Arc::clone(&stop);
        let inherit_faults = crate::faults::inherit_faults();
        let run = move || {
            inherit_faults();
            let (stop, changed) = &*shared;
            let mut stopped = stop.lock().unwrap_or_else(PoisonError::into_inner);
            while !*stopped {
                let waited = changed.wait_timeout(stopped, INTERVAL);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
                flush();
                stopped = stop.lock().unwrap_or_else(PoisonError::into_inner);
            }
        };
        let spawned = thread::Builder::new().name("storage-flush".into()).spawn(run);
        let thread = spawned.map_err(|error| {
            StorageError::IoError(format!("cannot start the thread that flushes: {error}"))
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
