//! Storage that fails when it is told to.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Around, Method, Moment, storage_around};
use crate::{
    Commit, ComponentStorage, KeyPage, PageRequest, Revision, StorageError, StorageValue, Usage,
    VersionedValue,
};

/// How calls fail, and which.
///
/// As it is made, it strikes every call of every method from then on, before
/// the storage below is called.
///
/// ```
/// use storage_core::StorageError;
/// use storage_core::conformance::{Fault, Method};
///
/// // The third set or put from now takes effect, but says that it failed.
/// let fault = Fault::error(StorageError::IoError("disk full".into()))
///     .on(&[Method::Set, Method::Put])
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
    /// The call returns this error. [`Method::TryGet`], which has no errors,
    /// answers `None`.
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

    /// Strikes calls of these methods alone.
    #[must_use]
    pub fn on(mut self, methods: &[Method]) -> Self {
        self.methods = methods.to_vec();
        self
    }

    /// Strikes one call alone: the `n`th of its methods, counted from 1 and from
    /// when the fault is injected. 0 strikes none.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.in_calls = Some(n);
        self
    }

    /// Strikes after the operation was performed: what a write changed stays
    /// changed, although the call fails.
    #[must_use]
    pub fn after(mut self) -> Self {
        self.moment = Moment::After;
        self
    }

    /// Whether it strikes a call of this method, which it counts.
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

/// Passes calls on until it is told to fail.
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
/// // The next one takes effect although it fails: its outcome is unknown.
/// storage.inject(Fault::error(broken.clone()).on(&[Method::Set]).nth(1).after());
/// assert_eq!(storage.set("a", "2".into()), Err(broken.clone()));
/// assert_eq!(storage.get("a")?, Some("2".into()));
///
/// // Everything fails from now on, until it is healed.
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
    /// Passes calls on to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, faults: Mutex::default() }
    }

    /// The storage that calls are passed on to, past all faults.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Adds a fault. Of several that strike the same call the oldest one does.
    pub fn inject(&self, fault: Fault) {
        self.lock().push(fault);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that strikes this call. Every other one counts the call too.
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
                // The caller learns of the failure alone.
                drop(call());
                failure.happen()
            }
        }
    }
}

storage_around!(FailingStorage);
