//! The thread that moves the bytes of all connections.

use std::future::Future;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use storage_core::StorageError;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// How long connections may take to say goodbye when the store is closed.
const CLOSING: Duration = Duration::from_secs(1);

/// A tokio runtime in one thread of the store. Dropping it waits briefly until all clones of
/// its [`Spawner`] are dropped and all tasks have ended.
#[derive(Debug)]
pub(super) struct Runtime {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts tasks in a [`Runtime`].
#[derive(Debug, Clone)]
pub(super) struct Spawner {
    handle: Handle,
    /// Held by each task.
    alive: mpsc::Sender<()>,
}

impl Runtime {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`StorageError::IoError`] if the thread cannot be started.
    pub(super) fn start() -> Result<(Self, Spawner), StorageError> {
        let failed = |error: std::io::Error| {
            StorageError::IoError(format!("cannot start the thread of a PostgreSQL store: {error}"))
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (alive, mut ended) = mpsc::channel::<()>(1);
        let run = move || {
            runtime.block_on(async {
                // The sender is dropped with the store.
                let _ = stopped.await;
                let _ = tokio::time::timeout(CLOSING, ended.recv()).await;
            });
            // A name that is being resolved may take longer.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("postgres".to_owned()).spawn(run);
        let thread = thread.map_err(failed)?;
        Ok((Self { stop: Some(stop), thread: Some(thread) }, Spawner { handle, alive }))
    }
}

impl Spawner {
    /// Runs a task in the background.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let alive = self.alive.clone();
        let task = async move {
            task.await;
            drop(alive);
        };
        self.handle.spawn(task).abort_handle()
    }

    /// Runs a task to its end, and returns its result through a channel.
    pub(super) fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (send, receive) = oneshot::channel();
        self.spawn(async move {
            // The caller may have stopped waiting.
            let _ = send.send(task.await);
        });
        receive
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It only waits, and at most for `CLOSING`.
            let _ = thread.join();
        }
    }
}
