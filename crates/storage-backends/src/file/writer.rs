//! How a commit happens: locks, checks, budget, and then the files.
//!
//! The order of locks: the lock of snapshots, the component locks by prefix, the key
//! locks by slot, then briefly the state of a component and the names of components.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLockReadGuard};

use storage_core::{
    Commit, CommitView, PageRequest, Revision, StorageError, VersionedValue, Write, split_full_key,
    validate_full_key,
};

use super::component::Component;
use super::components::ResolvedKey;
use super::file_writer::{Failure, FileWriter, ResolvedWrite};
use super::indeterminate::{Indeterminate, IndeterminateKeys};
use super::journal::Journal;
use super::lock::WriterLock;
use super::reader::Reader;
use super::revisions::Revisions;
use super::snapshot::{Snapshot, Snapshots};
use super::sweep::Sweep;
use super::unflushed::Unflushed;
use crate::key_locks::{KEY_LOCKS, KeyLocks};

/// The part of a store that only an opening for writing has.
#[derive(Debug)]
pub(super) struct Writer {
    reader: Arc<Reader>,
    files: FileWriter,
    revisions: Revisions,
    key_locks: KeyLocks,
    indeterminate: IndeterminateKeys,
    snapshots: Snapshots,
    unflushed: Unflushed,
    /// Dropped before the last reference to the store lock, so that it ends before the
    /// store can be opened again.
    _sweep: Sweep,
}

/// The keys of a commit and their components, each resolved once.
struct Keys<'a> {
    /// Ordered by full key.
    keys: Vec<ResolvedKey<'a>>,
    /// Ordered by prefix.
    components: Vec<Arc<Component>>,
}

impl<'a> Keys<'a> {
    fn new(commit: &'a Commit, reader: &Reader) -> Self {
        let mut keys: Vec<&str> = commit.keys().collect();
        keys.sort_unstable();
        keys.dedup();
        let keys: Vec<_> = keys.into_iter().map(|key| reader.components.resolve(key)).collect();
        let mut components: Vec<_> = keys.iter().map(|key| Arc::clone(&key.component)).collect();
        components.sort_unstable_by(|one, other| one.prefix.cmp(&other.prefix));
        components.dedup_by(|one, other| one.prefix == other.prefix);
        Self { keys, components }
    }

    fn get(&self, full_key: &str) -> Option<&ResolvedKey<'a>> {
        let slot = self.keys.binary_search_by_key(&full_key, |key| key.full).ok()?;
        self.keys.get(slot)
    }

    fn resolve<'w>(&'w self, write: &'w Write) -> Option<ResolvedWrite<'w>> {
        Some(ResolvedWrite { key: self.get(&write.key)?, value: write.value.as_ref() })
    }

    fn component(&self, prefix: &str) -> Option<&Component> {
        let slot = self.components.binary_search_by_key(&prefix, |one| &one.prefix).ok()?;
        self.components.get(slot).map(|component| &**component)
    }
}

/// Why a commit did not happen.
enum Refusal {
    /// The usage counter that the budget needs was dropped: a concurrent write failed.
    NoCounter,
    Error(StorageError),
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        Self::Error(error)
    }
}

/// The store during a commit, whose locks are held.
struct View<'a> {
    writer: &'a Writer,
    keys: &'a Keys<'a>,
    needs_counter: bool,
}

impl CommitView for View<'_> {
    type Error = Refusal;

    fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, Refusal> {
        self.writer.indeterminate.check(key)?;
        let Some(key) = self.keys.get(key) else { return Ok(None) };
        self.writer.reader.prepare(&key.component)?;
        Ok(self.writer.reader.read(key)?)
    }

    fn value_len(&mut self, key: &str) -> Result<Option<usize>, Refusal> {
        let Some(key) = self.keys.get(key) else { return Ok(None) };
        Ok(self.writer.reader.value_len(key)?)
    }

    fn is_counted(&mut self, component_prefix: &str) -> Result<bool, Refusal> {
        let component = self.keys.component(component_prefix);
        let has_counter = component.is_some_and(|one| one.usage().is_some());
        if self.needs_counter && !has_counter { Err(Refusal::NoCounter) } else { Ok(has_counter) }
    }
}

impl Writer {
    pub(super) fn new(
        reader: Arc<Reader>,
        sync: bool,
        revisions: Revisions,
        lock: Arc<WriterLock>,
    ) -> Self {
        let layout = reader.layout.clone();
        let sweep = Sweep::start(
            layout.clone(),
            revisions.first(),
            Arc::clone(&reader.components),
            Arc::clone(&lock),
        );
        Self {
            reader,
            files: FileWriter { layout, sync, lock },
            revisions,
            key_locks: KeyLocks::new(KEY_LOCKS),
            indeterminate: IndeterminateKeys::default(),
            snapshots: Snapshots::default(),
            unflushed: Unflushed::default(),
            _sweep: sweep,
        }
    }

    /// Locks a key for reading.
    pub(super) fn lock_to_read(
        &self,
        key: &str,
    ) -> Result<Option<RwLockReadGuard<'_, ()>>, StorageError> {
        let lock = self.key_locks.read(key);
        self.indeterminate.check(key)?;
        Ok(lock)
    }

    /// Begins a snapshot.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] for an indeterminate key: a listing may not have it,
    /// and a power cut may bring it back.
    pub(super) fn begin_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Snapshot<'_>, StorageError> {
        let snapshot = self.snapshots.begin(prefix, after);
        self.indeterminate.check_all(|key| PageRequest { prefix, after, limit: 1 }.wants(key))?;
        Ok(snapshot)
    }

    /// Makes earlier writes durable.
    pub(super) fn flush(&self) -> Result<(), StorageError> {
        if self.files.sync {
            return Ok(());
        }
        // Files are synced by their paths, which must be those of this store.
        self.files.lock.check_flushed()?;
        self.unflushed.flush(&self.files.layout)
    }

    pub(super) fn commit(&self, commit: &Commit) -> Result<Revision, StorageError> {
        commit.keys().try_for_each(validate_full_key)?;
        let budgeted = commit.budgeted_component()?;
        let keys = Keys::new(commit, &self.reader);
        let written_keys = || commit.writes.iter().map(|write| write.key.as_str());
        loop {
            // Count before any lock is taken: a snapshot that begins must not wait for a
            // count.
            if let Some(component) = budgeted.and_then(|prefix| keys.component(prefix)) {
                self.reader.count(component)?;
            }
            let _snapshots = self.snapshots.wait_for(written_keys());
            self.complete_pending_commits(commit)?;
            let component_locks: Vec<_> =
                keys.components.iter().map(|one| one.lock_shared()).collect();
            let key_locks = self.key_locks.write_all(commit.keys());
            // Before these locks were taken, another write may have failed.
            if commit.keys().any(|key| self.pending_commit(key).is_some()) {
                continue;
            }
            match self.commit_locked(commit, &keys, budgeted.is_some()) {
                Ok(revision) => {
                    drop((key_locks, component_locks));
                    let components = &self.reader.components;
                    keys.components.iter().for_each(|one| components.shed_indexes(one));
                    return Ok(revision);
                }
                Err(Refusal::NoCounter) => {}
                // A path is missing because the store was moved.
                Err(Refusal::Error(error @ StorageError::IoError(_))) => {
                    return Err(self.files.lock.check().err().unwrap_or(error));
                }
                Err(Refusal::Error(error)) => return Err(error),
            }
        }
    }

    /// Commits while all locks are held.
    fn commit_locked(
        &self,
        commit: &Commit,
        keys: &Keys<'_>,
        needs_counter: bool,
    ) -> Result<Revision, Refusal> {
        self.files.lock.check()?;
        let evaluation = commit.evaluate(&mut View { writer: self, keys, needs_counter })?;
        let writes: Vec<_> =
            evaluation.writes.iter().filter_map(|write| keys.resolve(write)).collect();
        // Prepare the directories first: nothing has changed if this fails.
        for ResolvedWrite { key, value } in &writes {
            if value.is_some() {
                let FileWriter { layout, sync, .. } = &self.files;
                key.component.prepare_to_write(layout, *sync, self.revisions.first())?;
            } else {
                // If the key is missing, the delete of an earlier process may not be durable
                // yet.
                self.reader.prepare(&key.component)?;
            }
            key.component.add_written(key.user);
        }
        let changes = || {
            let counted = evaluation.changes.iter();
            counted.filter_map(|(prefix, change)| Some((keys.component(prefix)?, *change)))
        };
        let budget = commit.budget.as_ref().filter(|_| needs_counter);
        for (component, change) in changes() {
            if !component.reserve(change, budget)? {
                return Err(Refusal::NoCounter);
            }
        }
        let written = self
            .revisions
            .next()
            .map_err(Failure::from)
            .and_then(|revision| self.write_files(&writes, revision).map(|()| revision));
        let written_keys = || writes.iter().map(|write| write.key.full);
        match written {
            Ok(revision) => {
                self.indeterminate.remove(written_keys());
                self.update_memory(&writes);
                changes().for_each(|(component, change)| component.release(change.shrinkage()));
                self.add_unflushed(&writes)?;
                Ok(revision)
            }
            Err(Failure { error, outcome: None }) => {
                changes().for_each(|(component, change)| component.release(change.growth()));
                Err(error.into())
            }
            Err(Failure { error, outcome: Some(outcome) }) => {
                self.indeterminate.insert(written_keys(), &outcome);
                self.forget(keys.components.iter());
                Err(error.into())
            }
        }
    }

    fn write_files(&self, writes: &[ResolvedWrite<'_>], revision: Revision) -> Result<(), Failure> {
        match writes {
            [] => Ok(()),
            [write] => {
                let was_indeterminate = self.indeterminate.get(write.key.full).is_some();
                self.files.write_one(write, revision, was_indeterminate)
            }
            writes => self.files.write_many(writes, revision),
        }
    }

    /// Updates the indexes and the names of components after a commit.
    fn update_memory(&self, writes: &[ResolvedWrite<'_>]) {
        for ResolvedWrite { key, value } in writes {
            let component = &key.component;
            component.update_index(key.user, value.is_some(), |holds_a_key| {
                self.reader.names.update(component, value.is_some(), holds_a_key);
            });
        }
    }

    /// Drops what may be wrong after a write with an unknown outcome.
    fn forget<'a>(&self, components: impl Iterator<Item = &'a Arc<Component>>) {
        components.for_each(|component| component.forget());
        self.reader.names.forget();
    }

    fn add_unflushed(&self, writes: &[ResolvedWrite<'_>]) -> Result<(), StorageError> {
        if self.files.sync {
            return Ok(());
        }
        let mut is_due = false;
        for write in writes {
            is_due = self.unflushed.add(write.key.file.clone());
        }
        if is_due { self.unflushed.flush(&self.files.layout) } else { Ok(()) }
    }

    /// The commit of a key that happened but is not applied completely.
    fn pending_commit(&self, key: &str) -> Option<Arc<Journal>> {
        match self.indeterminate.get(key)? {
            Indeterminate::Commit(journal) => Some(journal),
            Indeterminate::Write => None,
        }
    }

    /// Applies the pending commits of the keys of this commit.
    fn complete_pending_commits(&self, commit: &Commit) -> Result<(), StorageError> {
        for key in commit.keys() {
            let Some(journal) = self.pending_commit(key) else { continue };
            let components: BTreeMap<&str, Arc<Component>> = journal
                .keys()
                .map(|key| split_full_key(key).0)
                .map(|prefix| (prefix, self.reader.components.get(prefix)))
                .collect();
            let _component_locks: Vec<_> =
                components.values().map(|one| one.lock_shared()).collect();
            let _key_locks = self.key_locks.write_all(journal.keys());
            if self.pending_commit(key).is_none() {
                continue;
            }
            self.files.lock.check()?;
            journal.complete(&self.files.layout, self.files.sync).map_err(|error| {
                StorageError::Unavailable {
                    key: Some(key.to_owned()),
                    detail: format!("cannot complete an earlier commit of the key: {error}"),
                }
            })?;
            self.forget(components.values());
            self.indeterminate.remove(journal.keys());
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn wait_for_sweep(&mut self) {
        self._sweep.wait();
    }

    #[cfg(test)]
    pub(super) fn sweeper(&self) -> super::sweep::Sweeper {
        super::sweep::Sweeper::new(
            self.files.layout.clone(),
            self.revisions.first(),
            Arc::clone(&self.reader.components),
            Arc::clone(&self.files.lock),
        )
    }
}
