//! Reading keys.

use std::borrow::Cow;
use std::path::Path;

use ::rocksdb::{DBPinnableSlice, DEFAULT_COLUMN_FAMILY_NAME};
use storage_core::{Revision, StorageError, StorageValue, VersionedValue, validate_full_key};

use super::store::RocksDbStorage;
use super::{errors, keys};
use crate::record;

impl RocksDbStorage {
    /// The record of a key, in RocksDB's own memory.
    pub(super) fn record(&self, key: &str) -> Result<Option<DBPinnableSlice<'_>>, StorageError> {
        self.db
            .get_pinned_opt(keys::stored(key), &self.read_options)
            .map_err(|error| errors::failed_to_read(key, &self.root, &error))
    }

    /// The record of a key that a caller named.
    pub(super) fn record_asked_for(
        &self,
        key: &str,
    ) -> Result<Option<DBPinnableSlice<'_>>, StorageError> {
        validate_full_key(key)?;
        self.refuse_unsettled(key)?;
        self.record(key)
    }

    fn refuse_unsettled(&self, key: &str) -> Result<(), StorageError> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.unsettled.check(key))
    }

    pub(super) fn value(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        let Some(record) = self.record_asked_for(key)? else { return Ok(None) };
        let (value, _) = decode(key, &record, &self.root)?;
        Ok(Some(value.into()))
    }

    pub(super) fn versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        let Some(record) = self.record_asked_for(key)? else { return Ok(None) };
        let (value, revision) = decode(key, &record, &self.root)?;
        Ok(Some(VersionedValue { value: value.into(), revision }))
    }

    pub(super) fn values(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        for key in keys {
            validate_full_key(key)?;
            self.refuse_unsettled(key)?;
        }
        let Some(family) = self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME) else {
            return keys.iter().map(|key| self.value(key)).collect();
        };
        let stored: Vec<Cow<'_, [u8]>> = keys.iter().map(|key| keys::stored(key)).collect();
        let records = self.db.batched_multi_get_cf_opt(family, &stored, false, &self.read_options);
        keys.iter()
            .zip(records)
            .map(|(key, record)| {
                let record =
                    record.map_err(|error| errors::failed_to_read(key, &self.root, &error))?;
                let Some(record) = record else { return Ok(None) };
                let (value, _) = decode(key, &record, &self.root)?;
                Ok(Some(value.into()))
            })
            .collect()
    }
}

/// The value and the revision in a record.
pub(super) fn decode<'a>(
    key: &str,
    record: &'a [u8],
    root: &Path,
) -> Result<(&'a [u8], Revision), StorageError> {
    record::decode_beside_key(key, record)
        .map_err(|problem| errors::corrupt(root, Some(key), &format!("its record: {problem}")))
}
