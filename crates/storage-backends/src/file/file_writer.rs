//! Changes the files of keys: one key by a rename or unlink, several by the journal.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::{Revision, StorageError, StorageValue};

use super::components::ResolvedKey;
use super::disk;
use super::indeterminate::Indeterminate;
use super::journal::{self, Entry, Journal, Step};
use super::layout::{self, Layout};
use super::lock::WriterLock;
use crate::record;

/// A write to one key; `None` deletes it.
#[derive(Debug)]
pub(super) struct ResolvedWrite<'a> {
    pub(super) key: &'a ResolvedKey<'a>,
    pub(super) value: Option<&'a StorageValue>,
}

/// A write that failed.
pub(super) struct Failure {
    pub(super) error: StorageError,
    /// `None` if nothing has changed.
    pub(super) outcome: Option<Indeterminate>,
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self { error, outcome: None }
    }
}

/// Changes the files of keys. The caller holds their locks.
#[derive(Debug)]
pub(super) struct FileWriter {
    pub(super) layout: Layout,
    pub(super) sync: bool,
    pub(super) lock: Arc<WriterLock>,
}

impl FileWriter {
    /// Writes one key. `was_indeterminate`: a power cut may bring back a missing file.
    pub(super) fn write_one(
        &self,
        write: &ResolvedWrite<'_>,
        revision: Revision,
        was_indeterminate: bool,
    ) -> Result<(), Failure> {
        let ResolvedKey { full, component, file, .. } = write.key;
        let directory = &component.directory;
        match write.value {
            Some(value) => {
                let temp = directory.join(layout::temp_name(revision, 0));
                disk::write_new(&temp, &record::encode(full, value, revision), self.sync)?;
                self.check_after_sync().inspect_err(|_| drop(disk::remove(&temp)))?;
                disk::rename(&temp, file).map_err(|error| {
                    let failure = failed_write("replace", file, &error);
                    let _ = disk::remove(&temp);
                    failure
                })?;
            }
            None => match self.check_after_sync().map(|()| disk::remove(file))? {
                Ok(false) if !was_indeterminate => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(failed_write("remove", file, &error)),
            },
        }
        if self.sync {
            disk::sync_directory_if_present(directory)
                .map_err(|error| Failure { error, outcome: Some(Indeterminate::Write) })?;
        }
        Ok(())
    }

    /// Writes several keys.
    pub(super) fn write_many(
        &self,
        writes: &[ResolvedWrite<'_>],
        revision: Revision,
    ) -> Result<(), Failure> {
        let entry = |write: &ResolvedWrite<'_>| Entry {
            key: write.key.full.to_owned(),
            sets: write.value.is_some(),
        };
        let journal = Arc::new(Journal { revision, entries: writes.iter().map(entry).collect() });
        let steps = journal.steps(&self.layout);
        let prepared =
            self.prepare(writes, &journal, &steps).inspect_err(|_| discard(&steps, None))?;
        let indeterminate = |error: StorageError| Failure {
            error,
            outcome: Some(Indeterminate::Commit(Arc::clone(&journal))),
        };
        self.lock.check().inspect_err(|_| discard(&steps, Some(&prepared)))?;
        if let Err(error) = journal.publish(&self.layout, &prepared) {
            let failed = disk::failed("publish", &prepared, &error);
            if may_have_happened(&error) {
                return Err(indeterminate(failed));
            }
            discard(&steps, Some(&prepared));
            return Err(failed.into());
        }
        if self.sync {
            disk::sync_directory(&self.layout.journal()).map_err(indeterminate)?;
        }
        // The commit has happened. Do not apply it to another store.
        self.lock.check().map_err(indeterminate)?;
        journal.apply(&steps, self.sync, false).map_err(indeterminate)?;
        journal.remove(&self.layout);
        Ok(())
    }

    /// Writes the temporary files and the journal file of a commit.
    fn prepare(
        &self,
        writes: &[ResolvedWrite<'_>],
        journal: &Journal,
        steps: &[Step],
    ) -> Result<PathBuf, StorageError> {
        for (write, step) in writes.iter().zip(steps) {
            if let Some(value) = write.value {
                // A commit that has happened must not fail because of a file name.
                disk::check_name(&step.file)?;
                let bytes = record::encode(write.key.full, value, journal.revision);
                disk::write_new(&step.temp, &bytes, self.sync)?;
            }
        }
        if self.sync {
            journal::sync_directories(steps)?;
        }
        journal.prepare(&self.layout, self.sync)
    }

    /// Checks the path of the store again if fsyncs have taken time since the first check.
    fn check_after_sync(&self) -> Result<(), StorageError> {
        if self.sync { self.lock.check() } else { Ok(()) }
    }
}

/// Removes the files of a commit that will not happen. The next opening sweeps what
/// cannot be removed.
fn discard(steps: &[Step], prepared: Option<&Path>) {
    if let Some(prepared) = prepared {
        let _ = disk::remove(prepared);
    }
    for step in steps {
        let _ = disk::remove(&step.temp);
    }
}

/// The failure of a rename or unlink.
fn failed_write(what: &str, file: &Path, error: &io::Error) -> Failure {
    let outcome = may_have_happened(error).then_some(Indeterminate::Write);
    Failure { error: disk::failed_for_key(what, file, error), outcome }
}

/// Whether a rename or unlink that failed may have changed something. It changed nothing
/// if the system refused it. After an I/O error, or an error of a network file system, the
/// state of the disk is unknown.
fn may_have_happened(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::DirectoryNotEmpty
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
    )
}
