//! Shared test support.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use storage_cache::{CacheConfig, CachedStorage, ManualClock};
use storage_core::conformance::{
    BlockingStorage, CountingStorage, FailingStorage, ReferenceStorage,
};
use storage_core::{Commit, ComponentStorage, StorageError, StorageValue};

/// How long to wait for a call before it counts as hanging.
const TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) const TTL: Duration = Duration::from_secs(60);

/// A cache of 64 KiB does not keep a value of this size.
pub(crate) const LARGE: usize = 64 << 10;

pub(crate) type Backend = BlockingStorage<FailingStorage<CountingStorage<ReferenceStorage>>>;

/// A cache over storage that waits, fails and counts on command, and the clock of
/// the cache.
pub(crate) struct Setup {
    pub(crate) cached: Arc<CachedStorage<Backend>>,
    pub(crate) clock: ManualClock,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::with(CacheConfig { ttl: Some(TTL), ..CacheConfig::default() })
    }

    /// A cache that keeps no value of `LARGE` bytes.
    pub(crate) fn small() -> Self {
        let max_size_bytes = LARGE;
        Self::with(CacheConfig { ttl: Some(TTL), max_size_bytes, ..CacheConfig::default() })
    }

    pub(crate) fn with(config: CacheConfig) -> Self {
        let clock = ManualClock::new();
        let counting = CountingStorage::new(ReferenceStorage::new());
        let backend = BlockingStorage::new(FailingStorage::new(counting));
        let cached = Arc::new(CachedStorage::with_clock(backend, config, clock.clock()));
        Self { cached, clock }
    }

    pub(crate) fn backend(&self) -> &Backend {
        self.cached.inner()
    }

    pub(crate) fn failing(&self) -> &FailingStorage<CountingStorage<ReferenceStorage>> {
        self.backend().inner()
    }

    pub(crate) fn counting(&self) -> &CountingStorage<ReferenceStorage> {
        self.failing().inner()
    }

    /// The storage below, for calls that bypass the cache.
    pub(crate) fn around(&self) -> &ReferenceStorage {
        self.counting().inner()
    }

    pub(crate) fn try_get(&self, key: &str) -> Option<Option<StorageValue>> {
        self.cached.try_get("", key)
    }

    /// Runs a call in another thread.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        call: impl FnOnce(&CachedStorage<Backend>) -> T + Send + 'static,
    ) -> Running<T> {
        let cached = Arc::clone(&self.cached);
        start(move || call(&cached))
    }

    /// Waits until this many keys were missed. Their readers are then about to read or
    /// to wait.
    pub(crate) fn wait_for_misses(&self, misses: u64) {
        let start = Instant::now();
        while self.cached.stats().misses < misses {
            assert!(start.elapsed() < TIMEOUT, "{:?}", self.cached.stats());
            thread::yield_now();
        }
        // Gives the last one time to get there. The result is the same in any order.
        (0..1_000).for_each(|_| thread::yield_now());
    }
}

/// A call in another thread.
pub(crate) struct Running<T>(Receiver<thread::Result<T>>);

pub(crate) fn start<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Running<T> {
    let (sender, receiver) = channel();
    thread::spawn(move || drop(sender.send(catch_unwind(AssertUnwindSafe(call)))));
    Running(receiver)
}

impl<T> Running<T> {
    /// What it returned, or its panic.
    #[track_caller]
    pub(crate) fn outcome(self) -> thread::Result<T> {
        self.0.recv_timeout(TIMEOUT).expect("the call hangs")
    }

    #[track_caller]
    pub(crate) fn finish(self) -> T {
        self.outcome().expect("the call panicked")
    }

    /// Gives a call that must wait the time to return by mistake.
    pub(crate) fn must_wait(&self) {
        assert!(self.0.recv_timeout(Duration::from_millis(200)).is_err(), "the call returned");
    }
}

/// The ways to read one key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Read {
    Get,
    Exists,
    GetMany,
    GetVersioned,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Value(Option<StorageValue>),
    Present(bool),
}

impl Read {
    pub(crate) const ALL: [Self; 4] = [Self::Get, Self::Exists, Self::GetMany, Self::GetVersioned];

    pub(crate) fn perform(
        self,
        storage: &dyn ComponentStorage,
        key: &str,
    ) -> Result<Found, StorageError> {
        Ok(match self {
            Self::Get => Found::Value(storage.get(key)?),
            Self::Exists => Found::Present(storage.exists(key)?),
            Self::GetMany => Found::Value(storage.get_many(&[key])?.remove(0)),
            Self::GetVersioned => Found::Value(storage.get_versioned(key)?.map(|v| v.value)),
        })
    }

    /// What it finds where the key has this value.
    pub(crate) fn found(self, value: Option<impl Into<StorageValue>>) -> Found {
        match self {
            Self::Exists => Found::Present(value.is_some()),
            _ => Found::Value(value.map(Into::into)),
        }
    }
}

/// The ways to write one key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write {
    Set,
    Delete,
    CommitSet,
    CommitDelete,
}

impl Write {
    pub(crate) const ALL: [Self; 4] =
        [Self::Set, Self::Delete, Self::CommitSet, Self::CommitDelete];

    pub(crate) fn perform(
        self,
        storage: &dyn ComponentStorage,
        key: &str,
    ) -> Result<(), StorageError> {
        match self {
            Self::Set => storage.set(key, "new".into()),
            Self::Delete => storage.delete(key),
            Self::CommitSet => storage.commit(Commit::new().set(key, "new".into())).map(drop),
            Self::CommitDelete => storage.commit(Commit::new().delete(key)).map(drop),
        }
    }

    /// The value of the key afterwards.
    pub(crate) fn leaves(self) -> Option<&'static str> {
        match self {
            Self::Set | Self::CommitSet => Some("new"),
            Self::Delete | Self::CommitDelete => None,
        }
    }
}

/// A value of this many bytes.
pub(crate) fn bytes(len: usize) -> StorageValue {
    vec![b'x'; len].into()
}

pub(crate) fn io_error() -> StorageError {
    StorageError::IoError("on purpose".into())
}

/// Checks that every read finds this value.
#[track_caller]
pub(crate) fn assert_holds(storage: &dyn ComponentStorage, key: &str, value: Option<&str>) {
    for read in Read::ALL {
        assert_eq!(read.perform(storage, key), Ok(read.found(value)), "{read:?} of {key:?}");
    }
    if let Some(cached) = storage.try_get("", key) {
        assert_eq!(cached, value.map(StorageValue::from), "try_get of {key:?}");
    }
}
