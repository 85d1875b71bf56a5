//! Storage that fails, counts and waits on command, around any other storage.

mod counting;
mod failing;
mod slow;

pub use counting::CountingStorage;
pub use failing::{FailingStorage, Fault};
pub use slow::{Held, SlowStorage};

use crate::StorageError;

/// A method of [`ComponentStorage`](crate::ComponentStorage) or
/// [`Store`](crate::Store).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is named after its method")]
#[non_exhaustive]
pub enum Method {
    Get,
    Set,
    Delete,
    Exists,
    ListKeys,
    ListPage,
    GetMany,
    Usage,
    TryGet,
    GetVersioned,
    Commit,
    ListComponents,
    ReadSnapshot,
    Flush,
    Verify,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 15] = [
        Self::Get,
        Self::Set,
        Self::Delete,
        Self::Exists,
        Self::ListKeys,
        Self::ListPage,
        Self::GetMany,
        Self::Usage,
        Self::TryGet,
        Self::GetVersioned,
        Self::Commit,
        Self::ListComponents,
        Self::ReadSnapshot,
        Self::Flush,
        Self::Verify,
    ];

    /// The methods of [`Store`](crate::Store), except `properties`.
    pub const STORE: [Self; 4] =
        [Self::ListComponents, Self::ReadSnapshot, Self::Flush, Self::Verify];

    /// The methods that change what is stored.
    pub const WRITES: [Self; 3] = [Self::Set, Self::Delete, Self::Commit];
}

/// When something happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the storage below is called.
    Before,
    /// After the storage below has returned: a write has taken effect, a read has
    /// its value, and the caller has no result yet.
    After,
}

/// Decides what happens to a call.
trait Around {
    /// Makes the call, or does not.
    fn around<T>(
        &self,
        method: Method,
        call: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError>;
}

/// Implements both traits for a wrapper with a field `inner`, each method through
/// its [`Around`].
macro_rules! storage_around {
    ($wrapper:ident) => {
        #[deny(clippy::missing_trait_methods)]
        impl<S: ComponentStorage> ComponentStorage for $wrapper<S> {
            fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
                self.around(Method::Get, || self.inner.get(key))
            }

            fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
                self.around(Method::Set, || self.inner.set(key, value))
            }

            fn delete(&self, key: &str) -> Result<(), StorageError> {
                self.around(Method::Delete, || self.inner.delete(key))
            }

            fn exists(&self, key: &str) -> Result<bool, StorageError> {
                self.around(Method::Exists, || self.inner.exists(key))
            }

            fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
                self.around(Method::ListKeys, || self.inner.list_keys(prefix))
            }

            fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
                self.around(Method::ListPage, || self.inner.list_page(request))
            }

            fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
                self.around(Method::GetMany, || self.inner.get_many(keys))
            }

            fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
                self.around(Method::Usage, || self.inner.usage(prefix))
            }

            fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
                // Nothing is known, so that every read is a `get`.
                self.around(Method::TryGet, || Ok(self.inner.try_get(prefix, key))).ok();
                None
            }

            fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
                self.around(Method::GetVersioned, || self.inner.get_versioned(key))
            }

            fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
                self.around(Method::Commit, || self.inner.commit(commit))
            }
        }

        #[deny(clippy::missing_trait_methods)]
        impl<S: $crate::Store> $crate::Store for $wrapper<S> {
            fn properties(&self) -> $crate::StoreProperties {
                self.inner.properties()
            }

            fn list_components(
                &self,
                after: Option<&str>,
                limit: usize,
            ) -> Result<KeyPage, StorageError> {
                let call = || self.inner.list_components(after, limit);
                self.around(Method::ListComponents, call)
            }

            fn read_snapshot(
                &self,
                prefix: &str,
                after: Option<&str>,
                visit: &mut $crate::SnapshotVisitor<'_>,
            ) -> Result<(), StorageError> {
                let call = || self.inner.read_snapshot(prefix, after, visit);
                self.around(Method::ReadSnapshot, call)
            }

            fn flush(&self) -> Result<(), StorageError> {
                self.around(Method::Flush, || self.inner.flush())
            }

            fn verify(
                &self,
                report: &mut dyn FnMut($crate::Problem),
            ) -> Result<$crate::Verified, StorageError> {
                self.around(Method::Verify, || self.inner.verify(report))
            }
        }
    };
}
use storage_around;
