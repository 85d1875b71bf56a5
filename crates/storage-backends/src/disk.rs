//! Operations on the file system. Their errors name the operation and the path.

use std::fs::{self, File, FileType, OpenOptions};
#[cfg(feature = "file")]
use std::io::Read;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use storage_core::{Durability, StorageError};

use crate::faults::fault_point;
#[cfg(feature = "file")]
use crate::io_failure::TooLong;
pub(crate) use crate::io_failure::failed;

/// Whether a write is durable when it returns, for a store whose only settings are `sync`
/// and `os`.
pub(crate) fn syncs(durability: Durability, kind: &str) -> Result<bool, StorageError> {
    match durability {
        Durability::Sync => Ok(true),
        Durability::Os => Ok(false),
        Durability::Relaxed => Err(StorageError::Unsupported(format!(
            "a {kind} store does not support durability \"{durability}\"; use \"sync\" or \"os\""
        ))),
    }
}

/// Like [`failed`], for the file or directory of a key, whose name may be too long
/// for the file system.
#[cfg(feature = "file")]
pub(crate) fn failed_for_key(what: &str, path: &Path, error: &io::Error) -> StorageError {
    let too_long = (error.kind() == ErrorKind::InvalidFilename).then(|| TooLong::of(path));
    too_long.flatten().map_or_else(|| failed(what, path, error), StorageError::from)
}

/// Checks that the file system accepts the name of a key's file.
///
/// # Errors
/// [`StorageError::LimitExceeded`] or [`StorageError::IoError`] if it does not.
#[cfg(feature = "file")]
pub(crate) fn check_name(path: &Path) -> Result<(), StorageError> {
    match fault_point("name").and_then(|()| path.symlink_metadata()) {
        Err(error) if error.kind() == ErrorKind::InvalidFilename => {
            Err(failed_for_key("create", path, &error))
        }
        _ => Ok(()),
    }
}

/// Whether the error means that the path does not exist. A path that is too long for
/// the file system cannot exist on it.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename)
}

/// Renames a file and replaces the target.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault_point("rename")?;
    fs::rename(from, to)
}

/// Creates a directory and its missing parents.
#[cfg(feature = "rocksdb")]
pub(crate) fn create_directories(path: &Path) -> Result<(), StorageError> {
    fault_point("create directory")
        .and_then(|()| fs::create_dir_all(path))
        .map_err(|error| failed("create", path, &error))
}

/// Creates a directory of a store and its missing parents, each with mode 0700.
#[cfg(feature = "file")]
pub(crate) fn create_private_directories(path: &Path) -> Result<(), StorageError> {
    let mut builder = private_directory();
    builder.recursive(true);
    let create = || {
        fault_point("create directory")?;
        // A sweep may remove an empty parent before this directory is in it.
        for _ in 0..100 {
            match builder.create(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => return other,
            }
        }
        builder.create(path)
    };
    create().map_err(|error| failed_for_key("create", path, &error))
}

/// A builder of directories with mode 0700.
fn private_directory() -> fs::DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Makes these options create files with mode 0600.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Creates a store directory with mode 0700 and its missing parents with the default
/// mode, and makes their names durable.
pub(crate) fn create_store_directory(path: &Path) -> Result<(), StorageError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.is_dir())
        .collect();
    for directory in missing.iter().rev() {
        fault_point("create directory").map_err(|error| failed("create", directory, &error))?;
        let builder = if *directory == path { private_directory() } else { fs::DirBuilder::new() };
        match builder.create(directory) {
            // Another process has just created it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.map_err(|error| failed("create", directory, &error))?,
        }
        sync_parent(directory)?;
    }
    Ok(())
}

/// Restricts a directory to its owner.
#[cfg(feature = "rocksdb")]
pub(crate) fn keep_private(path: &Path) -> Result<(), StorageError> {
    #[cfg(unix)]
    {
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(path, owner_only).map_err(|error| failed("restrict", path, &error))?;
    }
    let _ = path;
    Ok(())
}

/// Makes the name of a directory durable by syncing its parent.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StorageError> {
    let whole =
        path.canonicalize().map_err(|error| failed("read the metadata of", path, &error))?;
    whole.parent().map_or(Ok(()), sync_directory)
}

/// Reads a whole file. Returns `None` if it does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Reads a whole regular file. Returns `None` if it does not exist. Does not follow a
/// symbolic link at the end of the path and does not block on a pipe.
///
/// # Errors
/// [`StorageError::IoError`], in particular if the path is not a regular file.
#[cfg(feature = "file")]
pub(crate) fn read_regular(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed(),
    );
    #[cfg(not(unix))]
    if let Some(kind) = kind_of(path)?.filter(|kind| !kind.is_file()) {
        return Err(not_a_file(path, kind));
    }
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => {
            // For a symbolic link the system reports too many levels of links.
            return Err(match kind_of(path)? {
                Some(kind) if !kind.is_file() => not_a_file(path, kind),
                _ => failed("read", path, &error),
            });
        }
    };
    let mut read = || {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(Err(not_a_file(path, metadata.file_type())));
        }
        // A file of a store never grows.
        let mut bytes = Vec::new();
        let len = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(len)?;
        bytes.resize(len, 0);
        file.read_exact(&mut bytes)?;
        Ok(Ok(bytes))
    };
    read().map_err(|error: io::Error| failed("read", path, &error))?.map(Some)
}

/// The length of a file in bytes; `None` if it does not exist.
#[cfg(feature = "rocksdb")]
pub(crate) fn file_len(path: &Path) -> Result<Option<u64>, StorageError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed("read the metadata of", path, &error)),
    }
}

/// The length of a regular file in bytes; `None` if it does not exist.
///
/// # Errors
/// [`StorageError::IoError`], also if the path is not a regular file.
#[cfg(feature = "file")]
pub(crate) fn regular_len(path: &Path) -> Result<Option<u64>, StorageError> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(metadata) => Err(not_a_file(path, metadata.file_type())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed("read the metadata of", path, &error)),
    }
}

/// The error for a path that must be a directory and is not.
#[cfg(feature = "file")]
pub(crate) fn not_a_directory(path: &Path, kind: FileType) -> StorageError {
    if kind.is_symlink() { link_to_directory(path) } else { wrong_type(path, kind) }
}

/// The error for a path of the store that has the wrong type.
#[cfg(feature = "file")]
pub(crate) fn wrong_type(path: &Path, kind: FileType) -> StorageError {
    let what = if kind.is_dir() {
        "a directory where the store expects a file"
    } else if kind.is_file() {
        "a file where the store expects a directory"
    } else {
        "a pipe, socket or device"
    };
    StorageError::IoError(format!("{} is {what}; move it out of the store", path.display()))
}

/// The error for the file of a key that is not a regular file.
#[cfg(feature = "file")]
pub(crate) fn not_a_file(path: &Path, kind: FileType) -> StorageError {
    if kind.is_symlink() {
        return link(path, "replace the link with the file, or remove the link");
    }
    let what = if kind.is_dir() { "is a directory" } else { "is a pipe, socket or device" };
    StorageError::IoError(format!(
        "{} {what}, not the file of a key; move it out of the store",
        path.display()
    ))
}

/// The error for a symbolic link where the store has one of its own files.
#[cfg(feature = "file")]
pub(crate) fn link_to_file(path: &Path) -> StorageError {
    link(path, "replace the link with the file")
}

/// The error for a symbolic link where the store expects a directory.
#[cfg(feature = "file")]
pub(crate) fn link_to_directory(path: &Path) -> StorageError {
    link(path, "replace the link with the directory")
}

#[cfg(feature = "file")]
fn link(path: &Path, advice: &str) -> StorageError {
    StorageError::IoError(format!(
        "{} is a symbolic link; a store does not follow links: {advice}",
        path.display()
    ))
}

/// Creates a file with these bytes, durably if `sync`. Removes the file if that fails: a
/// failed fsync is never retried.
pub(crate) fn write_new(path: &Path, bytes: &[u8], sync: bool) -> Result<(), StorageError> {
    let create = || {
        fault_point("create")?;
        private(OpenOptions::new().write(true).create_new(true)).open(path)
    };
    let file = create().map_err(|error| failed("create", path, &error))?;
    let write = || {
        fault_point("write")?;
        (&file).write_all(bytes)?;
        if sync {
            fault_point("fsync")?;
            file.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|error: io::Error| {
        // The message reports the free space, so build it before the file is removed.
        let failed = failed("write", path, &error);
        // A sweep removes the file if this fails.
        let _ = remove(path);
        failed
    })
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StorageError> {
    sync_names(path).map_err(|error| failed("fsync directory", path, &error))
}

/// Like [`sync_directory`], for the directory of a component, which may not exist: it
/// has no keys yet, or a sweep has removed it.
#[cfg(feature = "file")]
pub(crate) fn sync_directory_if_present(path: &Path) -> Result<(), StorageError> {
    match sync_names(path) {
        Err(error) if is_missing(&error) => Ok(()),
        synced => synced.map_err(|error| failed("fsync directory", path, &error)),
    }
}

fn sync_names(path: &Path) -> io::Result<()> {
    // Only Unix can open a directory as a file.
    if cfg!(unix) {
        let directory = File::open(path)?;
        fault_point("fsync directory")?;
        directory.sync_all()?;
    }
    Ok(())
}

/// Which entries of a directory to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Any,
}

/// The UTF-8 names in a directory, in no order. Empty if it does not exist. All names
/// of a store are UTF-8.
pub(crate) fn names(path: &Path, kind: Kind) -> Result<Vec<String>, StorageError> {
    let mut found = Vec::new();
    visit_entries(path, |name, file_type| {
        let wanted = match kind {
            Kind::File => file_type.is_file(),
            Kind::Any => true,
        };
        if wanted {
            found.push(name);
        }
        true
    })?;
    Ok(found)
}

/// Calls `visit` with the UTF-8 name and the type of each entry until it returns
/// `false`. Does not follow links.
pub(crate) fn visit_entries(
    path: &Path,
    mut visit: impl FnMut(String, FileType) -> bool,
) -> Result<(), StorageError> {
    let cannot_list = |error: io::Error| failed("list", path, &error);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(cannot_list(error)),
    };
    for entry in entries {
        let entry = entry.map_err(cannot_list)?;
        let file_type = match entry.file_type() {
            Ok(file_type) => file_type,
            // Some file systems need a second call for the type. The entry may have
            // been removed in between.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(cannot_list(error)),
        };
        if let Ok(name) = entry.file_name().into_string()
            && !visit(name, file_type)
        {
            break;
        }
    }
    Ok(())
}

/// Whether the path exists, as a file of any type.
pub(crate) fn exists(path: &Path) -> Result<bool, StorageError> {
    kind_of(path).map(|kind| kind.is_some())
}

/// The type of the file at a path, without following a link; `None` if there is none.
pub(crate) fn kind_of(path: &Path) -> Result<Option<FileType>, StorageError> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if is_missing(&error) || error.kind() == ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(failed("read the metadata of", path, &error)),
    }
}

/// Removes a file. Returns whether it existed.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    fault_point("remove")?;
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
