//! The few things that a store asks of a file system, each with an error that
//! says what failed on what.

use std::fs::{self, File, FileType, OpenOptions};
#[cfg(feature = "file")]
use std::io::Read;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use storage_core::{Durability, StorageError};

use crate::io_failure;
#[cfg(feature = "file")]
use crate::io_failure::TooLong;

/// Whether a write is on disk when it returns, for a store that has no other
/// durability than `sync` and `os`.
pub(crate) fn syncs(durability: Durability, kind: &str) -> Result<bool, StorageError> {
    match durability {
        Durability::Sync => Ok(true),
        Durability::Os => Ok(false),
        Durability::Interval => Err(StorageError::Unsupported(format!(
            "a {kind} store has no durability \"{durability}\"; use \"sync\" or \"os\""
        ))),
    }
}

/// An error of the file system in the store's terms.
pub(crate) fn failed(what: &str, path: &Path, error: &io::Error) -> StorageError {
    StorageError::IoError(io_failure::message(what, path, error))
}

/// The same for the file or the directory of a key, whose name may be too long
/// for the file system.
#[cfg(feature = "file")]
pub(crate) fn failed_for_key(what: &str, path: &Path, error: &io::Error) -> StorageError {
    let too_long = (error.kind() == ErrorKind::InvalidFilename).then(|| TooLong::of(path));
    too_long.flatten().map_or_else(|| failed(what, path, error), StorageError::from)
}

/// Checks that the file system takes the name of a key's file.
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

/// Whether an error says that there is nothing at a path. A name that is too
/// long for the file system names nothing on it.
pub(crate) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename)
}

/// Where the tests of the file store make a change to the disk fail.
#[cfg(not(all(test, feature = "file")))]
pub(crate) fn fault_point(_operation: &str) -> io::Result<()> {
    Ok(())
}
#[cfg(all(test, feature = "file"))]
pub(crate) use crate::file::fault_point;

/// Gives a file another name, in place of what has that name.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault_point("rename")?;
    fs::rename(from, to)
}

/// Makes a folder and those above it.
#[cfg(feature = "rocksdb")]
pub(crate) fn create_folders(path: &Path) -> Result<(), StorageError> {
    fault_point("make")
        .and_then(|()| fs::create_dir_all(path))
        .map_err(|error| failed("make", path, &error))
}

/// Makes a directory in a store and those above it that are missing, each with
/// mode 0700.
#[cfg(feature = "file")]
pub(crate) fn create_private_directories(path: &Path) -> Result<(), StorageError> {
    let mut builder = private_directory();
    builder.recursive(true);
    let make = || {
        fault_point("make")?;
        // A sweep may remove an empty directory above before this one is in it.
        for _ in 0..100 {
            match builder.create(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => return other,
            }
        }
        builder.create(path)
    };
    make().map_err(|error| failed_for_key("make", path, &error))
}

/// Makes directories with mode 0700.
fn private_directory() -> fs::DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "modes are Unix's"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Gives a file that these options create the mode 0600.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Makes the folder of a store, which nobody but its owner may enter, and those
/// above it, as far as they are missing, and makes their names durable.
pub(crate) fn create_store_folder(path: &Path) -> Result<(), StorageError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|above| !above.as_os_str().is_empty() && !above.is_dir())
        .collect();
    for folder in missing.iter().rev() {
        fault_point("make").map_err(|error| failed("make", folder, &error))?;
        let builder = if *folder == path { private_directory() } else { fs::DirBuilder::new() };
        match builder.create(folder) {
            // Made by another process meanwhile.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.map_err(|error| failed("make", folder, &error))?,
        }
        sync_parent(folder)?;
    }
    Ok(())
}

/// Shuts everybody but its owner out of a folder.
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

/// Makes the name of a folder durable, which is in the folder above it.
pub(crate) fn sync_parent(path: &Path) -> Result<(), StorageError> {
    let whole = path.canonicalize().map_err(|error| failed("look at", path, &error))?;
    whole.parent().map_or(Ok(()), sync_folder)
}

/// Reads a file whole; `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Reads a regular file whole; `None` where there is none. Follows no symbolic
/// link at the end of the path and waits for no pipe.
///
/// # Errors
/// [`StorageError::IoError`], also for what is not a regular file.
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
            // Of a link the system says that there are too many levels of them.
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
        // A file of a store never grows, so its length is all there is to read.
        let mut bytes = Vec::new();
        let len = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(len)?;
        bytes.resize(len, 0);
        file.read_exact(&mut bytes)?;
        Ok(Ok(bytes))
    };
    read().map_err(|error: io::Error| failed("read", path, &error))?.map(Some)
}

/// The length of a file in bytes; `None` where there is none.
#[cfg(feature = "rocksdb")]
pub(crate) fn file_len(path: &Path) -> Result<Option<u64>, StorageError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed("look at", path, &error)),
    }
}

/// The length of a regular file in bytes; `None` where there is none.
///
/// # Errors
/// [`StorageError::IoError`], also for what is not a regular file.
#[cfg(feature = "file")]
pub(crate) fn regular_len(path: &Path) -> Result<Option<u64>, StorageError> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        Ok(metadata) => Err(not_a_file(path, metadata.file_type())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed("look at", path, &error)),
    }
}

/// What keeps a directory of the store from being used.
#[cfg(feature = "file")]
pub(crate) fn not_a_directory(path: &Path, kind: FileType) -> StorageError {
    if kind.is_symlink() { link_to_directory(path) } else { out_of_place(path, kind) }
}

/// Something of the wrong kind has a name of the store.
#[cfg(feature = "file")]
pub(crate) fn out_of_place(path: &Path, kind: FileType) -> StorageError {
    let what = if kind.is_dir() {
        "a directory where the store has a file"
    } else if kind.is_file() {
        "a file where the store has a directory"
    } else {
        "a pipe, socket or device"
    };
    StorageError::IoError(format!("{} is {what}; move it out of the store", path.display()))
}

/// What keeps a key's file from being used that is not a regular one.
#[cfg(feature = "file")]
pub(crate) fn not_a_file(path: &Path, kind: FileType) -> StorageError {
    if kind.is_symlink() {
        return link(path, "put the file itself in its place, or remove the link");
    }
    let what = if kind.is_dir() { "is a directory" } else { "is a pipe, socket or device" };
    StorageError::IoError(format!(
        "{} {what}, and the file of a key belongs there; move it out of the store",
        path.display()
    ))
}

/// What keeps a store from being used in which one of its own files is a symbolic
/// link.
#[cfg(feature = "file")]
pub(crate) fn link_to_file(path: &Path) -> StorageError {
    link(path, "put the file itself in its place")
}

/// What keeps a directory of a store from being used that is a symbolic link.
#[cfg(feature = "file")]
pub(crate) fn link_to_directory(path: &Path) -> StorageError {
    link(path, "move the directory itself here")
}

#[cfg(feature = "file")]
fn link(path: &Path, advice: &str) -> StorageError {
    StorageError::IoError(format!(
        "{} is a symbolic link; a store does not follow links: {advice}",
        path.display()
    ))
}

/// Writes a new file, in stable storage if `sync`. On failure the file is
/// removed: a failed fsync is never tried again.
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
        // Before the space is given back.
        let failed = failed("write", path, &error);
        // What could not be written is of no use; a sweep finds what stays.
        let _ = remove(path);
        failed
    })
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StorageError> {
    // Elsewhere than on Unix a folder cannot be opened as a file.
    if cfg!(unix) {
        let sync = || {
            fault_point("fsync folder")?;
            File::open(path)?.sync_all()
        };
        sync().map_err(|error| failed("fsync folder", path, &error))?;
    }
    Ok(())
}

/// The same for a folder that may be missing: that of a component which has only
/// lost keys. A sweep may remove it at any time.
#[cfg(feature = "file")]
pub(crate) fn sync_folder_if_there(path: &Path) -> Result<(), StorageError> {
    if !is_there(path)? {
        return Ok(());
    }
    match sync_folder(path) {
        Err(_) if !is_there(path)? => Ok(()),
        synced => synced,
    }
}

/// What is wanted of a folder: its files, or all that is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Any,
}

/// The names in a folder of what is of a kind and named in UTF-8, as all of ours
/// is, in no order; nothing where there is no folder.
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

/// Calls `visit` with each entry of a folder that is named in UTF-8, and its type,
/// until it answers `false`. A link is not followed.
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
            // Removed since the folder was read, where that did not tell the type.
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

/// Whether something is there, of whatever kind.
pub(crate) fn is_there(path: &Path) -> Result<bool, StorageError> {
    kind_of(path).map(|kind| kind.is_some())
}

/// What is at a path, where a link is a link; `None` if there is nothing.
pub(crate) fn kind_of(path: &Path) -> Result<Option<FileType>, StorageError> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(Some(metadata.file_type())),
        Err(error) if is_missing(&error) || error.kind() == ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(failed("look at", path, &error)),
    }
}

/// Removes a file; one that is gone already is no error.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    fault_point("remove")?;
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
