//! Commits that happened but were not finished, as a reader sees them: it may
//! not finish them, and it must not show half of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use storage_core::{Revision, StorageError, VersionedValue, split_full_key};

use super::journal::{self, Journal};
use super::layout::Layout;
use super::store::read_record;

/// The writes of unfinished commits, by key.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    writes: HashMap<String, Outcome>,
}

#[derive(Debug)]
enum Outcome {
    /// The value is in this file, until a writer gives it the key's name.
    Set(PathBuf),
    /// The key is gone, unless it was written after this revision.
    Deleted(Revision),
}

impl Unfinished {
    /// Reads the journal, changing nothing.
    pub(super) fn read(layout: &Layout) -> Result<Self, StorageError> {
        Ok(Self::of(layout, &journal::unfinished(layout)?))
    }

    /// What these journals say, oldest first.
    pub(super) fn of(layout: &Layout, journals: &[Journal]) -> Self {
        let mut writes = HashMap::new();
        for journal in journals {
            for (entry, temp) in journal.entries_with_temps(layout) {
                let outcome = if entry.sets {
                    Outcome::Set(temp)
                } else {
                    Outcome::Deleted(journal.revision)
                };
                writes.insert(entry.key.clone(), outcome);
            }
        }
        Self { writes }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.writes.keys().map(String::as_str)
    }

    pub(super) fn concerns(&self, key: &str) -> bool {
        self.writes.contains_key(key)
    }

    /// The keys that lie in a partition.
    pub(super) fn keys_in<'a>(&'a self, partition: &'a str) -> impl Iterator<Item = &'a str> {
        self.writes.keys().map(String::as_str).filter(move |key| split_full_key(key).0 == partition)
    }

    /// The partitions that have such a key.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &str> {
        self.writes.keys().map(|key| split_full_key(key).0)
    }

    /// Reads a key that lies in `file`.
    pub(super) fn read_key(
        &self,
        key: &str,
        file: &Path,
    ) -> Result<Option<VersionedValue>, StorageError> {
        match self.writes.get(key) {
            None => read_record(key, file),
            Some(Outcome::Set(temp)) => match read_record(key, temp)? {
                Some(found) => Ok(Some(found)),
                // A writer has finished the commit meanwhile.
                None => read_record(key, file),
            },
            Some(Outcome::Deleted(revision)) => {
                let found = read_record(key, file)?;
                Ok(found.filter(|found| found.revision > *revision))
            }
        }
    }
}
