//! What a lasting store is known by, and how a place is refused that is no store,
//! or not one of ours.

use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
#[cfg(any(feature = "file", feature = "rocksdb"))]
use std::io::ErrorKind;
use std::path::Path;

use storage_core::StorageError;

#[cfg(any(feature = "file", feature = "rocksdb"))]
use crate::io_failure;

/// An id for a new store: 128 random bits, in 32 hexadecimal digits. Not a
/// secret: it tells one store from another.
pub(crate) fn new_store_id() -> String {
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}

/// For whoever does not make a store where there is none. `what` says how that
/// shows: it `does not exist`, or `is no store`.
pub(crate) fn no_store(path: &Path, what: &str) -> StorageError {
    StorageError::IoError(format!(
        "{} {what}; a store is made when something is first written to it",
        path.display()
    ))
}

/// The store has a format that this program does not know.
pub(crate) fn other_format(path: &Path, found: impl Display, known: impl Display) -> StorageError {
    StorageError::Unsupported(format!(
        "the store in {} has format {found}, this program knows format {known}; use the release that wrote it",
        path.display()
    ))
}

/// The counter of revisions is at its end. No store comes there by itself: somebody
/// has written the number.
pub(crate) fn no_revision_left() -> StorageError {
    StorageError::Corrupt {
        key: None,
        detail:
            "the counter of revisions is at its end; copy the store to a new one, which counts \
                 anew"
                .into(),
    }
}

/// A folder that is somebody else's.
#[cfg(any(feature = "file", feature = "rocksdb"))]
pub(crate) fn foreign_folder(root: &Path) -> StorageError {
    StorageError::IoError(format!(
        "{} holds files that belong to no store; give the path of a store, or of an empty or missing folder",
        root.display()
    ))
}

/// Refuses a file where the folder of a store should be, and a path that the file
/// system cannot hold.
///
/// # Errors
/// [`StorageError::IoError`].
#[cfg(any(feature = "file", feature = "rocksdb"))]
pub(crate) fn refuse_file(root: &Path) -> Result<(), StorageError> {
    if let Err(error) = root.symlink_metadata()
        && error.kind() == ErrorKind::InvalidFilename
    {
        return Err(StorageError::IoError(io_failure::message("open", root, &error)));
    }
    if root.is_file() {
        return Err(StorageError::IoError(format!(
            "{} is a file, not the folder of a store",
            root.display()
        )));
    }
    Ok(())
}
