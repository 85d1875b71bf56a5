//! What a store says of itself when it is closed in order.
//!
//! RocksDB takes the first record of its list of files, the manifest, that is not
//! whole for the list's end, as after a power cut. A list that damage has cut
//! short at a record's edge is a whole one of an older state, without some keys.
//! So whoever closes a store writes down which list there was and how long. Whoever
//! opens it to write begins a new list, and then that counts no more.
//!
//! ```text
//! MANIFEST-000017 1234     the list and its length in bytes
//! checksum: 0a1b2c3d       CRC-32 of the line before, as hexadecimal digits
//! ```

use storage_core::StorageError;

use super::errors;
use super::layout::Layout;
use crate::disk;

pub(super) const SEAL_FILE: &str = "CLOSED";
/// The name under which it is written first.
pub(super) const NEW_SEAL_FILE: &str = "CLOSED.new";

/// The list of a database's files, as far as it tells one state from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListOfFiles {
    pub(super) name: String,
    pub(super) len: u64,
}

impl ListOfFiles {
    fn text(&self) -> String {
        let line = format!("{} {}\n", self.name, self.len);
        format!("{line}checksum: {:08x}\n", crc32fast::hash(line.as_bytes()))
    }

    /// What [`text`](Self::text) has made of a list; `None` if it did not.
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (name, len) = text.lines().next()?.split_once(' ')?;
        let list = Self { name: name.to_owned(), len: len.parse().ok()? };
        (list.text() == text).then_some(list)
    }
}

/// Says, durably, that the store was closed with this list.
pub(super) fn put(layout: &Layout, list: &ListOfFiles) -> Result<(), StorageError> {
    let (new, path) = (layout.path(NEW_SEAL_FILE), layout.path(SEAL_FILE));
    disk::remove(&new).map_err(|error| disk::failed("remove", &new, &error))?;
    disk::write_new(&new, list.text().as_bytes(), true)?;
    disk::rename(&new, &path).map_err(|error| disk::failed("make", &path, &error))?;
    disk::sync_directory(&layout.root)
}

/// Compares what the store was closed with, if it was, with what there is. A newer
/// list is of one who has opened it since and was killed, or is another program.
///
/// # Errors
/// [`StorageError::Corrupt`] if it is an older one, or the same with another
/// length.
pub(super) fn check(layout: &Layout, found: &ListOfFiles) -> Result<(), StorageError> {
    let Some(bytes) = disk::read(&layout.path(SEAL_FILE))? else { return Ok(()) };
    let corrupt = |detail: &str| Err(errors::corrupt(&layout.root, None, detail));
    match ListOfFiles::read(&bytes) {
        None => corrupt(&format!("its file {SEAL_FILE} is damaged")),
        Some(closed) if closed == *found => Ok(()),
        // Names have leading zeros, so a longer one is newer.
        Some(ListOfFiles { name, .. }) if (name.len(), &name) < (found.name.len(), &found.name) => {
            Ok(())
        }
        Some(ListOfFiles { name, len }) => corrupt(&format!(
            "it was closed with {len} bytes in {name}, and now there are {} in {}",
            found.len, found.name
        )),
    }
}
