//! The file that holds how far revisions are reserved ([`RevisionBlocks`]).
//!
//! It has two slots, at offsets 0 and 4,096, so that a write torn by a
//! power cut leaves the other. Each is the first number that is not reserved
//! (8 bytes, little-endian) and the CRC-32 of those (4 bytes). They are
//! overwritten in place: a full disk cannot stop a delete.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use storage_core::{Revision, StorageError};

use super::disk;
use crate::record;
use crate::revision_blocks::{BLOCK, RevisionBlocks};

/// The name of the file.
pub(super) const REVISIONS_FILE: &str = "revisions";

/// How far a counter that was lost is set beyond what is in use: more deletes
/// than a store sees in its life, and a millionth of the numbers there are.
const REBUILT_GAP: u64 = 1 << 40;

const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const SLOT_BYTES: usize = 12;

#[derive(Debug)]
pub(super) struct Revisions {
    path: PathBuf,
    blocks: RevisionBlocks,
    slots: Mutex<Slots>,
}

#[derive(Debug)]
struct Slots {
    file: File,
    /// The slot that was written last.
    newest: usize,
}

impl Revisions {
    /// Writes the file of a new store.
    pub(super) fn create(root: &Path) -> Result<(), StorageError> {
        let path = root.join(REVISIONS_FILE);
        let slot = slot_bytes(1);
        let mut bytes = vec![0; 4096];
        bytes.splice(..SLOT_BYTES, slot.iter().copied());
        bytes.extend_from_slice(&slot);
        disk::remove(&path).map_err(|error| disk::failed("remove", &path, &error))?;
        disk::write_new(&path, &bytes, true)
    }

    /// Opens the counter where the last reservation ended, or at the current time.
    ///
    /// If the file is missing, or both slots are damaged, the counter is set far
    /// beyond every revision that `largest_in_use` finds, deleted keys allowed
    /// for.
    pub(super) fn open(
        root: &Path,
        largest_in_use: impl FnOnce() -> Result<u64, StorageError>,
    ) -> Result<Self, StorageError> {
        let path = root.join(REVISIONS_FILE);
        let bytes = disk::read(&path)?.unwrap_or_default();
        let slots = SLOT_OFFSETS.map(|offset| read_slot(&bytes, offset));
        let (slot, reserved_up_to) = match newest(slots) {
            Some(found) => found,
            None => {
                let beyond = largest_in_use()?.saturating_add(REBUILT_GAP);
                Self::create(root)?;
                disk::sync_directory(root)?;
                (0, beyond)
            }
        };
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|error| disk::failed("open", &path, &error))?;
        let revisions = Self {
            path,
            blocks: RevisionBlocks::new(reserved_up_to),
            slots: Mutex::new(Slots { file, newest: slot }),
        };
        if slots.contains(&None) {
            revisions.persist(reserved_up_to)?;
        }
        Ok(revisions)
    }

    /// The first number of this opening; all before it were given earlier.
    pub(super) fn first(&self) -> Revision {
        self.blocks.first()
    }

    /// The next revision.
    pub(super) fn next(&self) -> Result<Revision, StorageError> {
        self.blocks.next(|up_to| self.persist(up_to))
    }

    fn persist(&self, reserved_up_to: u64) -> Result<(), StorageError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.write_other(reserved_up_to).map_err(|error| disk::failed("write", &self.path, &error))
    }
}

impl Slots {
    /// Reserves up to a number. The slot that counts until then stays whole.
    fn write_other(&mut self, reserved_up_to: u64) -> io::Result<()> {
        let slot = 1 - self.newest;
        let offset = SLOT_OFFSETS.get(slot).copied().unwrap_or_default();
        disk::fault_point("overwrite")?;
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.write_all(&slot_bytes(reserved_up_to))?;
        disk::fault_point("fsync")?;
        self.file.sync_data()?;
        self.newest = slot;
        Ok(())
    }
}

/// The slot that counts, and the first number that is not reserved; `None` if
/// both are damaged.
fn newest(slots: [Option<u64>; 2]) -> Option<(usize, u64)> {
    match slots {
        [Some(first), Some(second)] if second > first => Some((1, second)),
        [Some(first), Some(_)] => Some((0, first)),
        // The damaged slot may have been the newer one, by a block.
        [Some(first), None] => Some((0, first.saturating_add(BLOCK))),
        [None, Some(second)] => Some((1, second.saturating_add(BLOCK))),
        [None, None] => None,
    }
}

/// The first number that is not reserved, for whoever only looks; `None` if the
/// file is missing or both slots are damaged.
pub(super) fn reserved_up_to(root: &Path) -> Result<Option<u64>, StorageError> {
    Ok(read(&disk::read(&root.join(REVISIONS_FILE))?.unwrap_or_default()))
}

/// Whether a killed process that created the file may have left these bytes: those of
/// a counter, whole or cut short, or those that a full disk left.
pub(super) fn may_be_begun(bytes: &[u8]) -> bool {
    read(bytes).is_some() || bytes.iter().all(|byte| *byte == 0) || slot_bytes(1).starts_with(bytes)
}

/// The same from the bytes of the file.
pub(super) fn read(bytes: &[u8]) -> Option<u64> {
    let slots = SLOT_OFFSETS.map(|offset| read_slot(bytes, offset));
    newest(slots).map(|(_, reserved_up_to)| reserved_up_to)
}

pub(super) fn slot_bytes(reserved_up_to: u64) -> Vec<u8> {
    record::seal(reserved_up_to.to_le_bytes().to_vec())
}

fn read_slot(bytes: &[u8], offset: u64) -> Option<u64> {
    let start = usize::try_from(offset).ok()?;
    let slot = bytes.get(start..start + SLOT_BYTES)?;
    let body = record::unseal(slot).ok()?;
    Some(u64::from_le_bytes(body.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(root: &Path) -> Result<Revisions, StorageError> {
        Revisions::open(root, || panic!("the counter is there"))
    }

    fn new_counter() -> (tempfile::TempDir, Revisions) {
        let root = tempfile::tempdir().unwrap();
        Revisions::create(root.path()).unwrap();
        let revisions = open(root.path()).unwrap();
        (root, revisions)
    }

    #[test]
    fn a_damaged_slot_does_not_bring_numbers_back() {
        let (root, revisions) = new_counter();
        let mut last = 0;
        for _ in 0..2 * BLOCK + 1 {
            last = revisions.next().unwrap().get();
        }
        drop(revisions);
        let path = root.path().join(REVISIONS_FILE);
        // Whichever slot it is, and again after each repair.
        for (turn, at) in SLOT_OFFSETS.iter().cycle().take(6).enumerate() {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[*at as usize + turn] ^= 0x55;
            std::fs::write(&path, bytes).unwrap();
            let number = open(root.path()).unwrap().next().unwrap().get();
            assert!(number > last, "turn {turn}: {number} after {last}");
            last = number;
        }
    }

    #[test]
    fn a_counter_that_is_lost_goes_on_beyond_what_is_in_use() {
        let (root, revisions) = new_counter();
        drop(revisions);
        let path = root.path().join(REVISIONS_FILE);
        let ways: [&dyn Fn(); 2] = [&|| std::fs::write(&path, vec![9; 5000]).unwrap(), &|| {
            std::fs::remove_file(&path).unwrap()
        }];
        for lose in ways {
            lose();
            let rebuilt = Revisions::open(root.path(), || Ok(77_000)).unwrap();
            let number = rebuilt.next().unwrap().get();
            assert!(number > 77_000 + BLOCK);
            drop(rebuilt);
            assert!(open(root.path()).unwrap().next().unwrap().get() > number);
        }
    }
}
