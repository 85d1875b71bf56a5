//! What lies in a store's folder beside RocksDB's own files, and whether there
//! is a store.
//!
//! ```text
//! WRITER      the writer's lock, with its process id
//! CREATING    there while a store is made: what is here is nobody's data yet
//! UNSYNCED    there while a store without fsync is open for writing, or was
//!             when its process was killed
//! CLOSED      how the store was last closed in order ([`super::seal`])
//! (others)    RocksDB's; its own LOCK keeps other programs out
//! ```

use std::path::{Path, PathBuf};

use storage_core::StorageError;

use super::errors;
use crate::disk::{self, Kind};
use crate::identity;
use crate::lock::WRITER_FILE;
use crate::store_path;

const CREATING_FILE: &str = "CREATING";
const UNSYNCED_FILE: &str = "UNSYNCED";
/// Names the manifest; without it RocksDB sees no database.
const CURRENT_FILE: &str = "CURRENT";

/// What is in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, or no folder.
    Nothing,
    /// A store that somebody began to make, and did not finish.
    Begun,
    /// A RocksDB database; `ours` if it is known to be a store.
    Database { ours: bool },
    /// Something else.
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

    /// The paths of the store that a path leads to.
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

    /// What is in the folder.
    ///
    /// # Errors
    /// [`StorageError::IoError`] if it is a file;
    /// [`StorageError::Corrupt`] if a database's files are there, but not the one
    /// without which RocksDB would begin a new one in their place.
    pub(super) fn look(&self) -> Result<Found, StorageError> {
        let root = &self.root;
        identity::refuse_file(root)?;
        let names = disk::names(root, Kind::Any)?;
        let has = |wanted: &str| names.iter().any(|name| name == wanted);
        if has(CREATING_FILE) {
            return Ok(Found::Begun);
        }
        if has(CURRENT_FILE) {
            return Ok(Found::Database { ours: has(WRITER_FILE) });
        }
        if names.iter().any(|name| name.starts_with("MANIFEST-") || name.ends_with(".sst")) {
            return Err(errors::corrupt(root, None, "its file CURRENT is missing"));
        }
        let nothing = names.iter().all(|name| name == WRITER_FILE);
        Ok(if nothing { Found::Nothing } else { Found::Foreign })
    }

    /// Says that a store is being made.
    pub(super) fn begin(&self) -> Result<(), StorageError> {
        self.mark(CREATING_FILE)
    }

    /// Removes what is left of a store that was begun.
    pub(super) fn clear_begun(&self) -> Result<(), StorageError> {
        let kept = [WRITER_FILE, CREATING_FILE];
        for name in disk::names(&self.root, Kind::File)? {
            if !kept.contains(&name.as_str()) && is_engines(&name) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Says that the store is made.
    pub(super) fn finish(&self) -> Result<(), StorageError> {
        self.remove(CREATING_FILE)?;
        disk::sync_directory(&self.root)
    }

    /// Whether what is written may be torn anywhere after a power cut.
    pub(super) fn is_unsynced(&self) -> Result<bool, StorageError> {
        disk::exists(&self.path(UNSYNCED_FILE))
    }

    /// Says so, or that it is no longer so.
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

/// Whether a file is the store's, by its name.
pub(super) fn is_stores(name: &str) -> bool {
    let beside = [
        WRITER_FILE,
        CREATING_FILE,
        UNSYNCED_FILE,
        super::seal::SEAL_FILE,
        super::seal::NEW_SEAL_FILE,
    ];
    beside.contains(&name) || is_engines(name)
}

/// Whether a file is one of those that RocksDB makes.
fn is_engines(name: &str) -> bool {
    let begins = ["CURRENT", "IDENTITY", "LOCK", "LOG", "MANIFEST-", "OPTIONS-"];
    let ends = [".log", ".sst", ".dbtmp", ".blob"];
    begins.iter().any(|begin| name.starts_with(begin)) || ends.iter().any(|end| name.ends_with(end))
}
