//! The files that a store without fsync has written since the last flush.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use storage_core::StorageError;

use super::disk;
use super::layout::Layout;

/// How many files may wait for a flush before a write flushes them. Their paths take
/// about 10 MB.
const MAX_FILES: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Unflushed {
    files: Mutex<HashSet<PathBuf>>,
    /// Whether a flush has failed. Held during a flush, so that a second flush does not
    /// return before the first.
    failed: Mutex<bool>,
}

impl Unflushed {
    /// Adds a file that was written or removed. Returns whether a flush is due.
    pub(super) fn add(&self, file: PathBuf) -> bool {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(file);
        files.len() >= MAX_FILES
    }

    /// Makes all files durable that were added before.
    pub(super) fn flush(&self, layout: &Layout) -> Result<(), StorageError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        // A kernel may report a failed fsync once and let the next one succeed.
        if *failed {
            return Err(StorageError::Unavailable {
                key: None,
                detail: "an earlier flush failed, so it is unknown which writes are durable; \
                         reopen the store"
                    .to_owned(),
            });
        }
        let files = std::mem::take(&mut *self.files.lock().unwrap_or_else(PoisonError::into_inner));
        sync_all(layout, &files).inspect_err(|_| *failed = true)
    }
}

fn sync_all(layout: &Layout, files: &HashSet<PathBuf>) -> Result<(), StorageError> {
    let mut directories = HashSet::new();
    for file in files {
        match File::open(file).and_then(|opened| opened.sync_all()) {
            Ok(()) => {}
            // Deleted: syncing its directory is enough.
            Err(error) if disk::is_missing(&error) => {}
            Err(error) => return Err(disk::failed("fsync", file, &error)),
        }
        if let Some(directory) = file.parent() {
            directories.extend(layout.up_to_root(directory));
        }
    }
    directories.into_iter().try_for_each(disk::sync_directory_if_present)
}
