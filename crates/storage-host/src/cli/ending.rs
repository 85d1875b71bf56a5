//! Graceful shutdown on a signal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use storage_host::StorageHost;

use super::failure::Failure;

/// How long writes in progress and the flush may take.
const FLUSH: Duration = Duration::from_secs(10);

/// How long the main thread may then take to close the store. As long as a component runs
/// without calling storage, the main thread cannot close it.
#[cfg(unix)]
const CLOSE: Duration = Duration::from_secs(1);

type Cleanup = Box<dyn FnOnce() -> Result<(), Failure> + Send>;

static ENDING: AtomicBool = AtomicBool::new(false);
static CLEANUPS: Mutex<BTreeMap<u64, Cleanup>> = Mutex::new(BTreeMap::new());
/// Whether the main thread has closed everything.
static CLOSED: Mutex<bool> = Mutex::new(false);
static HAS_CLOSED: Condvar = Condvar::new();

/// Shuts the command down gracefully on a signal, and lets a write above the file size
/// limit fail.
#[cfg(unix)]
pub(super) fn handle_signals(json: bool) {
    use storage_host::signals;

    let handled = signals::survive_file_size_limit()
        .and_then(|()| signals::on_termination(move |_| end(json)));
    if let Err(error) = handled {
        tracing::warn!("cannot handle signals, which now end the command without a flush: {error}");
    }
}

#[cfg(not(unix))]
pub(super) fn handle_signals(_json: bool) {}

/// Whether a signal is ending the command. Then nothing else is reported.
pub(super) fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

/// A cleanup that a signal runs while this value exists.
pub(super) struct OnSignal(u64);

impl OnSignal {
    fn new(cleanup: Cleanup) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(&CLEANUPS).insert(number, cleanup);
        Self(number)
    }

    /// Shuts a host down: refuses new calls, finishes writes in progress, flushes the store.
    pub(super) fn shut_down(host: &StorageHost) -> Self {
        let host = host.clone();
        Self::new(Box::new(move || Ok(host.shut_down(FLUSH)?)))
    }

    /// Removes a temporary directory with its contents.
    pub(super) fn remove(directory: PathBuf) -> Self {
        Self::new(Box::new(move || {
            let _ = std::fs::remove_dir_all(directory);
            Ok(())
        }))
    }
}

impl Drop for OnSignal {
    fn drop(&mut self) {
        // Dropped after the lock is released: the last handle of a host closes its store.
        let cleanup = lock(&CLEANUPS).remove(&self.0);
        drop(cleanup);
    }
}

#[cfg(unix)]
fn end(json: bool) {
    ENDING.store(true, Ordering::SeqCst);
    let cleanups = std::mem::take(&mut *lock(&CLEANUPS));
    if cleanups.is_empty() {
        return;
    }
    for cleanup in cleanups.into_values() {
        if let Err(failure) = cleanup() {
            failure.report(json);
        }
    }
    let closed = lock(&CLOSED);
    let _ = HAS_CLOSED.wait_timeout_while(closed, CLOSE, |closed| !*closed);
}

/// Called by the main thread when it has closed everything. Does not return if a signal
/// is ending the command.
pub(super) fn wait_if_ending() {
    if !is_ending() {
        return;
    }
    *lock(&CLOSED) = true;
    HAS_CLOSED.notify_all();
    loop {
        thread::park();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
