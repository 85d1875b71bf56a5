//! An open database, and reads of single keys.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use ::rocksdb::{ColumnFamily, DB, DBPinnableSlice, DEFAULT_COLUMN_FAMILY_NAME, ReadOptions};
use storage_core::{Revision, StorageError, StorageValue, Usage, VersionedValue};

use super::options::USAGE_COUNTERS;
use super::{counter_format, error, keys};
use crate::record;

pub(super) struct Database {
    pub(super) db: DB,
    pub(super) root: PathBuf,
    read_options: ReadOptions,
}

impl Database {
    pub(super) fn new(db: DB, root: PathBuf) -> Self {
        Self { db, root, read_options: ReadOptions::default() }
    }

    /// The record of a key, in RocksDB's memory.
    pub(super) fn record(&self, key: &str) -> Result<Option<DBPinnableSlice<'_>>, StorageError> {
        self.db
            .get_pinned_opt(keys::stored(key), &self.read_options)
            .map_err(|source| error::failed_to_read(key, &self.root, &source))
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        let Some(record) = self.record(key)? else { return Ok(None) };
        let (value, revision) = self.decode(key, &record)?;
        Ok(Some(VersionedValue { value: value.into(), revision }))
    }

    pub(super) fn get_many(
        &self,
        keys: &[&str],
    ) -> Result<Vec<Option<StorageValue>>, StorageError> {
        let Some(family) = self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME) else {
            return keys.iter().map(|key| Ok(self.get(key)?.map(|found| found.value))).collect();
        };
        let stored: Vec<Cow<'_, [u8]>> = keys.iter().map(|key| keys::stored(key)).collect();
        let records = self.db.batched_multi_get_cf_opt(family, &stored, false, &self.read_options);
        keys.iter()
            .zip(records)
            .map(|(key, record)| {
                let record =
                    record.map_err(|source| error::failed_to_read(key, &self.root, &source))?;
                let Some(record) = record else { return Ok(None) };
                let (value, _) = self.decode(key, &record)?;
                Ok(Some(value.into()))
            })
            .collect()
    }

    pub(super) fn decode<'a>(
        &self,
        key: &str,
        record: &'a [u8],
    ) -> Result<(&'a [u8], Revision), StorageError> {
        record::decode_keyless(key, record).map_err(|problem| {
            error::corrupt(&self.root, Some(key), &format!("cannot read the record: {problem}"))
        })
    }

    pub(super) fn counters_family(&self) -> Result<&ColumnFamily, StorageError> {
        self.db.cf_handle(USAGE_COUNTERS).ok_or_else(|| {
            error::corrupt(&self.root, None, &format!("it has no column family {USAGE_COUNTERS}"))
        })
    }

    /// Reads the usage counter of a component; `None` if there is none or a damaged one.
    pub(super) fn usage_counter(&self, component: &str) -> Result<Option<Usage>, StorageError> {
        let entry = self
            .db
            .get_pinned_cf_opt(self.counters_family()?, component, &self.read_options)
            .map_err(|source| error::failed("read", &self.root, &source))?;
        Ok(entry.and_then(|entry| counter_format::decode_total(component, &entry)))
    }

    /// Whether a component has a usage counter, damaged or not.
    pub(super) fn has_counter(&self, component: &str) -> Result<bool, StorageError> {
        let family = self.counters_family()?;
        match self.db.get_pinned_cf_opt(family, component, &self.read_options) {
            Ok(found) => Ok(found.is_some()),
            Err(source) if source.kind() == ::rocksdb::ErrorKind::Corruption => Ok(true),
            Err(source) => Err(error::failed("read", &self.root, &source)),
        }
    }

    /// Whether any component has a usage counter.
    pub(super) fn has_counters(&self) -> Result<bool, StorageError> {
        let mut entries =
            self.db.iterator_cf(self.counters_family()?, ::rocksdb::IteratorMode::Start);
        match entries.next() {
            None => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(source)) if source.kind() == ::rocksdb::ErrorKind::Corruption => Ok(true),
            Some(Err(source)) => Err(error::failed("read", &self.root, &source)),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("root", &self.root).finish_non_exhaustive()
    }
}
