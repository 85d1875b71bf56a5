//! The file of one key: its value, its usage and its revision.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use storage_core::{MAX_FULL_KEY_BYTES, Revision, StorageError, VersionedValue};

use super::{disk, scan};
use crate::record;

/// Reads the value of a key.
pub(super) fn read(key: &str, file: &Path) -> Result<Option<VersionedValue>, StorageError> {
    let Some(bytes) = disk::read_regular(file)? else { return Ok(None) };
    let problem = match record::decode(&bytes) {
        Ok(record) if record.key == key => return Ok(Some(record.found)),
        Ok(_) => "it holds the value of another key",
        Err(problem) => problem,
    };
    Err(StorageError::Corrupt {
        key: Some(key.to_owned()),
        detail: format!(
            "{}: {problem}; restore the file from a copy, or write or delete the key",
            file.display()
        ),
    })
}

/// The length of the value of a key, by the length of its file. `None` if there is no
/// file.
pub(super) fn value_len(full_key_len: usize, file: &Path) -> Result<Option<usize>, StorageError> {
    let len = disk::regular_len(file)?;
    Ok(len.map(|len| value_len_by_file_len(full_key_len, len)))
}

/// The length of the value in a file of this length.
pub(super) fn value_len_by_file_len(full_key_len: usize, file_len: u64) -> usize {
    let file_len = usize::try_from(file_len).unwrap_or(usize::MAX);
    // A file that is too short is damaged and holds no value.
    file_len.saturating_sub(record::overhead(full_key_len))
}

/// Whether the file was written before `revision`. The revision of a damaged file is
/// unknown, so the answer is `false` and the file is kept.
pub(super) fn is_older(file: &Path, revision: Revision) -> Result<bool, StorageError> {
    Ok(revision_of(file)?.is_some_and(|found| found < revision))
}

/// The largest revision of a record below a directory. Reads every file.
pub(super) fn largest_revision(directory: &Path) -> Result<u64, StorageError> {
    let mut largest = 0;
    let (files, directories) = scan::everything(directory)?;
    for name in files {
        largest = largest.max(revision_of(&directory.join(name))?.map_or(0, Revision::get));
    }
    for name in directories {
        largest = largest.max(largest_revision(&directory.join(name))?);
    }
    Ok(largest)
}

fn revision_of(file: &Path) -> Result<Option<Revision>, StorageError> {
    let record = disk::read_regular(file)?.and_then(|bytes| record::decode(&bytes).ok());
    Ok(record.map(|record| record.found.revision))
}

/// Reads the full key of a record, but not its value. Does not check the checksum; the
/// caller compares the key with the hash in the file name.
pub(super) fn stored_key(file: &Path) -> Result<Option<String>, StorageError> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if disk::is_missing(&error) => return Ok(None),
        Err(error) => return Err(disk::failed("read", file, &error)),
    };
    let mut start = Vec::new();
    opened
        .take((record::overhead(MAX_FULL_KEY_BYTES)) as u64)
        .read_to_end(&mut start)
        .map_err(|error| disk::failed("read", file, &error))?;
    record::key_at_start(&start).map(Some).ok_or_else(|| unknown_key(file))
}

/// The error for a file whose key cannot be determined.
pub(super) fn unknown_key(file: &Path) -> StorageError {
    StorageError::Corrupt {
        key: None,
        detail: format!(
            "{} does not say which key it belongs to; restore the file from a copy, or remove it",
            file.display()
        ),
    }
}
