//! RocksDB's errors in the store's terms.

use std::path::Path;

use ::rocksdb::{Error, ErrorKind};
use storage_core::StorageError;

/// What RocksDB says where its own process has the path open.
const HELD_HERE: &str = "lock hold by current process";

/// An error of RocksDB when it was asked to do `what` with the store in `root`.
pub(super) fn failed(what: &str, root: &Path, error: &Error) -> StorageError {
    let text: &str = error.as_ref();
    let place = root.display();
    match error.kind() {
        ErrorKind::Corruption => corrupt(root, None, text),
        ErrorKind::IOError if names_a_lock(text) => StorageError::Locked(format!(
            "the store {place} is locked: {} ({text})",
            if text.contains(HELD_HERE) {
                "this process has a database open at this path, or had one that was moved; close \
                 it, or restart the process"
            } else {
                "another program has the database open; retry when it has closed it"
            }
        )),
        ErrorKind::IOError => {
            StorageError::IoError(format!("cannot {what} {place}: {text}{}", advice(text)))
        }
        ErrorKind::TimedOut | ErrorKind::Busy | ErrorKind::TryAgain | ErrorKind::Aborted => {
            StorageError::Unavailable {
                key: None,
                detail: format!("cannot {what} {place}: {text}"),
            }
        }
        _ => StorageError::IoError(format!("cannot {what} {place}: {text}")),
    }
}

/// What is stored under a key, or of the store itself, is not what was written.
pub(super) fn corrupt(root: &Path, key: Option<&str>, detail: &str) -> StorageError {
    let help = match key {
        Some(_) => "restore the store from a copy, or write or delete the key",
        None => "restore the store from a copy",
    };
    StorageError::Corrupt {
        key: key.map(str::to_owned),
        detail: format!("{}: {detail}; {help}", root.display()),
    }
}

/// The error of a read, with the key that it was for.
pub(super) fn failed_to_read(key: &str, root: &Path, error: &Error) -> StorageError {
    match error.kind() {
        ErrorKind::Corruption => corrupt(root, Some(key), error.as_ref()),
        _ => failed("read", root, error),
    }
}

/// Whether the error is of a file that is not there.
pub(super) fn names_a_missing_file(error: &Error) -> bool {
    error.kind() == ErrorKind::IOError && error.as_ref().contains("No such file or directory")
}

fn names_a_lock(text: &str) -> bool {
    text.contains(HELD_HERE) || text.contains("While lock file")
}

/// What to do about it, where something helps.
fn advice(text: &str) -> &'static str {
    if text.contains("No space left on device") {
        "; the disk is full: free some space and try again, or open the store anew"
    } else if text.contains("Permission denied") {
        "; check who owns the store's folder"
    } else if text.contains("Read-only file system") {
        "; the file system is mounted read-only"
    } else if text.contains("Too many open files") {
        "; raise the limit of open files (ulimit -n)"
    } else {
        ""
    }
}
