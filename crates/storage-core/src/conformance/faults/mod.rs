//! Storage that fails, counts and waits on command, around any other storage.

mod blocking;
mod counting;
mod failing;

pub use blocking::{BlockingStorage, Held};
pub use counting::CountingStorage;
pub use failing::{FailingStorage, Fault};

use crate::StorageError;

/// A method of [`ComponentStorage`](crate::ComponentStorage), [`Store`](crate::Store) or
/// [`SharedStore`](crate::SharedStore).
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
    Compact,
    ComponentRevisions,
}

impl Method {
    /// Every method.
    #[rustfmt::skip]
    pub const ALL: [Self; 17] = [
        Self::Get, Self::Set, Self::Delete, Self::Exists, Self::ListKeys, Self::ListPage,
        Self::GetMany, Self::Usage, Self::TryGet, Self::GetVersioned, Self::Commit,
        Self::ListComponents, Self::ReadSnapshot, Self::Flush, Self::Verify,
        Self::Compact, Self::ComponentRevisions,
    ];

    /// The methods of [`Store`](crate::Store) and [`SharedStore`](crate::SharedStore) that
    /// use what is stored.
    #[rustfmt::skip]
    pub const STORE: [Self; 6] = [
        Self::ListComponents, Self::ReadSnapshot, Self::Flush, Self::Verify,
        Self::Compact, Self::ComponentRevisions,
    ];

    /// The methods that change what is stored.
    pub const WRITES: [Self; 3] = [Self::Set, Self::Delete, Self::Commit];
}

/// The moment of a call at which a wrapper fails or blocks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the storage below is called.
    Before,
    /// After the storage below has returned: a write has taken effect, a read has
    /// its value, and the caller has no result yet.
    After,
}

/// Runs code around the calls of a wrapped storage.
trait Intercept {
    /// Makes the call, or fails instead.
    fn intercept<T>(
        &self,
        method: Method,
        call: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError>;
}

/// Implements both traits for a wrapper with a field `inner`: each method calls
/// [`Intercept::intercept`].
macro_rules! intercept_storage {
    ($wrapper:ident) => {
        #[deny(clippy::missing_trait_methods)]
        impl<S: ComponentStorage> ComponentStorage for $wrapper<S> {
            fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
                self.intercept(Method::Get, || self.inner.get(key))
            }

            fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
                self.intercept(Method::Set, || self.inner.set(key, value))
            }

            fn delete(&self, key: &str) -> Result<(), StorageError> {
                self.intercept(Method::Delete, || self.inner.delete(key))
            }

            fn exists(&self, key: &str) -> Result<bool, StorageError> {
                self.intercept(Method::Exists, || self.inner.exists(key))
            }

            fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
                self.intercept(Method::ListKeys, || self.inner.list_keys(prefix))
            }

            fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
                self.intercept(Method::ListPage, || self.inner.list_page(request))
            }

            fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
                self.intercept(Method::GetMany, || self.inner.get_many(keys))
            }

            fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
                self.intercept(Method::Usage, || self.inner.usage(prefix))
            }

            fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
                // Returns `None`, so that every read is a call of `get`.
                self.intercept(Method::TryGet, || Ok(self.inner.try_get(prefix, key))).ok();
                None
            }

            fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
                self.intercept(Method::GetVersioned, || self.inner.get_versioned(key))
            }

            fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
                self.intercept(Method::Commit, || self.inner.commit(commit))
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
                self.intercept(Method::ListComponents, call)
            }

            fn read_snapshot(
                &self,
                prefix: &str,
                after: Option<&str>,
                visit: &mut $crate::SnapshotVisitor<'_>,
            ) -> Result<(), StorageError> {
                let call = || self.inner.read_snapshot(prefix, after, visit);
                self.intercept(Method::ReadSnapshot, call)
            }

            fn flush(&self) -> Result<(), StorageError> {
                self.intercept(Method::Flush, || self.inner.flush())
            }

            fn verify(
                &self,
                report: &mut dyn FnMut($crate::Problem),
            ) -> Result<$crate::Verified, StorageError> {
                self.intercept(Method::Verify, || self.inner.verify(report))
            }

            fn compact(&self) -> Result<$crate::Compacted, StorageError> {
                self.intercept(Method::Compact, || self.inner.compact())
            }

            fn shared(&self) -> Option<&dyn $crate::SharedStore> {
                self.inner.shared().is_some().then_some(self)
            }
        }

        /// Used only if the wrapped store is shared.
        impl<S: $crate::Store> $crate::SharedStore for $wrapper<S> {
            fn watch(&self, watcher: std::sync::Arc<dyn $crate::Watcher>) {
                if let Some(shared) = self.inner.shared() {
                    shared.watch(watcher);
                }
            }

            fn component_revisions(
                &self,
                prefixes: &[&str],
            ) -> Result<Vec<Option<Revision>>, StorageError> {
                self.intercept(Method::ComponentRevisions, || match self.inner.shared() {
                    Some(shared) => shared.component_revisions(prefixes),
                    None => Err($crate::derived::no_shared_store()),
                })
            }

            fn check_identity(&self) -> Result<(), StorageError> {
                self.inner.shared().map_or(Ok(()), |shared| shared.check_identity())
            }
        }
    };
}
use intercept_storage;
