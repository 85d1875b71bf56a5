//! The revision counter: a file that says which revisions are reserved
//! ([`RevisionBlocks`]).
//!
//! It has two slots, at offsets 0 and 4,096, so that a power cut during a write damages
//! one at most. A slot is the first revision that is not reserved (8 bytes, little-endian)
//! and the CRC-32 of these bytes (4 bytes). Slots are overwritten in place, so that a full
//! disk does not prevent a delete.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use storage_core::{Revision, StorageError};

use super::disk;
use crate::faults::fault_point;
use crate::record;
use crate::revision_blocks::{BLOCK, RevisionBlocks};

/// The name of the file.
pub(super) const REVISIONS_FILE: &str = "revisions";

/// The gap above the largest revision in use after the counter was lost: more than the
/// deletes in the life of a store, and less than a millionth of all revisions.
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
    /// Creates the file of a new store.
    pub(super) fn create(root: &Path) -> Result<(), StorageError> {
        let path = root.join(REVISIONS_FILE);
        let slot = slot_bytes(1);
        let mut bytes = vec![0; 4096];
        bytes.splice(..SLOT_BYTES, slot.iter().copied());
        bytes.extend_from_slice(&slot);
        disk::remove(&path).map_err(|error| disk::failed("remove", &path, &error))?;
        disk::write_new(&path, &bytes, true)
    }

    /// Opens the counter at the end of the last reservation or at the current time.
    ///
    /// If the file is missing or both slots are damaged, the counter continues far above
    /// the revision that `largest_in_use` returns, because deleted keys may have had
    /// larger ones.
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

    /// The first revision of this opening. Earlier openings used smaller ones only.
    pub(super) fn first(&self) -> Revision {
        self.blocks.first()
    }

    /// Returns the next revision.
    pub(super) fn next(&self) -> Result<Revision, StorageError> {
        self.blocks.next(|up_to| self.persist(up_to))
    }

    fn persist(&self, reserved_up_to: u64) -> Result<(), StorageError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.write_other(reserved_up_to).map_err(|error| disk::failed("write", &self.path, &error))
    }
}

impl Slots {
    /// Overwrites the older slot.
    fn write_other(&mut self, reserved_up_to: u64) -> io::Result<()> {
        let slot = 1 - self.newest;
        let offset = SLOT_OFFSETS.get(slot).copied().unwrap_or_default();
        fault_point("overwrite")?;
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.write_all(&slot_bytes(reserved_up_to))?;
        fault_point("fsync")?;
        self.file.sync_data()?;
        self.newest = slot;
        Ok(())
    }
}

/// The newest slot and the first revision that is not reserved; `None` if both slots are
/// damaged.
fn newest(slots: [Option<u64>; 2]) -> Option<(usize, u64)> {
    match slots {
        [Some(first), Some(second)] if second > first => Some((1, second)),
        [Some(first), Some(_)] => Some((0, first)),
        // The damaged slot may have been one block ahead.
        [Some(first), None] => Some((0, first.saturating_add(BLOCK))),
        [None, Some(second)] => Some((1, second.saturating_add(BLOCK))),
        [None, None] => None,
    }
}

/// The first revision that is not reserved; `None` if the file is missing or both slots
/// are damaged.
pub(super) fn reserved_up_to(root: &Path) -> Result<Option<u64>, StorageError> {
    Ok(read(&disk::read(&root.join(REVISIONS_FILE))?.unwrap_or_default()))
}

/// Whether this may be the content of a counter, complete or not: a process that created
/// it may have been killed, or the disk may have been full.
pub(super) fn may_be_begun(bytes: &[u8]) -> bool {
    read(bytes).is_some() || bytes.iter().all(|byte| *byte == 0) || slot_bytes(1).starts_with(bytes)
}

/// Like [`reserved_up_to`], from the content of the file.
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
        Revisions::open(root, || panic!("the counter exists"))
    }

    fn new_counter() -> (tempfile::TempDir, Revisions) {
        let root = tempfile::tempdir().unwrap();
        Revisions::create(root.path()).unwrap();
        let revisions = open(root.path()).unwrap();
        (root, revisions)
    }

    #[test]
    fn a_damaged_slot_does_not_reuse_revisions() {
        let (root, revisions) = new_counter();
        let mut last = 0;
        for _ in 0..2 * BLOCK + 1 {
            last = revisions.next().unwrap().get();
        }
        drop(revisions);
        let path = root.path().join(REVISIONS_FILE);
        // Each slot, and again after each repair.
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
    fn a_lost_counter_continues_above_the_revisions_in_use() {
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
