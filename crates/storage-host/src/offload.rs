//! Calls that may block, on a bounded number of threads: for asynchronous hosts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use storage_core::StorageError;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::host::StorageHost;
#[cfg(feature = "metrics")]
use crate::metrics::OffloadMetrics;

/// Where an asynchronous host makes calls of guests that may block.
///
/// Answers that are known in memory, and all calls of a store that never blocks, are made in
/// place. Every other call needs a permit, of which the host and each component have a
/// bounded number, and runs on a thread of tokio's blocking pool, except brief reads
/// ([`BriefReads`]).
///
/// A call that is dropped before it starts never happens. Once started it completes on its
/// thread, whatever becomes of the guest, and keeps its permit until then.
///
/// ```
/// use std::time::Duration;
/// use storage_host::Offload;
///
/// let mut offload = Offload::default();
/// offload.threads = 32;
/// offload.max_wait = Duration::from_secs(1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offload {
    /// The maximum number of calls in progress at a time; 0 counts as 1. Default 64. Keep it
    /// well below `max_blocking_threads` of the runtime, 512 by default, which others use too:
    /// a call with a permit waits for a thread without limit.
    pub threads: usize,
    /// The maximum number of calls of one component in progress at a time; 0 counts as 1. Default 16. A
    /// component that floods the host delays the others by at most this many calls.
    pub per_component: usize,
    /// How long a call waits for a permit before it fails as overloaded, without having
    /// changed anything. Default 5 seconds.
    pub max_wait: Duration,
    /// Where brief reads run.
    pub brief_reads: BriefReads,
}

impl Default for Offload {
    fn default() -> Self {
        Self {
            threads: 64,
            per_component: 16,
            max_wait: Duration::from_secs(5),
            brief_reads: BriefReads::default(),
        }
    }
}

/// Where brief reads run: reads of up to 16 keys that are not known in memory.
///
/// In a local store such a read takes microseconds, unless the disk is slow; a trip to
/// another thread and back takes tens of microseconds. Reads of a store that other hosts
/// share always run on another thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BriefReads {
    /// In place on a runtime with several threads, with [`tokio::task::block_in_place`]. On
    /// another thread on a runtime with one, and when no permit is free.
    #[default]
    Auto,
    /// In place on every runtime. On a runtime with one thread, all tasks wait for the read.
    InPlace,
    /// On another thread. Required inside a [`tokio::task::LocalSet`] of a runtime with
    /// several threads, where `block_in_place` panics.
    Offload,
}

/// The permits of a host.
pub(crate) struct Offloader {
    settings: Offload,
    permits: Arc<Semaphore>,
    waiting: AtomicU64,
    refused: AtomicU64,
}

/// Counts a call that waits for a permit.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The permits of a component.
#[derive(Debug)]
pub(crate) struct Share(Arc<Semaphore>);

/// Why a call was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The guest has too many calls in progress.
    #[cfg(feature = "p3")]
    Limit(StorageError),
    /// No permit was free for this long.
    Overloaded(Duration),
    /// There is no tokio runtime.
    NoRuntime,
}

impl Offloader {
    pub(crate) fn new(settings: Offload) -> Self {
        let permits = Arc::new(Semaphore::new(permits(settings.threads)));
        Self { settings, permits, waiting: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    pub(crate) fn settings(&self) -> &Offload {
        &self.settings
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn metrics(&self) -> OffloadMetrics {
        let max_running = permits(self.settings.threads);
        let running = max_running.saturating_sub(self.permits.available_permits());
        OffloadMetrics {
            running: running as u64,
            max_running: max_running as u64,
            waiting: self.waiting.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// The permits of a new component.
    pub(crate) fn new_share(&self) -> Share {
        Share(Arc::new(Semaphore::new(permits(self.settings.per_component))))
    }

    /// The permits of a call that is made at once; `None` if one of them is not free.
    pub(crate) fn try_admit<'a>(&'a self, share: &'a Share) -> Option<[SemaphorePermit<'a>; 2]> {
        Some([share.0.try_acquire().ok()?, self.permits.try_acquire().ok()?])
    }

    /// Waits for a permit of the component and one of the host, in this order: a component
    /// that floods waits for its own permits and not among the others.
    pub(crate) async fn admit(&self, share: &Share) -> Result<Admission, Refused> {
        let runtime = Handle::try_current().map_err(|_| Refused::NoRuntime)?;
        let permits = async {
            let own = Arc::clone(&share.0).acquire_owned().await.ok()?;
            let any = Arc::clone(&self.permits).acquire_owned().await.ok()?;
            Some([own, any])
        };
        let max_wait = self.settings.max_wait;
        let _waiting = Waiting::new(&self.waiting);
        // The timer exists before it is needed: a runtime without timers fails at once.
        match timeout(max_wait, permits).await {
            // The semaphores are never closed.
            Ok(Some(permits)) => Ok(Admission { runtime, permits }),
            Ok(None) | Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Refused::Overloaded(max_wait))
            }
        }
    }
}

impl fmt::Debug for Offloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offloader")
            .field("settings", &self.settings)
            .field("free", &self.permits.available_permits())
            .finish_non_exhaustive()
    }
}

fn permits(count: usize) -> usize {
    count.clamp(1, Semaphore::MAX_PERMITS)
}

/// The right to make one call.
pub(crate) struct Admission {
    runtime: Handle,
    permits: [OwnedSemaphorePermit; 2],
}

impl Admission {
    /// Makes a call on another thread. If the future is dropped before the call has started,
    /// it never does.
    ///
    /// # Errors
    /// If the runtime ends before the call has started, or the call panicked.
    pub(crate) async fn run<R: Send + 'static>(
        self,
        call: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, tokio::task::JoinError> {
        let Self { runtime, permits } = self;
        let mut started = AbortOnDrop(runtime.spawn_blocking(move || {
            // Until the call has ended, also if no one waits for it.
            let _permits = permits;
            call()
        }));
        (&mut started.0).await
    }
}

/// A call that is aborted with its future, unless it has started.
struct AbortOnDrop<R>(JoinHandle<R>);

impl<R> Drop for AbortOnDrop<R> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl StorageHost {
    /// Shuts the host down as [`shut_down`](Self::shut_down) does, without blocking a thread
    /// of the runtime, and waits for all calls in progress, reads too. After `Ok` the last
    /// handle to the host closes the store.
    ///
    /// Call it in a tokio runtime with timers.
    ///
    /// # Errors
    /// As [`shut_down`](Self::shut_down); [`StorageError::Unavailable`] if calls are still in
    /// progress after `within`.
    pub async fn drain(&self, within: Duration) -> Result<(), StorageError> {
        let (send, receive) = oneshot::channel();
        let host = self.clone();
        // A thread of its own: calls that hang may hold all threads of the pool.
        let shut_down = move || {
            // The receiver is gone if the future was dropped.
            let _ = send.send(host.shut_down(within));
        };
        thread::Builder::new().name("drain".to_owned()).spawn(shut_down).map_err(|error| {
            StorageError::IoError(format!("cannot start a thread to shut the host down: {error}"))
        })?;
        let offloader = self.offloader();
        // Calls that wait for a permit get theirs first, and fail because the host is closed.
        let all = u32::try_from(permits(offloader.settings.threads)).unwrap_or(u32::MAX);
        let all_ended = timeout(within, offloader.permits.acquire_many(all));
        receive.await.unwrap_or_else(|_| {
            Err(StorageError::IoError("the thread that shuts the host down ended".to_owned()))
        })?;
        all_ended.await.map(drop).map_err(|_| StorageError::Unavailable {
            key: None,
            detail: format!("calls in progress did not end within {} s", within.as_secs_f32()),
        })
    }
}
