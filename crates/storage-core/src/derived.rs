//! What the five required methods already imply: the bodies of the provided
//! methods.

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

/// Answers [`list_partitions`](ComponentStorage::list_partitions) from the listing
/// of all keys.
///
/// For decorators that show a part of the storage below, and whose partitions are
/// not its own. Costs a whole listing.
///
/// # Errors
/// Those of the listing.
pub fn partitions_from_listing<S: ComponentStorage + ?Sized>(
    storage: &S,
    after: Option<&str>,
    limit: usize,
) -> Result<KeyPage, StorageError> {
    let mut partitions: Vec<String> = Vec::new();
    for key in storage.list_keys(None)? {
        let (partition, _) = split_full_key(&key);
        let wanted = !partition.is_empty() && after.is_none_or(|after| partition > after);
        if wanted && partitions.last().is_none_or(|last| last != partition) {
            partitions.push(partition.to_owned());
        }
    }
    Ok(KeyPage::cut(partitions, limit))
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
        // A key that was deleted since it was listed counts no more.
        if let Some(value) = storage.get(&key)? {
            total = total + Usage::of(&key, value.len());
        }
    }
    Ok(total)
}

pub(crate) fn no_revisions() -> StorageError {
    StorageError::Unsupported("this storage keeps no revisions; another backend does".into())
}

pub(crate) fn no_snapshots() -> StorageError {
    StorageError::Unsupported("this storage cannot be read as of one moment".into())
}

pub(crate) fn no_commits() -> StorageError {
    StorageError::Unsupported("this storage has no atomic commit; another backend does".into())
}
