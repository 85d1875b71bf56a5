//! Storage that fails on command.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Around, Method, Moment, storage_around};
use crate::{
    Commit, ComponentStorage, KeyPage, PageRequest, Revision, StorageError, StorageValue, Usage,
    VersionedValue,
};

/// Which calls fail, and how.
///
/// By default every later call of every method fails before the storage below is
/// called.
///
/// ```
/// use storage_core::StorageError;
/// use storage_core::conformance::{Fault, Method};
///
/// // The third set or commit from now takes effect, but returns an error.
/// let fault = Fault::error(StorageError::IoError("disk full".into()))
///     .on(&[Method::Set, Method::Commit])
///     .nth(3)
///     .after();
/// # let _ = fault;
/// ```
#[derive(Debug, Clone)]
pub struct Fault {
    failure: Failure,
    methods: Vec<Method>,
    /// Counts down the calls of these methods; `None` strikes all of them.
    in_calls: Option<u64>,
    moment: Moment,
}

#[derive(Debug, Clone)]
enum Failure {
    Error(StorageError),
    Panic(String),
}

impl Fault {
    /// The call returns this error.
    pub fn error(error: StorageError) -> Self {
        Self::new(Failure::Error(error))
    }

    /// The call panics with this message.
    pub fn panic(message: impl Into<String>) -> Self {
        Self::new(Failure::Panic(message.into()))
    }

    fn new(failure: Failure) -> Self {
        Self { failure, methods: Method::ALL.to_vec(), in_calls: None, moment: Moment::Before }
    }

    /// Affects only calls of these methods.
    #[must_use]
    pub fn on(mut self, methods: &[Method]) -> Self {
        self.methods = methods.to_vec();
        self
    }

    /// Affects only the `n`th call of its methods after the fault is injected,
    /// counted from 1. 0 affects none.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.in_calls = Some(n);
        self
    }

    /// Fails after the operation was performed: a write takes effect although the
    /// call fails.
    #[must_use]
    pub fn after(mut self) -> Self {
        self.moment = Moment::After;
        self
    }

    /// Whether it affects this call, which it counts.
    fn strikes(&mut self, method: Method) -> bool {
        if !self.methods.contains(&method) {
            return false;
        }
        match &mut self.in_calls {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                *left == 0
            }
        }
    }
}

impl Failure {
    #[expect(clippy::panic, reason = "a test asked for this panic")]
    fn happen<T>(self) -> Result<T, StorageError> {
        match self {
            Self::Error(error) => Err(error),
            Self::Panic(message) => panic!("{message}"),
        }
    }
}

/// Forwards calls until a fault is injected.
///
/// Its `try_get` knows nothing, so that every read is a call that can fail.
///
/// ```
/// use storage_core::conformance::{FailingStorage, Fault, Method, ReferenceStorage};
/// use storage_core::{ComponentStorage, StorageError};
///
/// let storage = FailingStorage::new(ReferenceStorage::new());
/// let broken = StorageError::IoError("the disk is gone".into());
///
/// // The next set fails, and nothing is stored.
/// storage.inject(Fault::error(broken.clone()).on(&[Method::Set]).nth(1));
/// assert_eq!(storage.set("a", "1".into()), Err(broken.clone()));
/// assert_eq!(storage.get("a")?, None);
///
/// // The next one takes effect although it fails: its outcome is indeterminate.
/// storage.inject(Fault::error(broken.clone()).on(&[Method::Set]).nth(1).after());
/// assert_eq!(storage.set("a", "2".into()), Err(broken.clone()));
/// assert_eq!(storage.get("a")?, Some("2".into()));
///
/// // All calls fail until it is healed.
/// storage.inject(Fault::error(broken.clone()));
/// assert_eq!(storage.get("a"), Err(broken));
/// storage.heal();
/// assert_eq!(storage.get("a")?, Some("2".into()));
/// # Ok::<(), StorageError>(())
/// ```
#[derive(Debug, Default)]
pub struct FailingStorage<S> {
    inner: S,
    faults: Mutex<Vec<Fault>>,
}

impl<S> FailingStorage<S> {
    /// Forwards calls to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, faults: Mutex::default() }
    }

    /// The storage that it wraps.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Adds a fault. Of several that affect the same call, the oldest one happens.
    pub fn inject(&self, fault: Fault) {
        self.lock().push(fault);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that affects this call. All faults count the call.
    fn strike(&self, method: Method) -> Option<(Failure, Moment)> {
        let mut struck = None;
        for fault in self.lock().iter_mut() {
            if fault.strikes(method) && struck.is_none() {
                struck = Some((fault.failure.clone(), fault.moment));
            }
        }
        struck
    }
}

impl<S> Around for FailingStorage<S> {
    fn around<T>(
        &self,
        method: Method,
        call: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match self.strike(method) {
            None => call(),
            Some((failure, Moment::Before)) => failure.happen(),
            Some((failure, Moment::After)) => {
                drop(call());
                failure.happen()
            }
        }
    }
}

storage_around!(FailingStorage);
