//! What in a directory can be the store's, by name and type.
//!
//! A directory may also hold what others put there, which is left alone and not
//! seen. A link or a device under a name of the store's is refused: a listing that
//! left it out would hide data.

use std::fs::FileType;
use std::path::{Path, PathBuf};

use storage_core::StorageError;

use super::disk;
use super::name::{self, Decoded};

/// The names in a directory that a key's file can have, in no order; nothing
/// where there is no directory.
pub(super) fn key_files(directory: &Path) -> Result<Vec<String>, StorageError> {
    files(directory, is_ours)
}

/// The files in a directory whose names are `ours`.
pub(super) fn files(
    directory: &Path,
    ours: impl Fn(&str) -> bool,
) -> Result<Vec<String>, StorageError> {
    named(directory, FileType::is_file, disk::not_a_file, ours)
}

/// Whether a directory holds the file of a key.
pub(super) fn holds_a_key(directory: &Path) -> Result<bool, StorageError> {
    let mut found = false;
    visit(directory, FileType::is_file, disk::not_a_file, &is_ours, |name| {
        found = is_ours(&name);
        !found
    })?;
    Ok(found)
}

/// The directories in a directory that can be a component's, or lead to it.
pub(super) fn directories(directory: &Path) -> Result<Vec<String>, StorageError> {
    named(directory, FileType::is_dir, disk::not_a_directory, is_ours)
}

/// The names of what is `wanted` in a directory, as far as they are `ours`.
fn named(
    directory: &Path,
    wanted: fn(&FileType) -> bool,
    refuse: fn(&Path, FileType) -> StorageError,
    ours: impl Fn(&str) -> bool,
) -> Result<Vec<String>, StorageError> {
    let mut found = Vec::new();
    visit(directory, wanted, refuse, &ours, |name| {
        if ours(&name) {
            found.push(name);
        }
        true
    })?;
    Ok(found)
}

/// The files and the directories in a directory, whatever their names.
pub(super) fn everything(directory: &Path) -> Result<(Vec<String>, Vec<String>), StorageError> {
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    visit(directory, FileType::is_dir, disk::not_a_directory, &is_ours, |name| {
        directories.push(name);
        true
    })?;
    visit(directory, FileType::is_file, disk::not_a_file, &is_ours, |name| {
        files.push(name);
        true
    })?;
    Ok((files, directories))
}

/// Any file, link or device below these directories; `None` if there are only
/// directories.
pub(super) fn any_file(mut directories: Vec<PathBuf>) -> Result<Option<PathBuf>, StorageError> {
    let mut found = None;
    while let (None, Some(directory)) = (&found, directories.pop()) {
        disk::visit_entries(&directory, |name, file_type| {
            let path = directory.join(name);
            if file_type.is_dir() {
                directories.push(path);
            } else {
                found = Some(path);
            }
            found.is_none()
        })?;
    }
    Ok(found)
}

/// Calls `visit` with the names of what is `wanted`, until it answers `false`.
fn visit(
    directory: &Path,
    wanted: fn(&FileType) -> bool,
    refuse: impl Fn(&Path, FileType) -> StorageError,
    ours: &impl Fn(&str) -> bool,
    mut visit: impl FnMut(String) -> bool,
) -> Result<(), StorageError> {
    let mut refused = None;
    disk::visit_entries(directory, |name, file_type| {
        if wanted(&file_type) {
            return visit(name);
        }
        if !file_type.is_file() && !file_type.is_dir() && ours(&name) {
            refused = Some(refuse(&directory.join(name), file_type));
        }
        refused.is_none()
    })?;
    refused.map_or(Ok(()), Err)
}

fn is_ours(name: &str) -> bool {
    name::decode(name) != Decoded::Foreign
}
