//! The bodies of the provided methods, built on the required ones.

use crate::{
    ComponentStorage, KeyPage, PageRequest, StorageError, StorageValue, Usage, split_full_key,
};

pub(crate) fn list_page<S: ComponentStorage + ?Sized>(
    storage: &S,
    request: PageRequest<'_>,
) -> Result<KeyPage, StorageError> {
    let mut keys = storage.list_keys(Some(request.prefix))?;
    keys.retain(|key| request.wants(key));
    Ok(KeyPage::cut(keys, request.limit))
}

pub(crate) fn list_components<S: ComponentStorage + ?Sized>(
    storage: &S,
    after: Option<&str>,
    limit: usize,
) -> Result<KeyPage, StorageError> {
    let mut components: Vec<String> = Vec::new();
    for key in storage.list_keys(None)? {
        let (component, _) = split_full_key(&key);
        let wanted = !component.is_empty() && after.is_none_or(|after| component > after);
        if wanted && components.last().is_none_or(|last| last != component) {
            components.push(component.to_owned());
        }
    }
    Ok(KeyPage::cut(components, limit))
}

pub(crate) fn get_many<S: ComponentStorage + ?Sized>(
    storage: &S,
    keys: &[&str],
) -> Result<Vec<Option<StorageValue>>, StorageError> {
    keys.iter().map(|key| storage.get(key)).collect()
}

pub(crate) fn usage<S: ComponentStorage + ?Sized>(
    storage: &S,
    prefix: Option<&str>,
) -> Result<Usage, StorageError> {
    let mut total = Usage::default();
    for key in storage.list_keys(prefix)? {
        // A key may be deleted after it was listed.
        if let Some(value) = storage.get(&key)? {
            total = total + Usage::of(&key, value.len());
        }
    }
    Ok(total)
}

pub(crate) fn no_revisions() -> StorageError {
    unsupported("this storage keeps no revisions; use another backend")
}

pub(crate) fn no_commits() -> StorageError {
    unsupported("this storage has no atomic commits; use another backend")
}

pub(crate) fn no_snapshots() -> StorageError {
    unsupported("this store has no snapshots; use another backend")
}

pub(crate) fn no_verify() -> StorageError {
    unsupported("this store cannot be verified while it is open")
}

pub(crate) fn no_compact() -> StorageError {
    unsupported("this store cannot be compacted")
}

#[cfg(feature = "conformance")]
pub(crate) fn no_shared_store() -> StorageError {
    unsupported("no other host can write to this store")
}

fn unsupported(what: &str) -> StorageError {
    StorageError::Unsupported(what.to_owned())
}
