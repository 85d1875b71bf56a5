//! How a write happens: locks, checks, budget, and then the disk.
//!
//! The order of locks: the gate of walks, the gates of partitions by name, the locks of keys by
//! number, then for moments a partition's state and the list of names.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use storage_core::{
    Budget, Commit, Revision, StorageError, Usage, Write, split_full_key, validate_full_key,
};

use super::index::KeyIndex;
use super::journal::Journal;
use super::locks::Unsettled;
use super::partition::Partition;
use super::store::{FileStorage, Writer};
use super::{disk, scan};
use crate::record;

/// A write that failed, and whether anything may have changed.
struct Failure {
    error: StorageError,
    /// `None`: nothing has changed. Otherwise the outcome is open, for this
    /// reason.
    unsettled: Option<Unsettled>,
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self { error, unsettled: None }
    }
}

/// What a write changes in a partition's ledger. At most one of the two numbers
/// of each kind is above zero.
#[derive(Debug, Clone, Copy, Default)]
struct Change {
    grows: Usage,
    shrinks: Usage,
}

/// The partitions that a write touches.
type Touched = BTreeMap<String, Arc<Partition>>;

impl FileStorage {
    /// Locks a key for reading. A store that is not written to needs no lock.
    pub(super) fn lock_to_read(
        &self,
        partition: &Partition,
        key: &str,
    ) -> Result<Option<RwLockReadGuard<'_, ()>>, StorageError> {
        partition.prepare_to_read(&self.layout, self.syncs())?;
        if self.writer.is_none() {
            return Ok(None);
        }
        let lock = self.key_locks.read(key);
        self.unsettled.check(key)?;
        Ok(lock)
    }

    /// Checks and applies a commit.
    pub(super) fn write(&self, commit: &Commit) -> Result<Revision, StorageError> {
        let writer = self.writer()?;
        commit.keys().try_for_each(validate_full_key)?;
        let budgeted = commit.budgeted_component()?.map(|component| self.partition(component));
        let writes = commit.effective_writes();
        let touched: Touched = commit
            .keys()
            .map(|key| split_full_key(key).0)
            .map(|name| (name.to_owned(), self.partition(name)))
            .collect();
        loop {
            // First, and with nothing held: a walk that begins waits for nobody
            // who counts.
            if let Some(partition) = &budgeted {
                self.load_ledger(partition)?;
            }
            let _entered = self.walks.enter(&writes);
            self.finish_commits_of(writer, commit)?;
            let gates: Vec<_> = touched.values().map(|one| one.enter_to_write()).collect();
            let locks = self.key_locks.write_all(commit.keys());
            // Between the steps above and these locks another write may have
            // failed half-way, or have dropped the ledger.
            let in_doubt = commit
                .keys()
                .any(|key| matches!(self.unsettled.get(key), Some(Unsettled::Commit(_))));
            let ledger_gone = budgeted.as_ref().is_some_and(|one| one.state().ledger.is_none());
            if in_doubt || ledger_gone {
                continue;
            }
            let budget = commit.budget.filter(|_| budgeted.is_some());
            let written = self.write_locked(writer, commit, &writes, budget, &touched);
            // A store that was moved is why a path was not there.
            let written = written.map_err(|error| match (&error, writer.lock.check()) {
                (StorageError::IoError(_), Err(moved)) => moved,
                _ => error,
            })?;
            let Some(revision) = written else {
                continue;
            };
            drop((locks, gates));
            for partition in touched.values() {
                self.shed_indexes(partition);
            }
            return Ok(revision);
        }
    }

    /// The write, with every lock that it needs. `None` if the ledger that its
    /// budget needs has gone.
    fn write_locked(
        &self,
        writer: &Writer,
        commit: &Commit,
        writes: &[&Write],
        budget: Option<Budget>,
        touched: &Touched,
    ) -> Result<Option<Revision>, StorageError> {
        writer.lock.check()?;
        for check in &commit.checks {
            self.unsettled.check(&check.key)?;
            let partition = self.partition(split_full_key(&check.key).0);
            partition.prepare_to_read(&self.layout, writer.sync)?;
            let found = self.read(&partition, &check.key)?;
            check.verify(found.as_ref().map(|found| (&found.value, found.revision)))?;
        }
        // Folders first: what fails there has changed nothing.
        for write in writes {
            let Some(partition) = touched.get(split_full_key(&write.key).0) else { continue };
            if write.value.is_some() {
                partition.prepare_to_write(&self.layout, writer.sync, writer.revisions.first())?;
            } else {
                // A key that is missing may be one that an earlier process has
                // removed, and not yet for good.
                partition.prepare_to_read(&self.layout, writer.sync)?;
            }
        }
        let Some(changes) = self.reserve(writes, budget, touched)? else { return Ok(None) };
        let written = writer.revisions.next().map_err(Failure::from).and_then(|revision| {
            match writes {
                [] => {}
                [write] => self.write_one(writer, write, revision)?,
                _ => self.write_many(writer, writes, revision)?,
            }
            Ok(revision)
        });
        match written {
            Ok(revision) => {
                self.unsettled.remove(writes.iter().map(|write| write.key.as_str()));
                self.settle(writes, touched, &changes);
                self.remember_unflushed(writer, writes)?;
                Ok(Some(revision))
            }
            Err(Failure { error, unsettled: None }) => {
                for (name, change) in &changes {
                    let partition = touched.get(*name);
                    if let Some(ledger) = partition.map(|one| one.state()).as_mut() {
                        ledger.ledger = ledger.ledger.map(|usage| usage - change.grows);
                    }
                }
                Err(error)
            }
            Err(Failure { error, unsettled: Some(why) }) => {
                self.unsettled.insert(writes.iter().map(|write| write.key.as_str()), &why);
                self.forget(touched);
                Err(error)
            }
        }
    }

    /// Checks the budget and enters the growth of the write into the ledgers, so
    /// that writes beside it cannot use the same room. `None` if there is a
    /// budget and no ledger: a write beside it that failed has dropped it.
    fn reserve<'a>(
        &self,
        writes: &[&'a Write],
        budget: Option<Budget>,
        touched: &Touched,
    ) -> Result<Option<BTreeMap<&'a str, Change>>, StorageError> {
        let mut changes = BTreeMap::new();
        for write in writes {
            let (name, own) = split_full_key(&write.key);
            let Some(partition) = touched.get(name) else { continue };
            // Without a ledger a write looks at nothing first.
            let mut state = partition.state();
            if state.ledger.is_none() {
                if budget.is_some() {
                    return Ok(None);
                }
                if let Some(written) = &mut state.written_since {
                    written.insert(own.into());
                }
                continue;
            }
            drop(state);
            let old = self.usage_of(partition, &write.key)?;
            let new = write.value.as_ref().map(|value| Usage::of(own, value.len()));
            let change: &mut (Usage, Usage) = changes.entry(name).or_default();
            *change = (change.0 + old, change.1 + new.unwrap_or_default());
        }
        let changes: BTreeMap<&str, Change> = changes
            .into_iter()
            .map(|(name, (old, new))| (name, Change { grows: new - old, shrinks: old - new }))
            .collect();
        for (name, change) in &changes {
            let Some(partition) = touched.get(*name) else { continue };
            let mut state = partition.state();
            match (state.ledger, budget) {
                (Some(before), Some(budget)) => {
                    budget.allow(before, before + change.grows - change.shrinks)?;
                }
                (None, Some(_)) => return Ok(None),
                (_, None) => {}
            }
            state.ledger = state.ledger.map(|before| before + change.grows);
        }
        Ok(Some(changes))
    }

    /// What a key takes up now, in its own bytes.
    pub(super) fn usage_of(&self, partition: &Partition, key: &str) -> Result<Usage, StorageError> {
        let (_, own) = split_full_key(key);
        let len = disk::regular_len(&partition.file(own))?;
        Ok(len.map(|len| usage_of_file(key, own, len)).unwrap_or_default())
    }

    /// Takes a write that has happened into the indexes, ledgers and names.
    fn settle(&self, writes: &[&Write], touched: &Touched, changes: &BTreeMap<&str, Change>) {
        for write in writes {
            let (name, own) = split_full_key(&write.key);
            let Some(partition) = touched.get(name) else { continue };
            let mut state = partition.state();
            if let Some(index) = &mut state.index {
                match write.value {
                    Some(_) => index.insert(own),
                    None => index.remove(own),
                }
            }
            // Under the partition's lock, so that a write which fills it again
            // comes before or after this as a whole.
            self.settle_name(partition, state.index.as_ref(), write.value.is_some());
        }
        for (name, change) in changes {
            if let Some(mut state) = touched.get(*name).map(|one| one.state()) {
                state.ledger = state.ledger.map(|usage| usage - change.shrinks);
            }
        }
    }

    /// Keeps the list of the partitions that hold a key, if there is one yet.
    fn settle_name(&self, partition: &Partition, index: Option<&KeyIndex>, was_set: bool) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(list) = names.as_mut().filter(|_| !partition.name.is_empty()) else { return };
        if was_set {
            list.insert(&partition.name);
            return;
        }
        let holds_a_key = match index {
            Some(index) => Ok(!index.is_empty()),
            None => scan::holds_a_key(&partition.folder),
        };
        match holds_a_key {
            Ok(true) => {}
            Ok(false) => {
                list.remove(&partition.name);
            }
            // The next listing looks for itself.
            Err(_) => *names = None,
        }
    }

    /// Forgets what may not be true any more, after a write of unknown outcome.
    fn forget(&self, touched: &Touched) {
        touched.values().for_each(|partition| partition.forget());
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn remember_unflushed(&self, writer: &Writer, writes: &[&Write]) -> Result<(), StorageError> {
        if writer.sync {
            return Ok(());
        }
        let mut full = false;
        for write in writes {
            full = writer.unflushed.add(self.layout.key_file(&write.key));
        }
        if full { writer.unflushed.flush(&self.layout) } else { Ok(()) }
    }

    /// A single write: atomic by rename or unlink.
    fn write_one(&self, writer: &Writer, write: &Write, revision: Revision) -> Result<(), Failure> {
        let file = self.layout.key_file(&write.key);
        let in_doubt = self.unsettled.get(&write.key).is_some();
        match &write.value {
            Some(value) => {
                let temp = self.layout.temp_file(&write.key, revision, 0);
                disk::write_new(&temp, &record::encode(&write.key, value, revision), writer.sync)?;
                // The fsync may have taken long.
                writer.lock.check().inspect_err(|_| drop(disk::remove(&temp)))?;
                disk::rename(&temp, &file).map_err(|error| {
                    let failure = half_way("replace", &file, &error);
                    let _ = disk::remove(&temp);
                    failure
                })?;
            }
            None => match writer.lock.check().map(|()| disk::remove(&file))? {
                // Nothing there, and nothing that might come back.
                Ok(false) if !in_doubt => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(half_way("remove", &file, &error)),
            },
        }
        match file.parent() {
            Some(folder) if writer.sync => disk::sync_folder_if_there(folder)
                .map_err(|error| Failure { error, unsettled: Some(Unsettled::Write) }),
            _ => Ok(()),
        }
    }

    /// Several writes: atomic by the journal.
    fn write_many(
        &self,
        writer: &Writer,
        writes: &[&Write],
        revision: Revision,
    ) -> Result<(), Failure> {
        let journal = Arc::new(Journal::new(revision, writes));
        let prepared =
            self.prepare(writer, &journal, writes).inspect_err(|_| self.discard(&journal, None))?;
        let open_outcome = |error: StorageError| Failure {
            error,
            unsettled: Some(Unsettled::Commit(Arc::clone(&journal))),
        };
        writer.lock.check().inspect_err(|_| self.discard(&journal, Some(&prepared)))?;
        if let Err(error) = journal.publish(&self.layout, &prepared) {
            let failed = disk::failed("publish", &prepared, &error);
            if may_have_happened(&error) {
                return Err(open_outcome(failed));
            }
            self.discard(&journal, Some(&prepared));
            return Err(failed.into());
        }
        if writer.sync {
            disk::sync_folder(&self.layout.journal()).map_err(open_outcome)?;
        }
        // From here on the commit has happened. In another store nothing is applied.
        writer.lock.check().map_err(open_outcome)?;
        journal.apply(&self.layout, writer.sync, false).map_err(open_outcome)?;
        journal.forget(&self.layout);
        Ok(())
    }

    /// Everything that a commit needs to happen, short of its happening.
    fn prepare(
        &self,
        writer: &Writer,
        journal: &Journal,
        writes: &[&Write],
    ) -> Result<std::path::PathBuf, StorageError> {
        for ((_, temp), write) in journal.entries_with_temps(&self.layout).zip(writes) {
            if let Some(value) = &write.value {
                // A commit that has happened must not fail on a name.
                disk::check_name(&self.layout.key_file(&write.key))?;
                let bytes = record::encode(&write.key, value, journal.revision);
                disk::write_new(&temp, &bytes, writer.sync)?;
            }
        }
        if writer.sync {
            for folder in journal.folders(&self.layout) {
                disk::sync_folder_if_there(&folder)?;
            }
        }
        journal.prepare(&self.layout, writer.sync)
    }

    /// Removes what was prepared for a commit that will not happen. What cannot
    /// be removed is swept at the next opening.
    fn discard(&self, journal: &Journal, prepared: Option<&Path>) {
        if let Some(prepared) = prepared {
            let _ = disk::remove(prepared);
        }
        for (_, temp) in journal.entries_with_temps(&self.layout) {
            let _ = disk::remove(&temp);
        }
    }

    /// Finishes the commits that failed half-way on any of these keys.
    fn finish_commits_of(&self, writer: &Writer, commit: &Commit) -> Result<(), StorageError> {
        for key in commit.keys() {
            let Some(Unsettled::Commit(journal)) = self.unsettled.get(key) else { continue };
            let keys = || journal.entries.iter().map(|entry| entry.key.as_str());
            let touched: Touched = keys()
                .map(|key| split_full_key(key).0)
                .map(|name| (name.to_owned(), self.partition(name)))
                .collect();
            let _gates: Vec<_> = touched.values().map(|one| one.enter_to_write()).collect();
            let _locks = self.key_locks.write_all(keys());
            if !matches!(self.unsettled.get(key), Some(Unsettled::Commit(_))) {
                continue;
            }
            writer.lock.check()?;
            journal.finish(&self.layout, writer.sync).map_err(|error| {
                StorageError::Unavailable {
                    key: Some(key.to_owned()),
                    detail: format!("an earlier commit of it cannot be finished: {error}"),
                }
            })?;
            self.forget(&touched);
            self.unsettled.remove(keys());
        }
        Ok(())
    }
}

/// What a key takes up whose file has this length.
pub(super) fn usage_of_file(key: &str, own: &str, file_len: u64) -> Usage {
    // A file that is too short is corrupt and holds no value.
    let value_len = file_len.saturating_sub(record::overhead(key) as u64);
    Usage { bytes: own.len() as u64 + value_len, keys: 1 }
}

/// A rename or unlink that failed.
fn half_way(what: &str, file: &Path, error: &io::Error) -> Failure {
    let unsettled = may_have_happened(error).then_some(Unsettled::Write);
    Failure { error: disk::failed_for_key(what, file, error), unsettled }
}

/// Whether a rename or unlink that failed may have changed something. These are
/// refusals, by which nothing has; after an I/O error, or one of a network file
/// system, nobody knows what is on the disk.
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
