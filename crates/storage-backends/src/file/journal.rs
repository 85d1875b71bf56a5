//! The journal makes a commit of several keys all or nothing.
//!
//! A commit first writes every new value to a temporary file next to the file of its
//! key. Then it writes a journal file that names all of its writes: from then on the
//! commit has happened. Then it renames the temporary files over the files of their
//! keys, removes deleted keys and removes the journal file. Opening a store for writing
//! applies the journal files that it finds. Applying one again, or after later writes,
//! changes nothing.
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

use storage_core::{Revision, StorageError, split_full_key};

use super::disk::{self, Kind};
use super::layout::{self, Layout};
use super::{key_file, name, scan};
use crate::record::{self, Reader};

const FORMAT: u8 = 1;
const SUFFIX: &str = ".commit";
const PREPARED: &str = ".tmp";

/// A file in the journal directory, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JournalFile {
    /// A commit that has happened.
    Published,
    /// A commit that has not happened.
    Prepared,
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

/// The writes of one commit. Their values are in the temporary files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Journal {
    pub(super) revision: Revision,
    pub(super) entries: Vec<Entry>,
}

/// One write of a commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Whether the key is set; otherwise it is deleted.
    pub(super) sets: bool,
}

/// The paths of an entry.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) sets: bool,
    pub(super) file: PathBuf,
    /// Has the value until it is renamed to `file`.
    pub(super) temp: PathBuf,
}

impl Journal {
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    /// The paths of the entries, in their order.
    pub(super) fn steps(&self, layout: &Layout) -> Vec<Step> {
        let step = |(position, entry): (usize, &Entry)| {
            let (prefix, user_key) = split_full_key(&entry.key);
            let directory = layout.directory(prefix);
            Step {
                sets: entry.sets,
                file: directory.join(name::encode(user_key)),
                temp: directory.join(layout::temp_name(self.revision, position)),
            }
        };
        self.entries.iter().enumerate().map(step).collect()
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

    /// Renames the prepared file, which makes the commit happen.
    pub(super) fn publish(&self, layout: &Layout, prepared: &Path) -> std::io::Result<()> {
        disk::rename(prepared, &self.file(layout))
    }

    /// Renames and deletes the files, and makes that durable.
    ///
    /// `again`: it may have been done before, and the keys may have been written since.
    pub(super) fn apply(
        &self,
        steps: &[Step],
        sync: bool,
        again: bool,
    ) -> Result<(), StorageError> {
        for Step { sets, file, temp } in steps {
            if *sets {
                match disk::rename(temp, file) {
                    Ok(()) => {}
                    // Renamed before: the name of a temporary file is never reused.
                    Err(error) if again && error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(disk::failed("replace", file, &error)),
                }
            } else if !again || key_file::is_older(file, self.revision)? {
                disk::remove(file).map_err(|error| disk::failed("remove", file, &error))?;
            }
        }
        if sync { sync_directories(steps) } else { Ok(()) }
    }

    /// Applies a commit that failed before it was applied completely.
    pub(super) fn complete(&self, layout: &Layout, sync: bool) -> Result<(), StorageError> {
        if !disk::exists(&self.file(layout))? {
            // Publishing failed, and the file still has its temporary name. Only
            // publishing it makes the outcome certain.
            let prepared = self.prepared_file(layout);
            self.publish(layout, &prepared)
                .map_err(|error| disk::failed("publish", &prepared, &error))?;
        }
        if sync {
            disk::sync_directory(&layout.journal())?;
        }
        self.apply(&self.steps(layout), sync, true)?;
        self.remove(layout);
        Ok(())
    }

    /// Removes the journal file of a commit that has been applied. If that fails, or a
    /// power cut undoes it, the commit is applied again, without effect.
    pub(super) fn remove(&self, layout: &Layout) {
        let _ = disk::remove(&self.file(layout));
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.revision.get().to_le_bytes());
        // Counts and lengths fit: a key has at most a few thousand bytes, and four
        // billion writes do not fit in memory.
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
            return Err("its format is unknown to this version");
        }
        let revision = Revision::new(reader.u64()?);
        let count = reader.u32()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let sets = match reader.byte()? {
                0 => false,
                1 => true,
                _ => return Err("it has a kind of write that is unknown to this version"),
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

/// Syncs the directories that these steps change.
pub(super) fn sync_directories(steps: &[Step]) -> Result<(), StorageError> {
    let directories: BTreeSet<&Path> = steps.iter().filter_map(|step| step.file.parent()).collect();
    directories.into_iter().try_for_each(disk::sync_directory_if_present)
}

/// The pending commits, oldest first. Changes nothing.
pub(super) fn pending(layout: &Layout) -> Result<Vec<Journal>, StorageError> {
    let mut journals = Vec::new();
    for name in
        scan::files(&layout.journal(), |name| JournalFile::of(name) != JournalFile::Foreign)?
    {
        if JournalFile::of(&name) != JournalFile::Published {
            continue;
        }
        let path = layout.journal().join(name);
        // A running writer may have removed it since the directory was listed.
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

/// Decodes a journal file.
///
/// # Errors
/// What is wrong with it, and what to do.
pub(super) fn decode_file(bytes: &[u8]) -> Result<Journal, String> {
    Journal::decode(bytes).map_err(|problem| {
        format!(
            "{problem}, so a commit cannot be completed; restore the file from a copy, or remove \
             it to keep what was applied of the commit"
        )
    })
}

/// Applies the pending commits and removes all files from the journal.
pub(super) fn recover(layout: &Layout, sync: bool) -> Result<(), StorageError> {
    let journals = pending(layout)?;
    if sync && !journals.is_empty() {
        // The process that published them may have been killed before they were
        // durable. A part of a commit must not become durable before its journal.
        disk::sync_directory(&layout.journal())?;
    }
    for journal in &journals {
        let steps = journal.steps(layout);
        for directory in steps.iter().filter_map(|step| step.file.parent()) {
            layout.refuse_links(directory)?;
        }
        journal.apply(&steps, sync, true)?;
    }
    let directory = layout.journal();
    let mut names = disk::names(&directory, Kind::File)?;
    names.retain(|name| JournalFile::of(name) != JournalFile::Foreign);
    for name in &names {
        let path = directory.join(name);
        disk::remove(&path).map_err(|error| disk::failed("remove", &path, &error))?;
    }
    if sync && !names.is_empty() {
        disk::sync_directory(&directory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Journal {
        let entry = |key: &str, sets| Entry { key: key.to_owned(), sets };
        Journal {
            revision: Revision::new(9),
            entries: vec![entry("app/notes/home/1", true), entry("unscoped", false)],
        }
    }

    #[test]
    fn wrong_counts_and_lengths_are_refused() {
        let altered = |at: usize, byte: u8| {
            let mut bytes = record::unseal(&sample().encode()).unwrap().to_vec();
            bytes[at] = byte;
            Journal::decode(&record::seal(bytes))
        };
        assert!(altered(0, 2).is_err());
        assert!(altered(12, 255).is_err());
        assert!(altered(9, 1).is_err());
        assert!(altered(13, 7).is_err());
        assert!(altered(15, 255).is_err());
    }
}
