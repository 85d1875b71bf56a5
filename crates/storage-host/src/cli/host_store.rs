//! The store of a running host, for a copy or an export.

use std::sync::{Mutex, PoisonError};

use storage_host::{
    ComponentStorage, KeyPage, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties,
};

use super::beside::{Client, storage_error};

/// The store that another process has open. It can be listed and read as a whole.
pub(super) struct HostStore(Mutex<Client>);

impl HostStore {
    pub(super) fn new(client: Client) -> Self {
        Self(Mutex::new(client))
    }
}

fn unsupported<T>() -> Result<T, StorageError> {
    Err(StorageError::Unsupported("the store of another process is only read as a whole".into()))
}

impl ComponentStorage for HostStore {
    fn get(&self, _key: &str) -> Result<Option<StorageValue>, StorageError> {
        unsupported()
    }

    fn set(&self, _key: &str, _value: StorageValue) -> Result<(), StorageError> {
        unsupported()
    }

    fn delete(&self, _key: &str) -> Result<(), StorageError> {
        unsupported()
    }

    fn exists(&self, _key: &str) -> Result<bool, StorageError> {
        unsupported()
    }

    fn list_keys(&self, _prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        unsupported()
    }
}

impl Store for HostStore {
    fn properties(&self) -> StoreProperties {
        let properties = StoreProperties::new("host");
        let client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match client.store_id() {
            Some(id) => properties.with_store_id(id),
            None => properties,
        }
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        let mut client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        client.list_components(after, limit).map_err(storage_error)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        if after.is_some() {
            return unsupported();
        }
        let mut client = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        client.read_snapshot(prefix, visit).map_err(storage_error)
    }
}
