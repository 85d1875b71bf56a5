//! Rewrites all files without deleted and overwritten values.

use std::path::Path;

use ::rocksdb::{BottommostLevelCompaction, CompactOptions};
use storage_core::{Compacted, StorageError};

use super::database::Database;
use super::engine_writer::EngineWriter;
use super::options::COLUMN_FAMILIES;
use super::{error, opening};
use crate::disk;

/// The number of failed flushes and compactions.
const ERRORS: &str = "rocksdb.background-errors";

/// Compacts the store, while others may read and write.
pub(super) fn compact(
    database: &Database,
    writer: &EngineWriter,
) -> Result<Compacted, StorageError> {
    let Database { db, root, .. } = database;
    writer.check_working(database)?;
    writer.check_in_place()?;
    let bytes_before = files_bytes(root)?;
    let errors_before = errors(database)?;
    opening::flush_memory(db).map_err(|source| error::failed("flush", root, &source))?;
    let mut options = CompactOptions::default();
    // By default files of the last level are kept, with the values that were deleted since.
    options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    for family in COLUMN_FAMILIES.iter().filter_map(|name| db.cf_handle(name)) {
        db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
    }
    // It returns no error.
    if errors(database)? != errors_before {
        return Err(StorageError::IoError(format!(
            "cannot compact {}: RocksDB could not write its files; their data is unchanged. Is the \
             disk full?",
            root.display()
        )));
    }
    Ok(Compacted { bytes_before, bytes_after: files_bytes(root)? })
}

fn errors(database: &Database) -> Result<Option<u64>, StorageError> {
    let count = database.db.property_int_value(ERRORS);
    count.map_err(|source| error::failed("read the state of", &database.root, &source))
}

/// The size of all files of the store.
fn files_bytes(root: &Path) -> Result<u64, StorageError> {
    let mut bytes: u64 = 0;
    for name in disk::names(root, disk::Kind::File)? {
        // RocksDB may remove it in the meantime.
        bytes = bytes.saturating_add(disk::file_len(&root.join(name))?.unwrap_or(0));
    }
    Ok(bytes)
}
