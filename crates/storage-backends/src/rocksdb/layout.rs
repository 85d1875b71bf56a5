//! The files of a store directory.
//!
//! ```text
//! WRITER      the writer's lock, with its process id
//! CREATING    exists while a store is created and has no data
//! UNSYNCED    exists while a store without fsync is open for writing, and after its
//!             process was killed
//! CLOSED      describes the last clean close ([`super::close_marker`])
//! (others)    RocksDB's; its own LOCK keeps other programs out
//! ```

use std::path::{Path, PathBuf};

use storage_core::StorageError;

use super::error;
use crate::disk::{self, Kind};
use crate::identity;
use crate::lock::WRITER_FILE;
use crate::store_path;

const CREATING_FILE: &str = "CREATING";
const UNSYNCED_FILE: &str = "UNSYNCED";
pub(super) const CLOSED_FILE: &str = "CLOSED";
/// The temporary name of `CLOSED`.
pub(super) const NEW_CLOSED_FILE: &str = "CLOSED.new";
/// Names the manifest. Without it RocksDB finds no database.
pub(super) const CURRENT_FILE: &str = "CURRENT";

/// What is in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or the directory is missing.
    Nothing,
    /// A store whose creation was interrupted.
    Incomplete,
    /// A RocksDB database; `ours` if it is known to be a store.
    Database { ours: bool },
    /// Other files.
    Foreign,
}

/// The paths of a store.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The paths of the store at a path, which may be a symbolic link.
    ///
    /// # Errors
    /// [`StorageError::IoError`] if it is a symbolic link whose target does not
    /// exist.
    pub(super) fn of_store(path: &Path) -> Result<Self, StorageError> {
        Ok(Self { root: store_path::resolve(path)? })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Inspects the directory.
    ///
    /// # Errors
    /// [`StorageError::IoError`] if it is a file;
    /// [`StorageError::Corrupt`] if it has files of a database but no `CURRENT`: RocksDB
    /// would replace them with a new database.
    pub(super) fn inspect(&self) -> Result<Found, StorageError> {
        let root = &self.root;
        identity::refuse_file(root)?;
        let names = disk::names(root, Kind::Any)?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        if has(CREATING_FILE) {
            return Ok(Found::Incomplete);
        }
        if has(CURRENT_FILE) {
            return Ok(Found::Database { ours: has(WRITER_FILE) });
        }
        if names.iter().any(|name| name.starts_with("MANIFEST-") || name.ends_with(".sst")) {
            return Err(error::corrupt(root, None, "its file CURRENT is missing"));
        }
        let nothing = names.iter().all(|name| name == WRITER_FILE);
        Ok(if nothing { Found::Nothing } else { Found::Foreign })
    }

    /// Marks the store as being created.
    pub(super) fn begin_creation(&self) -> Result<(), StorageError> {
        self.mark(CREATING_FILE)
    }

    /// Removes the files of an earlier creation that was interrupted.
    pub(super) fn clear_incomplete(&self) -> Result<(), StorageError> {
        let kept = [WRITER_FILE, CREATING_FILE];
        for name in disk::names(&self.root, Kind::File)? {
            if !kept.contains(&name.as_str()) && belongs_to_engine(&name) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Marks the store as created.
    pub(super) fn finish_creation(&self) -> Result<(), StorageError> {
        self.remove(CREATING_FILE)?;
        disk::sync_directory(&self.root)
    }

    /// Whether a power cut may have torn any part of the log.
    pub(super) fn is_unsynced(&self) -> Result<bool, StorageError> {
        disk::exists(&self.path(UNSYNCED_FILE))
    }

    /// Creates or removes the marker of [`is_unsynced`](Self::is_unsynced).
    pub(super) fn set_unsynced(&self, unsynced: bool) -> Result<(), StorageError> {
        match (unsynced, self.is_unsynced()?) {
            (true, false) => self.mark(UNSYNCED_FILE),
            (false, true) => {
                self.remove(UNSYNCED_FILE)?;
                disk::sync_directory(&self.root)
            }
            _ => Ok(()),
        }
    }

    fn mark(&self, name: &str) -> Result<(), StorageError> {
        let path = self.path(name);
        if !disk::exists(&path)? {
            disk::write_new(&path, b"", true)?;
        }
        disk::sync_directory(&self.root)
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.path(name);
        disk::remove(&path).map(drop).map_err(|error| disk::failed("remove", &path, &error))
    }
}

/// Whether a file of this name belongs to a store.
pub(super) fn belongs_to_store(name: &str) -> bool {
    let own = [WRITER_FILE, CREATING_FILE, UNSYNCED_FILE, CLOSED_FILE, NEW_CLOSED_FILE];
    own.contains(&name) || belongs_to_engine(name)
}

/// Whether RocksDB creates files of this name.
fn belongs_to_engine(name: &str) -> bool {
    let begins = ["CURRENT", "IDENTITY", "LOCK", "LOG", "MANIFEST-", "OPTIONS-"];
    let ends = [".log", ".sst", ".dbtmp", ".blob"];
    begins.iter().any(|begin| name.starts_with(begin)) || ends.iter().any(|end| name.ends_with(end))
}
