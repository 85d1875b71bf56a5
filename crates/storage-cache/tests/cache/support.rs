//! What the tests of the cache share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use storage_cache::{CacheConfig, CachedStorage, ManualClock};
use storage_core::conformance::{CountingStorage, FailingStorage, ReferenceStorage, SlowStorage};
use storage_core::{Commit, ComponentStorage, StorageError, StorageValue};

/// After this a test has failed that would hang otherwise.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const TTL: Duration = Duration::from_secs(60);

/// Holds up, fails and counts, in this order.
pub(crate) type Backend = SlowStorage<FailingStorage<CountingStorage<ReferenceStorage>>>;

/// A cache over a storage that does as it is told, and the clock of the cache.
pub(crate) struct Setup {
    pub(crate) cached: Arc<CachedStorage<Backend>>,
    pub(crate) clock: ManualClock,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self::with(CacheConfig { ttl: Some(TTL), ..CacheConfig::default() })
    }

    pub(crate) fn with(config: CacheConfig) -> Self {
        let clock = ManualClock::new();
        let counting = CountingStorage::new(ReferenceStorage::new());
        let backend = SlowStorage::new(FailingStorage::new(counting));
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

    /// The storage that the cache does not see being written.
    pub(crate) fn around(&self) -> &ReferenceStorage {
        self.counting().inner()
    }

    /// What `try_get` answers, but not because another thread was in its way.
    pub(crate) fn at_hand(&self, key: &str) -> Option<Option<StorageValue>> {
        let try_get = |_| {
            thread::yield_now();
            self.cached.try_get("", key)
        };
        (0..1_000).find_map(try_get)
    }

    /// Runs a call in a thread of its own.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        call: impl FnOnce(&CachedStorage<Backend>) -> T + Send + 'static,
    ) -> Running<T> {
        let cached = Arc::clone(&self.cached);
        start(move || call(&cached))
    }

    /// Waits until so many keys were missed: whoever missed one is about to claim
    /// it or to wait for it.
    pub(crate) fn wait_for_misses(&self, misses: u64) {
        let start = Instant::now();
        while self.cached.stats().misses < misses {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.cached.stats());
            thread::yield_now();
        }
        // To let the last one get there. Every order gives the same results.
        (0..1_000).for_each(|_| thread::yield_now());
    }
}

/// A call in another thread.
pub(crate) struct Running<T>(Receiver<thread::Result<T>>);

pub(crate) fn start<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Running<T> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        // Nobody listens when the test has failed already.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(call)));
    });
    Running(receiver)
}

impl<T> Running<T> {
    /// What it returned, or that it panicked.
    #[track_caller]
    pub(crate) fn outcome(self) -> thread::Result<T> {
        self.0.recv_timeout(PATIENCE).expect("the call hangs")
    }

    #[track_caller]
    pub(crate) fn finish(self) -> T {
        self.outcome().expect("the call panicked")
    }

    /// Gives a call that must not end now the time to do it all the same.
    pub(crate) fn must_wait(&self) {
        assert!(self.0.recv_timeout(Duration::from_millis(200)).is_err(), "the call ended");
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
pub(crate) enum Answer {
    Value(Option<StorageValue>),
    Present(bool),
}

impl Read {
    pub(crate) const ALL: [Self; 4] = [Self::Get, Self::Exists, Self::GetMany, Self::GetVersioned];

    pub(crate) fn ask(
        self,
        storage: &dyn ComponentStorage,
        key: &str,
    ) -> Result<Answer, StorageError> {
        Ok(match self {
            Self::Get => Answer::Value(storage.get(key)?),
            Self::Exists => Answer::Present(storage.exists(key)?),
            Self::GetMany => Answer::Value(storage.get_many(&[key])?.remove(0)),
            Self::GetVersioned => {
                Answer::Value(storage.get_versioned(key)?.map(|found| found.value))
            }
        })
    }

    /// What it answers where this is the value.
    pub(crate) fn answer(self, value: Option<&str>) -> Answer {
        match self {
            Self::Exists => Answer::Present(value.is_some()),
            _ => Answer::Value(value.map(StorageValue::from)),
        }
    }
}

/// The ways to write one key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write {
    Set,
    Put,
    Delete,
    CommitSet,
    CommitDelete,
}

impl Write {
    pub(crate) fn perform(
        self,
        storage: &dyn ComponentStorage,
        key: &str,
    ) -> Result<(), StorageError> {
        match self {
            Self::Set => storage.set(key, "new".into()),
            Self::Put => storage_core::put(&storage, key, "new".into()).map(drop),
            Self::Delete => storage.delete(key),
            Self::CommitSet => storage.commit(Commit::new().set(key, "new".into())).map(drop),
            Self::CommitDelete => storage.commit(Commit::new().delete(key)).map(drop),
        }
    }

    /// What is there afterwards.
    pub(crate) fn leaves(self) -> Option<&'static str> {
        match self {
            Self::Set | Self::Put | Self::CommitSet => Some("new"),
            Self::Delete | Self::CommitDelete => None,
        }
    }
}

/// A value of so many bytes.
pub(crate) fn bytes(len: usize) -> StorageValue {
    vec![b'x'; len].into()
}

pub(crate) fn io_error() -> StorageError {
    StorageError::IoError("on purpose".into())
}

/// Every read that asks the cache must answer this.
#[track_caller]
pub(crate) fn assert_holds(storage: &dyn ComponentStorage, key: &str, value: Option<&str>) {
    for read in Read::ALL {
        assert_eq!(read.ask(storage, key), Ok(read.answer(value)), "{read:?} of {key:?}");
    }
    if let Some(at_hand) = storage.try_get("", key) {
        assert_eq!(at_hand, value.map(StorageValue::from), "try_get of {key:?}");
    }
}
