//! Shuts a host down: refuses new operations, waits for writes, flushes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use storage_core::{
    Compacted, ComponentStorage, KeyPage, Problem, SharedStore, SnapshotVisitor, StorageError,
    Store, StoreProperties, Verified, forward_storage,
};

/// The number of counters. Concurrent writers use different ones and so rarely
/// share a cache line.
const SLOTS: usize = 16;

/// A counter in its own cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot(AtomicUsize);

/// Counts the writes in progress. Once closed, it refuses all operations.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: AtomicBool,
    slots: [Slot; SLOTS],
    /// The lock of `ended`.
    waiting: Mutex<()>,
    ended: Condvar,
}

impl Gate {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<(), StorageError> {
        if self.is_closed() { Err(shutting_down()) } else { Ok(()) }
    }

    /// Begins a write.
    ///
    /// It increments a counter before it reads `closed`; `close` sets `closed` before it
    /// reads the counters. All are sequentially consistent, so either the write is
    /// refused or `close` waits for it.
    fn enter(&self) -> Result<WriteInProgress<'_>, StorageError> {
        let [first, ..] = &self.slots;
        let slot = SLOT.with(|slot| self.slots.get(*slot)).unwrap_or(first);
        let entered = WriteInProgress { gate: self, slot };
        entered.slot.0.fetch_add(1, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) { Err(shutting_down()) } else { Ok(entered) }
    }

    /// Closes the gate and waits until no write is in progress. Returns `false` if one
    /// still is at the deadline.
    fn close(&self, deadline: Instant) -> bool {
        self.closed.store(true, Ordering::SeqCst);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.slots.iter().all(|slot| slot.0.load(Ordering::SeqCst) == 0) {
                return true;
            }
            let time = deadline.saturating_duration_since(Instant::now());
            if time.is_zero() {
                return false;
            }
            let waited = self.ended.wait_timeout(waiting, time);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

thread_local! {
    /// The index of this thread's counter.
    static SLOT: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS
    };
}

/// A write in progress.
struct WriteInProgress<'a> {
    gate: &'a Gate,
    slot: &'a Slot,
}

impl Drop for WriteInProgress<'_> {
    fn drop(&mut self) {
        self.slot.0.fetch_sub(1, Ordering::SeqCst);
        if self.gate.closed.load(Ordering::SeqCst) {
            // While this thread holds the lock, `close` either has not read the counters yet
            // or waits for the condition.
            drop(self.gate.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            self.gate.ended.notify_all();
        }
    }
}

fn shutting_down() -> StorageError {
    unavailable("the host is shutting down".to_owned())
}

fn unavailable(detail: String) -> StorageError {
    StorageError::Unavailable { key: None, detail }
}

/// A host's store behind its gate.
pub(crate) struct GatedStore {
    inner: Arc<dyn Store>,
    gate: Gate,
}

/// A write in progress, and the store that it writes to.
struct Writing<'a> {
    store: &'a dyn Store,
    _entered: WriteInProgress<'a>,
}

impl GatedStore {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, gate: Gate::default() }
    }

    /// The store, for a read.
    fn reading(&self) -> Result<&dyn Store, StorageError> {
        self.gate.check().map(|()| &*self.inner)
    }

    fn writing(&self) -> Result<Writing<'_>, StorageError> {
        let _entered = self.gate.enter()?;
        Ok(Writing { store: &*self.inner, _entered })
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// As [`StorageHost::shut_down`](crate::StorageHost::shut_down).
    pub(crate) fn shut_down(&self, within: Duration) -> Result<(), StorageError> {
        let begun = Instant::now();
        // A write that hangs must not prevent the flush of the others.
        let all_ended = self.gate.close(begun + within / 5 * 4);
        let flushed = self.flush_within(within.saturating_sub(begun.elapsed()));
        if all_ended {
            return flushed;
        }
        Err(unavailable(format!(
            "writes in progress did not finish within {} s of the shutdown; their outcome is \
             unknown",
            within.as_secs_f32()
        )))
    }

    fn flush_within(&self, time: Duration) -> Result<(), StorageError> {
        let (send, receive) = mpsc::channel();
        let backend = Arc::clone(&self.inner);
        let flush = move || {
            // The receiver is gone after the timeout.
            let _ = send.send(backend.flush());
        };
        match thread::Builder::new().name("flush".to_owned()).spawn(flush) {
            Ok(_) => receive.recv_timeout(time).unwrap_or_else(|_| {
                Err(unavailable(
                    "the store was not flushed in time; the last writes may not be durable"
                        .to_owned(),
                ))
            }),
            // Without a thread the flush has no time limit.
            Err(_) => self.inner.flush(),
        }
    }
}

impl fmt::Debug for GatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedStore").field("gate", &self.gate).finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for GatedStore {
    forward_storage!(self => *self.reading()?; get, exists, list_keys, list_page, get_many, usage);
    forward_storage!(self => *self.reading()?; get_versioned);
    forward_storage!(self => *self.writing()?.store; set, delete, commit);
    // Values that are known in memory may be read after a shutdown.
    forward_storage!(self => *self.inner; try_get);
}

#[deny(clippy::missing_trait_methods)]
impl Store for GatedStore {
    fn properties(&self) -> StoreProperties {
        self.inner.properties()
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        self.reading()?.list_components(after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        self.reading()?.read_snapshot(prefix, after, visit)
    }

    fn flush(&self) -> Result<(), StorageError> {
        // Changes no data, so it is allowed at any time.
        self.inner.flush()
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        self.reading()?.verify(report)
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        self.writing()?.store.compact()
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        // Reads revisions only, which is allowed at any time.
        self.inner.shared()
    }
}
