//! Storage that fails on command.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Intercept, Method, Moment, intercept_storage};
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
    /// The number of calls until the one that fails; `None` if all fail.
    countdown: Option<u64>,
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
        Self { failure, methods: Method::ALL.to_vec(), countdown: None, moment: Moment::Before }
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
        self.countdown = Some(n);
        self
    }

    /// Fails after the operation is done: a write takes effect although the call fails.
    #[must_use]
    pub fn after(mut self) -> Self {
        self.moment = Moment::After;
        self
    }

    /// Counts a call, and returns whether it fails.
    fn applies_to(&mut self, method: Method) -> bool {
        if !self.methods.contains(&method) {
            return false;
        }
        match &mut self.countdown {
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
    fn fail<T>(self) -> Result<T, StorageError> {
        match self {
            Self::Error(error) => Err(error),
            Self::Panic(message) => panic!("{message}"),
        }
    }
}

/// Forwards calls until a fault is injected.
///
/// Its `try_get` returns `None`, so that every read can fail.
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

    /// Adds a fault. If several affect the same call, the oldest one applies.
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

    /// Returns how this call fails, if it does. All faults count the call.
    fn next_failure(&self, method: Method) -> Option<(Failure, Moment)> {
        let mut found = None;
        for fault in self.lock().iter_mut() {
            if fault.applies_to(method) && found.is_none() {
                found = Some((fault.failure.clone(), fault.moment));
            }
        }
        found
    }
}

impl<S> Intercept for FailingStorage<S> {
    fn intercept<T>(
        &self,
        method: Method,
        call: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        match self.next_failure(method) {
            None => call(),
            Some((failure, Moment::Before)) => failure.fail(),
            Some((failure, Moment::After)) => {
                drop(call());
                failure.fail()
            }
        }
    }
}

intercept_storage!(FailingStorage);
