//! A backend as its author begins.

use crate::{ComponentStorage, StorageError, StorageValue};

/// Lets through the five required methods of a storage and hides the others,
/// which are then the derived ones, or [`Unsupported`](StorageError::Unsupported).
///
/// ```
/// use storage_core::conformance::{FiveMethods, ReferenceStorage};
/// use storage_core::{ComponentStorage, StorageError};
///
/// let storage = FiveMethods::new(ReferenceStorage::new());
/// storage.set("key", "value".into())?;
/// assert_eq!(storage.get_many(&["key"])?, [Some("value".into())]);
/// assert!(matches!(storage.put("key", "2".into()), Err(StorageError::Unsupported(_))));
/// # Ok::<(), StorageError>(())
/// ```
#[derive(Debug)]
pub struct FiveMethods<S: ComponentStorage>(S);

impl<S: ComponentStorage> FiveMethods<S> {
    /// Hides the other methods of `storage`.
    pub fn new(storage: S) -> Self {
        Self(storage)
    }
}

#[expect(clippy::missing_trait_methods, reason = "what is hidden")]
impl<S: ComponentStorage> ComponentStorage for FiveMethods<S> {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        self.0.get(key)
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.0.set(key, value)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.0.delete(key)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        self.0.exists(key)
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        self.0.list_keys(prefix)
    }
}
