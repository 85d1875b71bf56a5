//! Finds, creates and locks the store file.
//!
//! The lock is the operating system's, on the file itself. So a store is one file, and a
//! killed process leaves no lock behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use storage_core::StorageError;
use tempfile::{NamedTempFile, PersistError};

use crate::faults::fault_point;
use crate::io_failure::failed;
use crate::lock;
use crate::locked_file::LockedFile;

/// The first bytes of every redb file.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// What is at the path of a store.
pub(super) enum Found {
    Nothing,
    /// A redb file; it may belong to another program.
    Database,
}

/// Inspects a path without changing anything.
///
/// # Errors
/// [`StorageError::IoError`] if it is neither a redb file, nor empty, nor missing.
pub(super) fn inspect(path: &Path) -> Result<Found, StorageError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(failed("read the metadata of", path, &error)),
        Ok(found) if found.is_dir() => {
            return Err(StorageError::IoError(format!(
                "{} is a directory, not a store file",
                path.display()
            )));
        }
        Ok(found) if !found.is_file() => {
            return Err(StorageError::IoError(format!("{} is not a regular file", path.display())));
        }
        // As `touch` and `mktemp` create it: it can be replaced.
        Ok(found) if found.len() == 0 => return Ok(Found::Nothing),
        Ok(_) => {}
    }
    let mut start = [0; MAGIC.len()];
    let read = File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut start));
    match read {
        Ok(()) if start == MAGIC => Ok(Found::Database),
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(failed("read", path, &error)),
        _ => Err(StorageError::IoError(format!(
            "{} is not a redb database; give the path of a store, or a new path",
            path.display()
        ))),
    }
}

/// Opens an existing file and locks it for a writer.
///
/// # Errors
/// [`StorageError::Locked`] if it is open anywhere; [`StorageError::IoError`] also
/// where locks do not work.
pub(super) fn open_to_write(path: &Path) -> Result<Arc<LockedFile>, StorageError> {
    let file = lock::lock_exclusive(path, path, || open_for_writing(path))?;
    // A killed process may have left a commit that is not on disk yet. Make it durable
    // before anything reads it.
    fault_point("sync")
        .and_then(|()| file.sync_data())
        .map_err(|error| failed("fsync", path, &error))?;
    Ok(Arc::new(file))
}

fn open_for_writing(path: &Path) -> Result<File, StorageError> {
    let open = OpenOptions::new().read(true).write(true).open(path);
    open.map_err(|error| failed("open", path, &error))
}

/// Opens an existing file and locks it for a reader.
///
/// # Errors
/// [`StorageError::Locked`] if a writer has it open.
pub(super) fn open_to_read(path: &Path) -> Result<Arc<LockedFile>, StorageError> {
    let file = File::open(path).map_err(|error| failed("open", path, &error))?;
    lock::lock_shared(path, file).map(Arc::new)
}

/// The prefix of a new store's temporary name; the rest is random. It does not contain
/// the store's own name, which may already have the maximum length.
const NEW_PREFIX: &str = ".redb-new-";

/// Creates the file of a new store under a temporary name and renames it, so that a
/// killed process leaves a complete store or none.
///
/// `fill` writes the store to the file, durably. A store that another process creates
/// at the same time is kept instead.
pub(super) fn create(
    path: &Path,
    fill: impl FnOnce(&Path, Arc<LockedFile>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    create_parents(path)?;
    let cannot_create = |error: &io::Error| failed("create", path, error);
    // Dropping `new` removes the file unless it was renamed.
    let new = fault_point("create")
        .and_then(|()| {
            let mut builder = tempfile::Builder::new();
            builder.prefix(NEW_PREFIX).make_in(directory_of(path), create_new)
        })
        .map_err(|error| cannot_create(&error))?;
    // Locked until the store has its name.
    let file = lock::lock_exclusive(path, new.path(), || open_for_writing(new.path()))?;
    let file = Arc::new(file);
    fill(path, Arc::clone(&file))?;
    fault_point("rename").map_err(|error| cannot_create(&error))?;
    rename(new, path)?;
    sync_parent(path)
}

/// Creates a private file. The error is the system's own, without the path that
/// `tempfile` would add.
fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Gives a new store its name, unless there is already a store.
fn rename(new: NamedTempFile, path: &Path) -> Result<(), StorageError> {
    let new = match new.persist_noclobber(path) {
        Ok(_) => return Ok(()),
        Err(PersistError { error, file }) => {
            // Some file systems support neither hard links nor a no-replace rename.
            // There an empty file reserves the name.
            if error.kind() != ErrorKind::AlreadyExists {
                create_empty(path)?;
            }
            file
        }
    };
    if matches!(inspect(path)?, Found::Database) {
        // Another process created it.
        return Ok(());
    }
    // Only an empty file is replaced, under its lock, so that only one process does it.
    let found = lock::lock_exclusive(path, path, || open_for_writing(path))?;
    let len = found.metadata().map_err(|error| failed("read the metadata of", path, &error))?.len();
    if len == 0 {
        new.persist(path).map_err(|failure| failed("create", path, &failure.error))?;
    }
    Ok(())
}

/// Creates a private empty file, unless the path exists.
fn create_empty(path: &Path) -> Result<(), StorageError> {
    match create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop).map_err(|error| failed("create", path, &error)),
    }
}

/// Creates the missing directories above a store, durably.
fn create_parents(path: &Path) -> Result<(), StorageError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|above| !above.as_os_str().is_empty() && !above.is_dir())
        .collect();
    for directory in missing.iter().rev() {
        match fault_point("create directory").and_then(|()| fs::create_dir(directory)) {
            // Another process created it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => created.map_err(|error| failed("create", directory, &error))?,
        }
        sync_parent(directory)?;
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        None => path,
        Some(directory) if directory.as_os_str().is_empty() => Path::new("."),
        Some(directory) => directory,
    }
}

/// Makes the name of a file or directory durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), StorageError> {
    // Only Unix can open a directory as a file.
    if cfg!(unix) {
        let directory = directory_of(path);
        fault_point("sync directory")
            .and_then(|()| File::open(directory)?.sync_all())
            .map_err(|error| failed("fsync directory", directory, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redb::engine::Engine;

    /// Creates a store while `other` runs.
    fn create_while(path: &Path, other: impl FnOnce()) -> Result<(), StorageError> {
        create(path, |path, file| {
            Engine::create(path, file)?;
            other();
            Ok(())
        })
    }

    #[test]
    fn a_store_created_concurrently_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        for begins_empty in [false, true] {
            if begins_empty {
                fs::write(&path, "").unwrap();
            }
            let mut created = Vec::new();
            create_while(&path, || {
                create(&path, Engine::create).unwrap();
                created = fs::read(&path).unwrap();
            })
            .unwrap();
            assert!(!created.is_empty());
            assert!(fs::read(&path).unwrap() == created, "{begins_empty}");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_foreign_file_created_concurrently_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let created = create_while(&path, || fs::write(&path, "important").unwrap());
        assert!(matches!(created, Err(StorageError::IoError(_))), "{created:?}");
        assert_eq!(fs::read(&path).unwrap(), b"important");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
