//! Graceful shutdown on a signal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use storage_host::StorageHost;
#[cfg(unix)]
use {std::sync::Arc, storage_host::admin::AdminServer};

use super::failure::Failure;
#[cfg(unix)]
use super::keyboard::Original;

/// How long writes in progress and the flush may take.
const FLUSH: Duration = Duration::from_secs(10);

/// How long the main thread may then take to close the store. As long as a component runs
/// without calling storage, the main thread cannot close it.
#[cfg(unix)]
const CLOSE: Duration = Duration::from_secs(1);

/// What a SIGHUP does in a command with a manifest.
#[cfg(unix)]
struct Hangup {
    /// Whether one arrived before there was a host.
    has_arrived: bool,
    reload: Option<Arc<dyn Fn() + Send + Sync>>,
}

type Cleanup = Box<dyn FnOnce() -> Result<(), Failure> + Send>;

static ENDING: AtomicBool = AtomicBool::new(false);
static CLEANUPS: Mutex<BTreeMap<u64, Cleanup>> = Mutex::new(BTreeMap::new());
#[cfg(unix)]
static HANGUP: Mutex<Hangup> = Mutex::new(Hangup { has_arrived: false, reload: None });
/// Whether the main thread has closed everything.
static CLOSED: Mutex<bool> = Mutex::new(false);
static HAS_CLOSED: Condvar = Condvar::new();

/// Shuts the command down gracefully on a signal, and lets a write above the file size
/// limit fail. If `reloads`, SIGHUP calls what [`OnHangup`] has.
#[cfg(unix)]
pub(super) fn handle_signals(json: bool, reloads: bool) {
    use storage_host::signals;

    let end = move |_| end(json);
    let handled = signals::survive_file_size_limit().and_then(|()| match reloads {
        true => signals::on_termination_or_reload(end, hang_up),
        false => signals::on_termination(end),
    });
    if let Err(error) = handled {
        tracing::warn!("cannot handle signals, which now end the command without a flush: {error}");
    }
}

#[cfg(not(unix))]
pub(super) fn handle_signals(_json: bool, _reloads: bool) {}

/// Whether a signal is ending the command. Then nothing else is reported.
pub(super) fn is_ending() -> bool {
    ENDING.load(Ordering::SeqCst)
}

#[cfg(unix)]
fn hang_up() {
    let mut hangup = lock(&HANGUP);
    let Some(reload) = hangup.reload.clone() else {
        hangup.has_arrived = true;
        return;
    };
    drop(hangup);
    // The thread of the signals must not wait for a file.
    let started = thread::Builder::new().name("reload".to_owned()).spawn(move || reload());
    if let Err(error) = started {
        tracing::error!(%error, "cannot start a thread to reload the manifest; nothing was changed");
    }
}

/// What SIGHUP does while this value exists, in a command with a manifest.
#[cfg(unix)]
pub(super) struct OnHangup(());

#[cfg(unix)]
impl OnHangup {
    /// Calls `reload`, at once if a SIGHUP arrived before.
    pub(super) fn call(reload: impl Fn() + Send + Sync + 'static) -> Self {
        let mut hangup = lock(&HANGUP);
        hangup.reload = Some(Arc::new(reload));
        let has_arrived = std::mem::take(&mut hangup.has_arrived);
        drop(hangup);
        if has_arrived {
            hang_up();
        }
        Self(())
    }
}

#[cfg(unix)]
impl Drop for OnHangup {
    fn drop(&mut self) {
        // Dropped after the lock is released, as it may be the last handle of a host.
        let reload = lock(&HANGUP).reload.take();
        drop(reload);
    }
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

    /// The same, after `before`.
    #[cfg(feature = "serve")]
    pub(super) fn shut_down_after(
        before: impl FnOnce() + Send + 'static,
        host: &StorageHost,
    ) -> Self {
        let host = host.clone();
        Self::new(Box::new(move || {
            before();
            Ok(host.shut_down(FLUSH)?)
        }))
    }

    /// Removes an admin socket.
    #[cfg(unix)]
    pub(super) fn stop(server: &Arc<AdminServer>) -> Self {
        let server = Arc::clone(server);
        Self::new(Box::new(move || {
            server.stop();
            Ok(())
        }))
    }

    /// Restores a terminal.
    #[cfg(unix)]
    pub(super) fn restore(terminal: &Arc<Original>) -> Self {
        let terminal = Arc::clone(terminal);
        Self::new(Box::new(move || {
            terminal.restore();
            Ok(())
        }))
    }

    /// Removes a temporary file, or a temporary directory with its contents.
    pub(super) fn remove(path: PathBuf) -> Self {
        Self::new(Box::new(move || {
            let _ = match path.is_dir() {
                true => std::fs::remove_dir_all(path),
                false => std::fs::remove_file(path),
            };
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
