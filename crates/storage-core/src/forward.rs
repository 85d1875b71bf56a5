//! Forwarding: the macro for decorators, and the implementations for pointers.

use std::sync::Arc;

use crate::{ComponentStorage, Store};

/// Implements methods of [`ComponentStorage`] by calling an inner storage.
///
/// `forward_storage!(self => EXPRESSION; METHOD, ...)` inside an `impl` forwards
/// the named methods; without names it forwards all. The expression is evaluated
/// for each call, and may return early with `?`: from `try_get` with an `Option`,
/// from the other methods with a `Result`.
///
/// ```
/// use storage_core::{
///     Commit, ComponentStorage, Revision, StorageError, StorageValue, forward_storage,
/// };
///
/// /// Refuses all writes.
/// struct Frozen<S>(S);
///
/// #[deny(clippy::missing_trait_methods)]
/// impl<S: ComponentStorage> ComponentStorage for Frozen<S> {
///     forward_storage!(self => self.0; get, exists, list_keys, list_page, get_many, usage);
///     forward_storage!(self => self.0; try_get, get_versioned);
///
///     fn set(&self, _key: &str, _value: StorageValue) -> Result<(), StorageError> {
///         Err(StorageError::ReadOnly)
///     }
///     fn delete(&self, _key: &str) -> Result<(), StorageError> {
///         Err(StorageError::ReadOnly)
///     }
///     fn commit(&self, _commit: Commit) -> Result<Revision, StorageError> {
///         Err(StorageError::ReadOnly)
///     }
/// }
///
/// let frozen = Frozen(storage_core::conformance::ReferenceStorage::new());
/// assert_eq!(frozen.get("key")?, None);
/// assert_eq!(frozen.set("key", "value".into()), Err(StorageError::ReadOnly));
/// # Ok::<(), StorageError>(())
/// ```
#[macro_export]
macro_rules! forward_storage {
    ($self:ident => $inner:expr) => {
        $crate::forward_storage!($self => $inner; get, set, delete, exists, list_keys, list_page);
        $crate::forward_storage!($self => $inner; get_many, usage, try_get, get_versioned, commit);
    };
    ($self:ident => $inner:expr; $($method:ident),+) => {
        $($crate::forward_storage!(@$method $self $inner);)+
    };
    (@get $self:ident $inner:expr) => {
        fn get(
            &$self,
            key: &str,
        ) -> Result<Option<$crate::StorageValue>, $crate::StorageError> {
            $crate::ComponentStorage::get(&$inner, key)
        }
    };
    (@set $self:ident $inner:expr) => {
        fn set(&$self, key: &str, value: $crate::StorageValue) -> Result<(), $crate::StorageError> {
            $crate::ComponentStorage::set(&$inner, key, value)
        }
    };
    (@delete $self:ident $inner:expr) => {
        fn delete(&$self, key: &str) -> Result<(), $crate::StorageError> {
            $crate::ComponentStorage::delete(&$inner, key)
        }
    };
    (@exists $self:ident $inner:expr) => {
        fn exists(&$self, key: &str) -> Result<bool, $crate::StorageError> {
            $crate::ComponentStorage::exists(&$inner, key)
        }
    };
    (@list_keys $self:ident $inner:expr) => {
        fn list_keys(
            &$self,
            prefix: Option<&str>,
        ) -> Result<Vec<String>, $crate::StorageError> {
            $crate::ComponentStorage::list_keys(&$inner, prefix)
        }
    };
    (@list_page $self:ident $inner:expr) => {
        fn list_page(
            &$self,
            request: $crate::PageRequest<'_>,
        ) -> Result<$crate::KeyPage, $crate::StorageError> {
            $crate::ComponentStorage::list_page(&$inner, request)
        }
    };
    (@get_many $self:ident $inner:expr) => {
        fn get_many(
            &$self,
            keys: &[&str],
        ) -> Result<Vec<Option<$crate::StorageValue>>, $crate::StorageError> {
            $crate::ComponentStorage::get_many(&$inner, keys)
        }
    };
    (@usage $self:ident $inner:expr) => {
        fn usage(&$self, prefix: Option<&str>) -> Result<$crate::Usage, $crate::StorageError> {
            $crate::ComponentStorage::usage(&$inner, prefix)
        }
    };
    (@try_get $self:ident $inner:expr) => {
        #[inline]
        fn try_get(&$self, prefix: &str, key: &str) -> Option<Option<$crate::StorageValue>> {
            $crate::ComponentStorage::try_get(&$inner, prefix, key)
        }
    };
    (@get_versioned $self:ident $inner:expr) => {
        fn get_versioned(
            &$self,
            key: &str,
        ) -> Result<Option<$crate::VersionedValue>, $crate::StorageError> {
            $crate::ComponentStorage::get_versioned(&$inner, key)
        }
    };
    (@commit $self:ident $inner:expr) => {
        fn commit(
            &$self,
            commit: $crate::Commit,
        ) -> Result<$crate::Revision, $crate::StorageError> {
            $crate::ComponentStorage::commit(&$inner, commit)
        }
    };
}

/// As [`forward_storage!`], for all methods of [`Store`].
macro_rules! forward_store {
    ($self:ident => $inner:expr) => {
        fn properties(&$self) -> $crate::StoreProperties {
            $crate::Store::properties(&$inner)
        }

        fn list_components(
            &$self,
            after: Option<&str>,
            limit: usize,
        ) -> Result<$crate::KeyPage, $crate::StorageError> {
            $crate::Store::list_components(&$inner, after, limit)
        }

        fn read_snapshot(
            &$self,
            prefix: &str,
            after: Option<&str>,
            visit: &mut $crate::SnapshotVisitor<'_>,
        ) -> Result<(), $crate::StorageError> {
            $crate::Store::read_snapshot(&$inner, prefix, after, visit)
        }

        fn flush(&$self) -> Result<(), $crate::StorageError> {
            $crate::Store::flush(&$inner)
        }

        fn verify(
            &$self,
            report: &mut dyn FnMut($crate::Problem),
        ) -> Result<$crate::Verified, $crate::StorageError> {
            $crate::Store::verify(&$inner, report)
        }

        fn compact(&$self) -> Result<$crate::Compacted, $crate::StorageError> {
            $crate::Store::compact(&$inner)
        }

        fn shared(&$self) -> Option<&dyn $crate::SharedStore> {
            $crate::Store::shared(&$inner)
        }
    };
}

macro_rules! forward_to_pointee {
    ($($pointer:ty),+) => {$(
        #[deny(clippy::missing_trait_methods)]
        impl<T: ComponentStorage + ?Sized> ComponentStorage for $pointer {
            forward_storage!(self => **self);
        }

        #[deny(clippy::missing_trait_methods)]
        impl<T: Store + ?Sized> Store for $pointer {
            forward_store!(self => **self);
        }
    )+};
}

forward_to_pointee!(&T, Box<T>, Arc<T>);
