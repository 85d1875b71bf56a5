//! A storage reduced to its required methods.

use crate::{ComponentStorage, Store, StoreProperties, forward_storage};

/// Forwards only the required methods of a storage, so that the provided ones
/// are the defaults.
///
/// ```
/// use storage_core::conformance::{ReferenceStorage, RequiredMethods};
/// use storage_core::{Commit, ComponentStorage, StorageError};
///
/// let storage = RequiredMethods::new(ReferenceStorage::new());
/// storage.set("key", "value".into())?;
/// assert_eq!(storage.get_many(&["key"])?, [Some("value".into())]);
/// assert!(matches!(storage.commit(Commit::new()), Err(StorageError::Unsupported(_))));
/// # Ok::<(), StorageError>(())
/// ```
#[derive(Debug)]
pub struct RequiredMethods<S: ComponentStorage>(S);

impl<S: ComponentStorage> RequiredMethods<S> {
    /// Hides the other methods of `storage`.
    pub fn new(storage: S) -> Self {
        Self(storage)
    }
}

#[expect(clippy::missing_trait_methods, reason = "hides them on purpose")]
impl<S: ComponentStorage> ComponentStorage for RequiredMethods<S> {
    forward_storage!(self => self.0; get, set, delete, exists, list_keys);
}

#[expect(clippy::missing_trait_methods, reason = "hides them on purpose")]
impl<S: Store> Store for RequiredMethods<S> {
    fn properties(&self) -> StoreProperties {
        self.0.properties()
    }
}
