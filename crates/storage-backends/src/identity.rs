//! Store ids, and errors for paths without a usable store.

#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
#[cfg(any(feature = "file", feature = "rocksdb"))]
use std::io::ErrorKind;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
use std::path::Path;

#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
use storage_core::StorageError;

#[cfg(any(feature = "file", feature = "rocksdb"))]
use crate::io_failure;

/// Returns an id for a new store: 128 random bits, in 32 hexadecimal digits. Not a secret.
pub(crate) fn new_store_id() -> String {
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}

#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
/// The error of a reader that finds no store: the path `does not exist` or `is not a store`.
pub(crate) fn no_store(path: &Path, what: &str) -> StorageError {
    StorageError::IoError(format!(
        "{} {what}; a store is created when it is first opened for writing",
        path.display()
    ))
}

#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
/// The error for an unknown format.
pub(crate) fn other_format(path: &Path, found: impl Display, known: impl Display) -> StorageError {
    StorageError::Unsupported(format!(
        "the store in {} has format {found}, but this program reads format {known}; use the release that wrote it",
        path.display()
    ))
}

#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
/// The error when the revision counter is exhausted, which only damage can cause.
pub(crate) fn no_revision_left() -> StorageError {
    StorageError::Corrupt {
        key: None,
        detail:
            "the revision counter is exhausted; copy the store to a new one, which starts a new \
                 counter"
                .into(),
    }
}

/// The error for a directory with other files.
#[cfg(any(feature = "file", feature = "rocksdb"))]
pub(crate) fn foreign_directory(root: &Path) -> StorageError {
    StorageError::IoError(format!(
        "{} holds files that do not belong to a store; give the path of a store, or of an empty or missing directory",
        root.display()
    ))
}

/// Refuses a path that is a file or too long.
///
/// # Errors
/// [`StorageError::IoError`].
#[cfg(any(feature = "file", feature = "rocksdb"))]
pub(crate) fn refuse_file(root: &Path) -> Result<(), StorageError> {
    if let Err(error) = root.symlink_metadata()
        && error.kind() == ErrorKind::InvalidFilename
    {
        return Err(io_failure::failed("open", root, &error));
    }
    if root.is_file() {
        return Err(StorageError::IoError(format!(
            "{} is a file, not a store directory",
            root.display()
        )));
    }
    Ok(())
}
