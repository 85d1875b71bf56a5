//! The metadata of a store: the column family `meta`.
//!
//! | key | value |
//! |---|---|
//! | `format` | the version of the format, in ASCII |
//! | `store-id` | 128 random bits, in 32 hexadecimal digits |
//! | `revisions` | the first revision that is not reserved: 8 bytes, little-endian |
//! | `probe` | empty; written to test whether writes work again |

use std::path::Path;

use ::rocksdb::{ColumnFamily, DB, WriteBatch, WriteOptions};
use storage_core::StorageError;

use super::error;
use super::options::META;
use crate::identity;

const FORMAT_VERSION: &str = "1";
pub(super) const FORMAT_NUMBER: u32 = 1;
const FORMAT: &str = "format";
const STORE_ID: &str = "store-id";
const REVISIONS: &str = "revisions";
const PROBE: &str = "probe";

/// The first revision of a new store.
const FIRST_REVISION: u64 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) store_id: String,
    /// The first revision that is not reserved.
    pub(super) reserved: u64,
}

/// Reads the metadata.
///
/// # Errors
/// [`StorageError::Unsupported`] for a store of another format;
/// [`StorageError::Corrupt`] if anything is missing or invalid.
pub(super) fn read(db: &DB, root: &Path) -> Result<Meta, StorageError> {
    let family = family(db, root)?;
    let text = |key: &str| {
        let bytes = get(db, family, root, key)?;
        String::from_utf8(bytes).map_err(|_| broken(root, key))
    };
    let format = text(FORMAT)?;
    if format != FORMAT_VERSION {
        return Err(identity::other_format(root, format, FORMAT_VERSION));
    }
    let store_id = text(STORE_ID)?;
    if store_id.len() != 32 || !store_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(broken(root, STORE_ID));
    }
    let reserved: [u8; 8] =
        get(db, family, root, REVISIONS)?.try_into().map_err(|_| broken(root, REVISIONS))?;
    Ok(Meta { store_id, reserved: u64::from_le_bytes(reserved) })
}

/// Writes the metadata of a new store.
pub(super) fn create(db: &DB, root: &Path) -> Result<(), StorageError> {
    let family = family(db, root)?;
    let mut batch = WriteBatch::default();
    batch.put_cf(family, FORMAT, FORMAT_VERSION);
    batch.put_cf(family, STORE_ID, identity::new_store_id());
    batch.put_cf(family, REVISIONS, FIRST_REVISION.to_le_bytes());
    db.write_opt(batch, &synced()).map_err(|source| error::failed("create", root, &source))
}

/// Gives a copy its own store id.
pub(super) fn renew_store_id(db: &DB, root: &Path) -> Result<(), StorageError> {
    put(db, root, STORE_ID, identity::new_store_id().as_bytes())
}

/// Records durably that the revisions below `up_to` are reserved.
pub(super) fn reserve(db: &DB, root: &Path, up_to: u64) -> Result<(), StorageError> {
    put(db, root, REVISIONS, &up_to.to_le_bytes())
}

/// Tests whether writes work.
pub(super) fn probe(db: &DB, root: &Path) -> Result<(), StorageError> {
    put(db, root, PROBE, b"")
}

fn put(db: &DB, root: &Path, key: &str, value: &[u8]) -> Result<(), StorageError> {
    db.put_cf_opt(family(db, root)?, key, value, &synced())
        .map_err(|source| error::failed("write to", root, &source))
}

fn get(db: &DB, family: &ColumnFamily, root: &Path, key: &str) -> Result<Vec<u8>, StorageError> {
    db.get_cf(family, key)
        .map_err(|source| error::failed("read", root, &source))?
        .ok_or_else(|| broken(root, key))
}

fn family<'a>(db: &'a DB, root: &Path) -> Result<&'a ColumnFamily, StorageError> {
    db.cf_handle(META).ok_or_else(|| error::corrupt(root, None, "it has no column family meta"))
}

fn broken(root: &Path, key: &str) -> StorageError {
    error::corrupt(root, None, &format!("its {key} is missing or invalid"))
}

/// Metadata is synced with any durability.
fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}
