//! Copies a store while it is in use.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use ::rocksdb::checkpoint::Checkpoint;
use storage_core::StorageError;

use super::database::Database;
use super::engine_writer::EngineWriter;
use super::layout::Layout;
use super::options::RocksDbOptions;
use super::{close_marker, error, meta, opening};
use crate::{disk, identity};

/// How much memory the copy may use while it gets its id.
const SMALL_BYTES: usize = 1 << 20;

/// Creates a copy of the store at `target`.
pub(super) fn create(
    database: &Database,
    writer: &EngineWriter,
    target: &Path,
) -> Result<(), StorageError> {
    if disk::exists(target)? {
        return Err(StorageError::IoError(format!(
            "{} exists; give the path of a new store",
            target.display()
        )));
    }
    writer.check_working(database)?;
    // RocksDB copies the files at the store's path.
    writer.check_in_place()?;
    if let Some(above) = target.parent().filter(|above| !above.as_os_str().is_empty()) {
        disk::create_directories(above)?;
    }
    let partial = partial_path(target);
    copy(database, &partial, target).inspect_err(|_| {
        let _ = fs::remove_dir_all(&partial);
    })
}

fn copy(database: &Database, private: &Path, target: &Path) -> Result<(), StorageError> {
    // RocksDB ignores the mode of the store when it creates the directory of the copy.
    disk::create_store_directory(private)?;
    let partial = &private.join("store");
    Checkpoint::new(&database.db)
        .and_then(|checkpoint| checkpoint.create_checkpoint(partial))
        .map_err(|source| error::failed("copy", &database.root, &source))?;
    disk::keep_private(partial)?;
    let options = RocksDbOptions::default()
        .with_block_cache_bytes(SMALL_BYTES)
        .with_write_buffer_bytes(SMALL_BYTES);
    let copy = opening::open_copy(partial, &options)?;
    meta::renew_store_id(&copy, partial)?;
    opening::flush_memory(&copy).map_err(|source| error::failed("flush", partial, &source))?;
    drop(copy);
    close_marker::write(&Layout::new(partial))?;
    disk::sync_directory(partial)?;
    disk::rename(partial, target).map_err(|error| disk::failed("create", target, &error))?;
    disk::sync_parent(target)?;
    let _ = fs::remove_dir(private);
    Ok(())
}

/// A unique path next to the target.
fn partial_path(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(format!(".partial-{}", identity::new_store_id()));
    name.into()
}
