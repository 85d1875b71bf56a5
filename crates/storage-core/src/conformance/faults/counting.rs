//! Storage that counts the calls that reach it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Intercept, Method, intercept_storage};
use crate::{
    Commit, ComponentStorage, KeyPage, PageRequest, Revision, StorageError, StorageValue, Usage,
    VersionedValue,
};

/// Counts the calls of each method and forwards them.
///
/// Tests use it to show which calls a cache or a check keeps from the storage
/// below. Its `try_get` returns `None`, so that every read is counted.
///
/// ```
/// use storage_core::conformance::{CountingStorage, Method, ReferenceStorage};
/// use storage_core::{ComponentId, ComponentStorage, NamespacedStorage};
///
/// let backend = CountingStorage::new(ReferenceStorage::new());
/// let home = NamespacedStorage::new(ComponentId::new("app", "notes", "home")?, &backend);
/// home.set("1", "buy milk".into())?;
/// assert!(home.set("no\0key", "".into()).is_err());
/// assert_eq!(backend.calls(Method::Set), 1);
/// assert_eq!(backend.total(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct CountingStorage<S> {
    inner: S,
    calls: Mutex<BTreeMap<Method, u64>>,
}

impl<S> CountingStorage<S> {
    /// Counts the calls of `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, calls: Mutex::default() }
    }

    /// The storage that it wraps.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The number of calls of a method, including failed ones.
    pub fn calls(&self, method: Method) -> u64 {
        self.lock().get(&method).copied().unwrap_or_default()
    }

    /// The number of calls of all methods.
    pub fn total(&self) -> u64 {
        self.lock().values().sum()
    }

    /// Sets all counts to zero.
    pub fn reset(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Method, u64>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Intercept for CountingStorage<S> {
    fn intercept<T>(
        &self,
        method: Method,
        call: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        *self.lock().entry(method).or_default() += 1;
        call()
    }
}

intercept_storage!(CountingStorage);
