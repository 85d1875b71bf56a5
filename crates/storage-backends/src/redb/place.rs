//! Where a store lies: finding its file, making it, and the lock on it.
//!
//! The lock is the operating system's, on the file itself, so nothing else lies
//! beside a store, and a killed process leaves no lock behind.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::StorageError;

use super::disk::fault_point;
use crate::io_failure;
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
/// [`StorageError::Locked`] if it is open anywhere.
pub(super) fn open_to_write(path: &Path) -> Result<Arc<LockedFile>, StorageError> {
    let open = OpenOptions::new().read(true).write(true).open(path);
    let file = open.map_err(|error| failed("open", path, &error))?;
    let file = locked(path, LockedFile::exclusive(file))?;
    // A process that was killed may have left a commit that the system has not
    // written yet. Nothing is read of it before it outlives a power cut.
    fault_point("sync")
        .and_then(|()| file.sync_data())
        .map_err(|error| failed("fsync", path, &error))?;
    Ok(file)
}

/// Opens an existing file for reading, beside other readers.
///
/// # Errors
/// [`StorageError::Locked`] if a writer has it open.
pub(super) fn open_to_read(path: &Path) -> Result<Arc<LockedFile>, StorageError> {
    let file = File::open(path).map_err(|error| failed("open", path, &error))?;
    locked(path, LockedFile::shared(file))
}

/// Makes the file of a new store: under another name first, so that a store is
/// there whole or not at all, whenever the process dies.
///
/// `fill` writes the store into the file, durably. Nothing is done if another
/// process has made one meanwhile.
pub(super) fn create(
    path: &Path,
    fill: impl FnOnce(&Path, Arc<LockedFile>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    create_parents(path)?;
    let new = new_name(path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    fault_point("create").map_err(|error| failed("make", &new, &error))?;
    let file = options.open(&new).map_err(|error| failed("make", &new, &error))?;
    let file = locked(path, LockedFile::exclusive(file))?;
    // Whoever had the lock before may have finished, and taken the name away.
    if matches!(look(path)?, Found::Database) {
        let _ = fs::remove_file(&new);
        return Ok(());
    }
    let made = file
        .set_len(0)
        .map_err(|error| failed("make", &new, &error))
        // The lock is held here too until the store has its name.
        .and_then(|()| fill(&new, Arc::clone(&file)))
        .and_then(|()| {
            fault_point("rename")
                .and_then(|()| fs::rename(&new, path))
                .map_err(|error| failed("make", path, &error))
        });
    match made {
        Ok(()) => sync_parent(path),
        Err(error) => {
            // What is not finished is of no use; the next try would reuse it.
            let _ = fs::remove_file(&new);
            Err(error)
        }
    }
}

/// The name of a store that is being made.
fn new_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".new");
    path.with_file_name(name)
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

/// Makes the name of a file or folder durable, which is in the folder above it.
pub(super) fn sync_parent(path: &Path) -> Result<(), StorageError> {
    // Elsewhere than on Unix a folder cannot be opened as a file.
    if cfg!(unix) {
        let folder = match path.parent() {
            None => return Ok(()),
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
        };
        fault_point("sync folder")
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|error| failed("fsync folder", folder, &error))?;
    }
    Ok(())
}

fn locked(
    path: &Path,
    taken: io::Result<Result<LockedFile, File>>,
) -> Result<Arc<LockedFile>, StorageError> {
    match taken {
        Ok(Ok(file)) => Ok(Arc::new(file)),
        Err(error) => Err(failed("lock", path, &error)),
        Ok(Err(file)) => {
            let holder = holder_of(&file)
                .map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            Err(StorageError::Locked(format!(
                "{holder} has {} open; end it, or ask it for the data",
                path.display()
            )))
        }
    }
}

/// The process that has the file locked, as the system tells.
#[cfg(target_os = "linux")]
fn holder_of(file: &File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata().ok()?;
    // 1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF
    let inode = format!(":{}", found.ino());
    let device = found.dev();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    let place = format!("{major:02x}:{minor:02x}{inode}");
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1).filter(|field| *field != "->");
        let kind = fields.next()?;
        let pid = fields.nth(2)?;
        let at = fields.next()?;
        (kind == "FLOCK" && at == place).then(|| pid.parse().ok()).flatten()
    })
}

#[cfg(not(target_os = "linux"))]
fn holder_of(_file: &File) -> Option<u32> {
    None
}
