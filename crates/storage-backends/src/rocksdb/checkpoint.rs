//! A copy of the store while it is in use.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use ::rocksdb::checkpoint::Checkpoint;
use storage_core::StorageError;

use super::layout::Layout;
use super::opening;
use super::options::RocksDbOptions;
use super::store::{RocksDbStorage, write_out};
use super::{errors, meta};
use crate::disk;
use crate::identity;

/// What the copy may take in memory while it is given its id.
const SMALL_BYTES: usize = 1 << 20;

impl RocksDbStorage {
    /// Makes a store at `target`, which must not exist, with everything that this
    /// one holds, as of one moment between the call and its return. Writers go on.
    ///
    /// On one file system the copy takes little room and time: it shares the
    /// files that never change. It has an id of its own, because from there on
    /// the two give the same revisions to different writes.
    ///
    /// The copy is made beside `target`, in a folder whose name begins with it
    /// and goes on with `.partial-`, and takes its name when it is whole and
    /// durable. A process that is killed meanwhile leaves that folder behind.
    ///
    /// # Errors
    /// [`StorageError::ReadOnly`] if this store is open for reading only;
    /// [`StorageError::IoError`] if `target` exists or cannot be written.
    pub fn checkpoint(&self, target: &Path) -> Result<(), StorageError> {
        let writer = self.writer()?;
        if disk::exists(target)? {
            return Err(StorageError::IoError(format!(
                "{} exists; give the path of a store to be made",
                target.display()
            )));
        }
        self.refuse_while_broken(writer)?;
        // It is made from the files that the path leads to.
        writer.lock.check()?;
        if let Some(above) = target.parent().filter(|above| !above.as_os_str().is_empty()) {
            disk::create_directories(above)?;
        }
        let partial = partial(target);
        self.copy_to(&partial, target).inspect_err(|_| {
            // What could not be copied is of no use.
            let _ = fs::remove_dir_all(&partial);
        })
    }

    fn copy_to(&self, private: &Path, target: &Path) -> Result<(), StorageError> {
        // RocksDB makes the copy's directory by the umask.
        disk::create_store_directory(private)?;
        let partial = &private.join("store");
        let failed = |error: ::rocksdb::Error| errors::failed("make a copy of", &self.root, &error);
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(partial))
            .map_err(failed)?;
        disk::keep_private(partial)?;
        let options = RocksDbOptions::default()
            .with_block_cache_bytes(SMALL_BYTES)
            .with_write_buffer_bytes(SMALL_BYTES);
        let copy = opening::open_copy(partial, &options)?;
        meta::renew_store_id(&copy, partial)?;
        write_out(&copy).map_err(|error| errors::failed("flush", partial, &error))?;
        drop(copy);
        opening::seal_closed(&Layout::new(partial))?;
        disk::sync_directory(partial)?;
        disk::rename(partial, target).map_err(|error| disk::failed("make", target, &error))?;
        disk::sync_parent(target)?;
        let _ = fs::remove_dir(private);
        Ok(())
    }
}

/// A path beside the target that nobody else uses.
fn partial(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(format!(".partial-{}", identity::new_store_id()));
    name.into()
}
