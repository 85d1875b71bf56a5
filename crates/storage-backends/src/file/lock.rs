//! One writer at a time: an operating system's lock on a file in the store.
//!
//! The kernel drops the lock when its process ends, however it ends, so a killed
//! writer leaves nothing behind that a person has to clean up.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use storage_core::StorageError;

use super::disk;

/// The name of the file; it holds the writer's process id for people.
pub(super) const LOCK_FILE: &str = "LOCK";

/// Held for as long as the store is open for writing.
#[derive(Debug)]
pub(super) struct WriterLock {
    _file: File,
}

impl WriterLock {
    /// Takes the lock of the store in `root`.
    ///
    /// # Errors
    /// [`StorageError::Locked`] with the path and the process that has it.
    pub(super) fn take(root: &Path) -> Result<Self, StorageError> {
        let path = root.join(LOCK_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| disk::failed("open", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked_by_another(root, &mut file)),
            Err(TryLockError::Error(error)) => return Err(disk::failed("lock", &path, &error)),
        }
        // The number is a courtesy: a full disk must not keep a store shut.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

fn locked_by_another(root: &Path, file: &mut File) -> StorageError {
    let mut holder = String::new();
    // A writer may be between emptying the file and writing into it.
    let _ = file.read_to_string(&mut holder);
    let holder = match holder.trim() {
        "" => "another process".to_owned(),
        pid => format!("process {pid}"),
    };
    StorageError::Locked(format!(
        "{holder} has {} open; end it, or ask it for the data",
        root.display()
    ))
}
