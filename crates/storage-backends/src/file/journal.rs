//! The journal: what makes a commit of several keys all or nothing.
//!
//! A commit first writes every new value to a temporary file beside its key,
//! then a journal file that names all of its writes: from then on the commit
//! has happened. Then the temporary files are renamed over the keys, deleted
//! keys are removed, and the journal file goes. Whoever opens the store for
//! writing finishes what a journal file names; doing so twice, or after later
//! writes, changes nothing.
//!
//! ```text
//! offset  size  what
//! 0       1     format, 1
//! 1       8     revision of the commit, little-endian
//! 9       4     number of writes
//! 13      n     writes, each: 1 set or 0 delete (1), length (2), full key
//! 13+n    4     CRC-32 (IEEE) of everything before
//! ```

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use storage_core::{Revision, StorageError, Write, split_full_key};

use super::disk::{self, Kind};
use super::layout::{self, Layout};
use super::scan;
use crate::record::{self, Reader};

const FORMAT: u8 = 1;
const SUFFIX: &str = ".commit";
const PREPARED: &str = ".tmp";

/// What a file in the journal's directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JournalFile {
    /// A commit that has happened.
    Published,
    /// One that has not.
    Prepared,
    /// None of the store's.
    Foreign,
}

impl JournalFile {
    pub(super) fn of(name: &str) -> Self {
        let is = |suffix| name.strip_suffix(suffix).and_then(layout::revision_in_name).is_some();
        match name {
            _ if is(SUFFIX) => Self::Published,
            _ if is(PREPARED) => Self::Prepared,
            _ => Self::Foreign,
        }
    }
}

/// The writes of one commit; values are in the temporary files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Journal {
    pub(super) revision: Revision,
    pub(super) entries: Vec<Entry>,
}

/// One write of a commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Whether the key gets a value; otherwise it is deleted.
    pub(super) sets: bool,
}

impl Journal {
    pub(super) fn new(revision: Revision, writes: &[&Write]) -> Self {
        let entry = |write: &&Write| Entry { key: write.key.clone(), sets: write.value.is_some() };
        Self { revision, entries: writes.iter().map(entry).collect() }
    }

    /// The entries, each with the temporary file that its value is in.
    pub(super) fn entries_with_temps(
        &self,
        layout: &Layout,
    ) -> impl Iterator<Item = (&Entry, PathBuf)> {
        self.entries.iter().enumerate().map(move |(position, entry)| {
            (entry, layout.temp_file(&entry.key, self.revision, position))
        })
    }

    /// The folders that the commit writes in.
    pub(super) fn folders(&self, layout: &Layout) -> BTreeSet<PathBuf> {
        self.entries.iter().map(|entry| layout.folder(split_full_key(&entry.key).0)).collect()
    }

    pub(super) fn file(&self, layout: &Layout) -> PathBuf {
        layout.journal().join(format!("{:016x}{SUFFIX}", self.revision.get()))
    }

    fn prepared_file(&self, layout: &Layout) -> PathBuf {
        layout.journal().join(format!("{:016x}{PREPARED}", self.revision.get()))
    }

    /// Writes the journal file under a temporary name. Nothing has happened yet.
    pub(super) fn prepare(&self, layout: &Layout, sync: bool) -> Result<PathBuf, StorageError> {
        let temp = self.prepared_file(layout);
        disk::write_new(&temp, &self.encode(), sync)?;
        Ok(temp)
    }

    /// Gives the prepared file its name, and so makes the commit happen.
    pub(super) fn publish(&self, layout: &Layout, prepared: &Path) -> std::io::Result<()> {
        disk::rename(prepared, &self.file(layout))
    }

    /// Renames and deletes as the journal says, and makes that durable.
    ///
    /// `again`: it may have been done before, and the keys may have been written
    /// since.
    pub(super) fn apply(
        &self,
        layout: &Layout,
        sync: bool,
        again: bool,
    ) -> Result<(), StorageError> {
        for (entry, temp) in self.entries_with_temps(layout) {
            let file = layout.key_file(&entry.key);
            if entry.sets {
                match disk::rename(&temp, &file) {
                    Ok(()) => {}
                    // Renamed before: the temporary name is never used twice.
                    Err(error) if again && error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(disk::failed("replace", &file, &error)),
                }
            } else if !again || is_older(&file, self.revision)? {
                disk::remove(&file).map_err(|error| disk::failed("remove", &file, &error))?;
            }
        }
        if sync {
            for folder in self.folders(layout) {
                disk::sync_folder_if_there(&folder)?;
            }
        }
        Ok(())
    }

    /// Applies a commit that failed half-way, now or in an earlier process.
    pub(super) fn finish(&self, layout: &Layout, sync: bool) -> Result<(), StorageError> {
        if !disk::is_there(&self.file(layout))? {
            // It was never published; `prepare` left its file under the other
            // name. Publishing is the only way that settles what the disk has.
            let prepared = self.prepared_file(layout);
            self.publish(layout, &prepared)
                .map_err(|error| disk::failed("publish", &prepared, &error))?;
        }
        if sync {
            disk::sync_folder(&layout.journal())?;
        }
        self.apply(layout, sync, true)?;
        self.forget(layout);
        Ok(())
    }

    /// Drops the journal file of a commit that has been applied. If that fails,
    /// or is undone by a power cut, the commit is applied again, to no effect.
    pub(super) fn forget(&self, layout: &Layout) {
        let _ = disk::remove(&self.file(layout));
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.revision.get().to_le_bytes());
        // Counts and lengths fit: a key is at most a few thousand bytes, and
        // four billion writes do not fit in memory.
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&count.to_le_bytes());
        for entry in &self.entries {
            let len = u16::try_from(entry.key.len()).unwrap_or(u16::MAX);
            bytes.push(u8::from(entry.sets));
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(entry.key.as_bytes());
        }
        record::seal(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut reader = Reader(record::unseal(bytes)?);
        if reader.byte()? != FORMAT {
            return Err("its format is not one that this version knows");
        }
        let revision = Revision::new(reader.u64()?);
        let count = reader.u32()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let sets = match reader.byte()? {
                0 => false,
                1 => true,
                _ => return Err("it has a write that this version does not know"),
            };
            let len = reader.u16()?;
            let key = std::str::from_utf8(reader.take(usize::from(len))?)
                .map_err(|_| "it has a key that is not UTF-8")?;
            entries.push(Entry { key: key.to_owned(), sets });
        }
        if !reader.0.is_empty() {
            return Err("it has bytes after its end");
        }
        Ok(Self { revision, entries })
    }
}

/// The commits that are not finished, oldest first. Reads only.
pub(super) fn unfinished(layout: &Layout) -> Result<Vec<Journal>, StorageError> {
    let mut journals = Vec::new();
    for name in
        scan::files(&layout.journal(), |name| JournalFile::of(name) != JournalFile::Foreign)?
    {
        if JournalFile::of(&name) != JournalFile::Published {
            continue;
        }
        let path = layout.journal().join(name);
        // Finished by a running writer since the folder was listed.
        let Some(bytes) = disk::read_regular(&path)? else { continue };
        let journal = decode_file(&bytes).map_err(|problem| StorageError::Corrupt {
            key: None,
            detail: format!("{}: {problem}", path.display()),
        })?;
        journals.push(journal);
    }
    journals.sort_by_key(|journal| journal.revision);
    Ok(journals)
}

/// Reads a journal file.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(super) fn decode_file(bytes: &[u8]) -> Result<Journal, String> {
    Journal::decode(bytes).map_err(|problem| {
        format!(
            "{problem}; a commit cannot be finished. Restore the file from a copy, or remove it to keep what was applied of the commit"
        )
    })
}

/// Finishes every commit that was interrupted, and sweeps what never became
/// one.
pub(super) fn recover(layout: &Layout, sync: bool) -> Result<(), StorageError> {
    let journals = unfinished(layout)?;
    if sync && !journals.is_empty() {
        // Whoever published them may have been killed before they were durable,
        // and half of a commit must not outlast its journal.
        disk::sync_folder(&layout.journal())?;
    }
    for journal in &journals {
        for folder in journal.folders(layout) {
            layout.refuse_links(&folder)?;
        }
        journal.apply(layout, sync, true)?;
    }
    let folder = layout.journal();
    let mut names = disk::names(&folder, Kind::File)?;
    names.retain(|name| JournalFile::of(name) != JournalFile::Foreign);
    for name in &names {
        let path = folder.join(name);
        disk::remove(&path).map_err(|error| disk::failed("remove", &path, &error))?;
    }
    if sync && !names.is_empty() {
        disk::sync_folder(&folder)?;
    }
    Ok(())
}

/// Whether a key's file was written before `revision`. A damaged one is not
/// known to be: it stays, and is reported when it is read.
pub(super) fn is_older(file: &Path, revision: Revision) -> Result<bool, StorageError> {
    let found = disk::read_regular(file)?.and_then(|bytes| record::decode(&bytes).ok());
    Ok(found.is_some_and(|record| record.found.revision < revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Journal {
        let entry = |key: &str, sets| Entry { key: key.to_owned(), sets };
        Journal {
            revision: Revision::new(9),
            entries: vec![entry("app/notes/home/1", true), entry("loose", false)],
        }
    }

    #[test]
    fn a_journal_comes_back_whole() {
        assert_eq!(Journal::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn every_flip_and_truncation_is_found() {
        let whole = sample().encode();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            assert!(Journal::decode(&bytes).is_err(), "byte {at}");
            assert!(Journal::decode(&whole[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn counts_that_lie_are_refused() {
        let lie = |at: usize, byte: u8| {
            let mut bytes = record::unseal(&sample().encode()).unwrap().to_vec();
            bytes[at] = byte;
            Journal::decode(&record::seal(bytes))
        };
        assert!(lie(0, 2).is_err());
        assert!(lie(12, 255).is_err());
        assert!(lie(9, 1).is_err());
        assert!(lie(13, 7).is_err());
        assert!(lie(15, 255).is_err());
    }
}
