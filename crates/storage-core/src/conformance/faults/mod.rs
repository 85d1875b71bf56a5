//! Storage that fails, counts and waits on command, around any other.

mod counting;
mod failing;
mod slow;

pub use counting::CountingStorage;
pub use failing::{FailingStorage, Fault};
pub use slow::{Held, SlowStorage};

use crate::StorageError;

/// A method of [`ComponentStorage`](crate::ComponentStorage).
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
    ListPartitions,
    GetMany,
    Usage,
    ReadSnapshot,
    Flush,
    TryGet,
    GetVersioned,
    Put,
    Commit,
}

impl Method {
    /// Every method, in the order of the trait.
    pub const ALL: [Self; 15] = [
        Self::Get,
        Self::Set,
        Self::Delete,
        Self::Exists,
        Self::ListKeys,
        Self::ListPage,
        Self::ListPartitions,
        Self::GetMany,
        Self::Usage,
        Self::ReadSnapshot,
        Self::Flush,
        Self::TryGet,
        Self::GetVersioned,
        Self::Put,
        Self::Commit,
    ];

    /// The methods that change what is stored.
    pub const WRITES: [Self; 4] = [Self::Set, Self::Delete, Self::Put, Self::Commit];
}

/// When something happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the storage below is called: nothing has happened yet.
    Before,
    /// After the storage below has answered: a write has taken effect, a read
    /// has its value, and the caller does not know yet.
    After,
}

/// Something that can stand between a caller and a storage.
trait Around {
    /// Passes a call on, or not.
    fn around<T>(
        &self,
        method: Method,
        call: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError>;
}

/// Implements `ComponentStorage` for a wrapper with a field `inner`, every method
/// by way of its [`Around`].
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

            fn list_partitions(
                &self,
                after: Option<&str>,
                limit: usize,
            ) -> Result<KeyPage, StorageError> {
                let call = || self.inner.list_partitions(after, limit);
                self.around(Method::ListPartitions, call)
            }

            fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
                self.around(Method::GetMany, || self.inner.get_many(keys))
            }

            fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
                self.around(Method::Usage, || self.inner.usage(prefix))
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

            fn recall(&self, partition: &str, own_key: &str) -> Option<Option<StorageValue>> {
                // Whatever it does not know, `get` is asked for, and counted there.
                self.inner.recall(partition, own_key)
            }

            fn try_get(&self, key: &str) -> Option<Option<StorageValue>> {
                // It has no errors: a failure is an answer that is not at hand.
                self.around(Method::TryGet, || Ok(self.inner.try_get(key))).ok().flatten()
            }

            fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
                self.around(Method::GetVersioned, || self.inner.get_versioned(key))
            }

            fn put(&self, key: &str, value: StorageValue) -> Result<Revision, StorageError> {
                self.around(Method::Put, || self.inner.put(key, value))
            }

            fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
                self.around(Method::Commit, || self.inner.commit(commit))
            }
        }
    };
}
use storage_around;
