//! Pending commits as a store that is open for reading sees them: it cannot apply them,
//! and it must not show a part of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use storage_core::{Revision, StorageError, VersionedValue, split_full_key};

use super::journal::{self, Journal};
use super::key_file;
use super::layout::Layout;

/// The writes of pending commits by key. Empty in a store that is open for writing,
/// which has applied them.
#[derive(Debug, Default)]
pub(super) struct PendingCommits {
    writes: HashMap<String, Outcome>,
}

#[derive(Debug)]
enum Outcome {
    /// The value is in this file until a writer renames it.
    Set(PathBuf),
    /// The key is deleted, unless it was written after this revision.
    Deleted(Revision),
}

impl PendingCommits {
    /// Reads the journal and changes nothing.
    pub(super) fn read(layout: &Layout) -> Result<Self, StorageError> {
        Ok(Self::of(layout, &journal::pending(layout)?))
    }

    /// The writes of these journals, oldest first.
    pub(super) fn of(layout: &Layout, journals: &[Journal]) -> Self {
        let mut writes = HashMap::new();
        for journal in journals {
            for (entry, step) in journal.entries.iter().zip(journal.steps(layout)) {
                let outcome = if step.sets {
                    Outcome::Set(step.temp)
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

    pub(super) fn contains(&self, key: &str) -> bool {
        self.writes.contains_key(key)
    }

    /// The keys of a component.
    pub(super) fn keys_in<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.keys().filter(move |key| split_full_key(key).0 == prefix)
    }

    /// The prefixes of the components that have such a key, with repetitions.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.keys().map(|key| split_full_key(key).0)
    }

    /// Reads a key, whose file is `file`.
    pub(super) fn read_key(
        &self,
        key: &str,
        file: &Path,
    ) -> Result<Option<VersionedValue>, StorageError> {
        match self.writes.get(key) {
            None => key_file::read(key, file),
            Some(Outcome::Set(temp)) => match key_file::read(key, temp)? {
                Some(found) => Ok(Some(found)),
                // A writer has applied the commit in the meantime.
                None => key_file::read(key, file),
            },
            Some(Outcome::Deleted(revision)) => {
                let found = key_file::read(key, file)?;
                Ok(found.filter(|found| found.revision > *revision))
            }
        }
    }
}
