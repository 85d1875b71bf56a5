//! The file `CLOSED`, written when a store is closed cleanly.
//!
//! RocksDB treats the first incomplete record of its manifest, the list of its files, as
//! the end of the list, as after a power cut. A manifest that was cut at a record boundary
//! is an older state without some keys. So the closing process records the name and the
//! length of the manifest. Every opening for writing starts a new manifest, which makes
//! the marker obsolete.
//!
//! ```text
//! MANIFEST-000017 1234     the manifest and its length in bytes
//! checksum: 0a1b2c3d       CRC-32 of the line before, in hexadecimal digits
//! ```

use std::fs;
use std::io::ErrorKind;

use storage_core::StorageError;

use super::error;
use super::layout::{CLOSED_FILE, CURRENT_FILE, Layout, NEW_CLOSED_FILE};
use crate::disk;

/// The current manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    name: String,
    len: u64,
}

impl Manifest {
    /// Finds the manifest of a database.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if it is missing or not named.
    pub(super) fn of(layout: &Layout) -> Result<Self, StorageError> {
        let root = &layout.root;
        let current = layout.path(CURRENT_FILE);
        let bytes = match fs::read(&current) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(disk::failed("read", &current, &error)),
        };
        let Some(name) = manifest_name(&bytes) else {
            return Err(error::corrupt(root, None, "its file CURRENT does not name a manifest"));
        };
        match disk::file_len(&root.join(name))? {
            Some(len) => Ok(Self { name: name.to_owned(), len }),
            None => Err(error::corrupt(root, None, &format!("its file {name} is missing"))),
        }
    }

    fn encode(&self) -> String {
        let line = format!("{} {}\n", self.name, self.len);
        format!("{line}checksum: {:08x}\n", crc32fast::hash(line.as_bytes()))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (name, len) = text.lines().next()?.split_once(' ')?;
        let manifest = Self { name: name.to_owned(), len: len.parse().ok()? };
        (manifest.encode() == text).then_some(manifest)
    }

    /// Compares the manifest with the close marker, if there is one. A newer manifest
    /// belongs to a process that was killed, or to another program.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] if the manifest is older, or has another length.
    pub(super) fn check(&self, layout: &Layout) -> Result<(), StorageError> {
        let Some(bytes) = disk::read(&layout.path(CLOSED_FILE))? else { return Ok(()) };
        let corrupt = |detail: &str| Err(error::corrupt(&layout.root, None, detail));
        match Self::decode(&bytes) {
            None => corrupt(&format!("its file {CLOSED_FILE} is damaged")),
            Some(closed) if closed == *self => Ok(()),
            // Names have leading zeros, so a longer one is newer.
            Some(Self { name, .. }) if (name.len(), &name) < (self.name.len(), &self.name) => {
                Ok(())
            }
            Some(Self { name, len }) => corrupt(&format!(
                "when it was closed, its manifest was {name} with {len} bytes; now it is {} with {} \
                 bytes",
                self.name, self.len
            )),
        }
    }
}

/// Records durably that a store was closed cleanly.
pub(super) fn write(layout: &Layout) -> Result<(), StorageError> {
    let manifest = Manifest::of(layout)?;
    let (new, path) = (layout.path(NEW_CLOSED_FILE), layout.path(CLOSED_FILE));
    disk::remove(&new).map_err(|error| disk::failed("remove", &new, &error))?;
    disk::write_new(&new, manifest.encode().as_bytes(), true)?;
    disk::rename(&new, &path).map_err(|error| disk::failed("create", &path, &error))?;
    disk::sync_directory(&layout.root)
}

/// The file that `CURRENT` names, which is always in the same directory.
fn manifest_name(current: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(current).ok()?.strip_suffix('\n')?;
    let number = name.strip_prefix("MANIFEST-")?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_in_the_store_directory() {
        assert_eq!(manifest_name(b"MANIFEST-000004\n"), Some("MANIFEST-000004"));
        for other in
            ["", "\n", "MANIFEST-\n", "MANIFEST-4", "MANIFEST-4/../5\n", "../MANIFEST-4\n", "X-4\n"]
        {
            assert_eq!(manifest_name(other.as_bytes()), None, "{other:?}");
        }
    }
}
