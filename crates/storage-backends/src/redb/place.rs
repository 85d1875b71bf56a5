//! Where a store lies: finding its file, making it, and the lock on it.
//!
//! The lock is the operating system's, on the file itself, so nothing else lies
//! beside a store, and a killed process leaves no lock behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use storage_core::StorageError;
use tempfile::{NamedTempFile, PersistError};

use super::disk::fault_point;
use crate::io_failure;
use crate::lock;
use crate::locked_file::LockedFile;

/// What every file of the engine begins with.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> StorageError {
    StorageError::IoError(io_failure::message(what, path, error))
}

/// What is at a store's path.
pub(super) enum Found {
    Nothing,
    /// A file of the engine; whether of a store is not known yet.
    Database,
}

/// Looks at a path without changing anything.
///
/// # Errors
/// [`StorageError::IoError`] for a folder, or a file of something else.
pub(super) fn look(path: &Path) -> Result<Found, StorageError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(failed("look at", path, &error)),
        Ok(found) if found.is_dir() => {
            return Err(StorageError::IoError(format!(
                "{} is a folder, not the file of a store",
                path.display()
            )));
        }
        Ok(found) if !found.is_file() => {
            return Err(StorageError::IoError(format!("{} is no file", path.display())));
        }
        // Made by `touch` or `mktemp`: nothing is lost in it.
        Ok(found) if found.len() == 0 => return Ok(Found::Nothing),
        Ok(_) => {}
    }
    let mut start = [0; MAGIC.len()];
    let read = File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut start));
    match read {
        Ok(()) if start == MAGIC => Ok(Found::Database),
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(failed("read", path, &error)),
        _ => Err(StorageError::IoError(format!(
            "{} is no redb database; give the path of a store, or one where there is nothing yet",
            path.display()
        ))),
    }
}

/// Opens an existing file for writing, alone.
///
/// # Errors
/// [`StorageError::Locked`] if it is open anywhere; [`StorageError::IoError`] also
/// where locks do not work.
pub(super) fn open_to_write(path: &Path) -> Result<Arc<LockedFile>, StorageError> {
    let file = lock::take_alone(path, path, || open_for_writing(path))?;
    // A process that was killed may have left a commit that the system has not
    // written yet. Nothing is read of it before it outlives a power cut.
    fault_point("sync")
        .and_then(|()| file.sync_data())
        .map_err(|error| failed("fsync", path, &error))?;
    Ok(Arc::new(file))
}

fn open_for_writing(path: &Path) -> Result<File, StorageError> {
    let open = OpenOptions::new().read(true).write(true).open(path);
    open.map_err(|error| failed("open", path, &error))
}

/// Opens an existing file for reading, beside other readers.
///
/// # Errors
/// [`StorageError::Locked`] if a writer has it open.
pub(super) fn open_to_read(path: &Path) -> Result<Arc<LockedFile>, StorageError> {
    let file = File::open(path).map_err(|error| failed("open", path, &error))?;
    lock::share(path, file).map(Arc::new)
}

/// The prefix of a new store's temporary name; the rest is random. The store's own
/// name is not part of it, because that may already have the maximum length.
const NEW_PREFIX: &str = ".redb-new-";

/// Makes the file of a new store: under another name first, so that a store is
/// there whole or not at all, whenever the process dies.
///
/// `fill` writes the store into the file, durably. What another process makes
/// meanwhile stays, and is as good.
pub(super) fn create(
    path: &Path,
    fill: impl FnOnce(&Path, Arc<LockedFile>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    create_parents(path)?;
    let cannot_make = |error: &io::Error| failed("make", path, error);
    // Made anew, for the owner alone; removed again unless it gets its name.
    let new = fault_point("create")
        .and_then(|()| {
            let mut builder = tempfile::Builder::new();
            builder.prefix(NEW_PREFIX).make_in(directory_of(path), create_new)
        })
        .map_err(|error| cannot_make(&error))?;
    // Held until the store has its name.
    let file = lock::take_alone(path, new.path(), || open_for_writing(new.path()))?;
    let file = Arc::new(file);
    fill(path, Arc::clone(&file))?;
    fault_point("rename").map_err(|error| cannot_make(&error))?;
    place(new, path)?;
    sync_parent(path)
}

/// Creates a file for its owner alone. The error is the system's own, without the
/// path that `tempfile` would put into it.
fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Gives a new store its name, unless another one has it.
fn place(new: NamedTempFile, path: &Path) -> Result<(), StorageError> {
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
    if matches!(look(path)?, Found::Database) {
        // Made by another process meanwhile.
        return Ok(());
    }
    // Only an empty file is replaced, under its lock, so that two processes cannot
    // both do it.
    let found = lock::take_alone(path, path, || open_for_writing(path))?;
    let len = found.metadata().map_err(|error| failed("look at", path, &error))?.len();
    if len == 0 {
        new.persist(path).map_err(|failure| failed("make", path, &failure.error))?;
    }
    Ok(())
}

/// Makes an empty file, for the owner alone, unless there is something.
fn create_empty(path: &Path) -> Result<(), StorageError> {
    match create_new(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop).map_err(|error| failed("make", path, &error)),
    }
}

/// Makes the missing folders above a store, durably.
fn create_parents(path: &Path) -> Result<(), StorageError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|above| !above.as_os_str().is_empty() && !above.is_dir())
        .collect();
    for folder in missing.iter().rev() {
        let made = fault_point("make folder").and_then(|()| fs::create_dir(folder));
        match made {
            // Made by another process meanwhile.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.map_err(|error| failed("make", folder, &error))?,
        }
        sync_parent(folder)?;
    }
    Ok(())
}

/// The directory that a file or directory is in.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        None => path,
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
    }
}

/// Makes the name of a file or folder durable, which is in the folder above it.
pub(super) fn sync_parent(path: &Path) -> Result<(), StorageError> {
    // Elsewhere than on Unix a folder cannot be opened as a file.
    if cfg!(unix) {
        let folder = directory_of(path);
        fault_point("sync folder")
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|error| failed("fsync folder", folder, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redb::engine::Engine;

    /// Another process makes a store while this one does.
    fn meanwhile(path: &Path, make: impl FnOnce()) -> Result<(), StorageError> {
        create(path, |path, file| {
            Engine::create(path, file)?;
            make();
            Ok(())
        })
    }

    #[test]
    fn a_store_that_another_process_makes_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        for begins_empty in [false, true] {
            if begins_empty {
                fs::write(&path, "").unwrap();
            }
            let mut made = Vec::new();
            meanwhile(&path, || {
                create(&path, Engine::create).unwrap();
                made = fs::read(&path).unwrap();
            })
            .unwrap();
            assert!(!made.is_empty());
            assert!(fs::read(&path).unwrap() == made, "{begins_empty}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_is_no_store_and_comes_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let made = meanwhile(&path, || fs::write(&path, "important").unwrap());
        assert!(matches!(made, Err(StorageError::IoError(_))), "{made:?}");
        assert_eq!(fs::read(&path).unwrap(), b"important");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
