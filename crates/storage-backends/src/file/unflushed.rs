//! What a store without fsync has written since the last flush.

use std::collections::HashSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use storage_core::StorageError;

use super::disk;
use super::layout::Layout;

/// How many files may wait for a flush before a write does one: bounds the
/// memory for their names to some 10 MB.
const MAX_FILES: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Unflushed {
    files: Mutex<HashSet<PathBuf>>,
    /// Held for a whole flush, so that the next one does not return before it;
    /// tells whether one has failed.
    flushing: Mutex<bool>,
}

impl Unflushed {
    /// Remembers a file that was written or removed; tells whether it is time
    /// to flush.
    pub(super) fn add(&self, file: PathBuf) -> bool {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(file);
        files.len() >= MAX_FILES
    }

    /// Makes everything durable that was added before.
    pub(super) fn flush(&self, layout: &Layout) -> Result<(), StorageError> {
        let mut failed = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(StorageError::Unavailable {
                key: None,
                detail:
                    "an earlier flush failed, so what is durable is not known; open the store anew"
                        .to_owned(),
            });
        }
        let files = std::mem::take(&mut *self.files.lock().unwrap_or_else(PoisonError::into_inner));
        // A kernel may report a failed fsync once and call the next one done.
        sync_all(layout, &files).inspect_err(|_| *failed = true)
    }
}

fn sync_all(layout: &Layout, files: &HashSet<PathBuf>) -> Result<(), StorageError> {
    let mut folders = HashSet::new();
    for file in files {
        match File::open(file).and_then(|opened| opened.sync_all()) {
            Ok(()) => {}
            // Deleted: its folder is all there is to sync.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(disk::failed("fsync", file, &error)),
        }
        if let Some(folder) = file.parent() {
            folders.extend(layout.up_to_root(folder));
        }
    }
    folders.into_iter().try_for_each(disk::sync_folder_if_there)
}
