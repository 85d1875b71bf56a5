//! Scans a directory for entries with names of the store.
//!
//! Foreign files in a directory are ignored. A link or a device with a name of the
//! store is an error: leaving it out of a listing would hide data.

use std::fs::FileType;
use std::path::{Path, PathBuf};

use storage_core::StorageError;

use super::disk;
use super::name::{self, Decoded};

/// The names of the key files in a directory, in no order. Empty if the directory does
/// not exist.
pub(super) fn key_files(directory: &Path) -> Result<Vec<String>, StorageError> {
    files(directory, is_ours)
}

/// The files in a directory whose names satisfy `ours`.
pub(super) fn files(
    directory: &Path,
    ours: impl Fn(&str) -> bool,
) -> Result<Vec<String>, StorageError> {
    named(directory, FileType::is_file, disk::not_a_file, ours)
}

/// Whether a directory has a key file.
pub(super) fn holds_a_key(directory: &Path) -> Result<bool, StorageError> {
    let mut found = false;
    visit(directory, FileType::is_file, disk::not_a_file, &is_ours, |name| {
        found = is_ours(&name);
        !found
    })?;
    Ok(found)
}

/// The names of the directories of namespaces, names or instances in a directory.
pub(super) fn directories(directory: &Path) -> Result<Vec<String>, StorageError> {
    named(directory, FileType::is_dir, disk::not_a_directory, is_ours)
}

/// The entries of the `wanted` type whose names satisfy `ours`.
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

/// All files and all directories in a directory.
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

/// Any entry below these directories that is not a directory.
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

/// Calls `visit` with the names of the `wanted` type until it returns `false`.
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
