//! How a commit happens: locks, checks, budget, and then the files.
//!
//! The order of locks: the gate of snapshots, the component locks by prefix, the key
//! locks by slot, then briefly the state of a component and the names of components.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLockReadGuard};

use storage_core::{
    Budget, Check, Commit, PageRequest, Revision, StorageError, Usage, split_full_key,
    validate_full_key,
};

use super::component::Component;
use super::components::ResolvedKey;
use super::file_writer::{Failure, FileWriter, ResolvedWrite};
use super::indeterminate::{Indeterminate, IndeterminateKeys};
use super::lock::WriterLock;
use super::reader::Reader;
use super::revisions::Revisions;
use super::snapshot::{Snapshot, Snapshots};
use super::sweep::Sweep;
use super::unflushed::Unflushed;
use crate::key_locks::{KEY_LOCKS, KeyLocks};

/// What a store has that is open for writing.
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

/// A commit with its keys resolved.
struct Plan<'a> {
    checks: Vec<(&'a Check, ResolvedKey<'a>)>,
    /// What the commit does to each component, by prefix.
    components: BTreeMap<&'a str, Changes<'a>>,
    /// `None` if no usage counter is needed.
    budget: Option<Budget>,
}

struct Changes<'a> {
    component: Arc<Component>,
    writes: Vec<ResolvedWrite<'a>>,
    growth: Usage,
    shrinkage: Usage,
}

impl<'a> Plan<'a> {
    fn new(commit: &'a Commit, reader: &Reader) -> Self {
        // A commit that only deletes is within every budget.
        let sets = commit.writes.iter().any(|write| write.value.is_some());
        let mut plan = Self {
            checks: Vec::with_capacity(commit.checks.len()),
            components: BTreeMap::new(),
            budget: commit.budget.filter(|_| sets),
        };
        for write in commit.effective_writes() {
            let key = reader.components.resolve(&write.key);
            let changes = plan.changes(&key);
            changes.writes.push(ResolvedWrite { key, value: write.value.as_ref() });
        }
        for check in &commit.checks {
            let key = reader.components.resolve(&check.key);
            plan.changes(&key);
            plan.checks.push((check, key));
        }
        plan
    }

    fn changes(&mut self, key: &ResolvedKey<'a>) -> &mut Changes<'a> {
        self.components.entry(split_full_key(key.full).0).or_insert_with(|| Changes {
            component: Arc::clone(&key.component),
            writes: Vec::new(),
            growth: Usage::default(),
            shrinkage: Usage::default(),
        })
    }

    fn components(&self) -> impl Iterator<Item = &Arc<Component>> {
        self.components.values().map(|changes| &changes.component)
    }

    fn writes(&self) -> impl Iterator<Item = &ResolvedWrite<'a>> + Clone {
        self.components.values().flat_map(|changes| &changes.writes)
    }

    fn written_keys(&self) -> impl Iterator<Item = &'a str> + Clone {
        self.writes().map(|write| write.key.full)
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
        if commit.budget.is_some() {
            commit.single_partition()?;
        }
        let mut plan = Plan::new(commit, &self.reader);
        loop {
            // Count before any lock is taken: a snapshot that begins must not wait for a
            // count.
            if plan.budget.is_some() {
                plan.components().try_for_each(|component| self.reader.count(component))?;
            }
            let _snapshots = self.snapshots.wait_for(plan.written_keys());
            self.complete_pending_commits(commit)?;
            let components: Vec<Arc<Component>> = plan.components().cloned().collect();
            let component_locks: Vec<_> = components.iter().map(|one| one.lock_shared()).collect();
            let key_locks = self.key_locks.write_all(commit.keys());
            // Before these locks were taken, another write may have failed.
            if commit.keys().any(|key| self.pending_commit(key).is_some()) {
                continue;
            }
            let written = self.commit_locked(&mut plan).map_err(|error| {
                // A path is missing because the store was moved.
                match (&error, self.files.lock.check()) {
                    (StorageError::IoError(_), Err(moved)) => moved,
                    _ => error,
                }
            })?;
            let Some(revision) = written else { continue };
            drop((key_locks, component_locks));
            components.iter().for_each(|one| self.reader.components.shed_indexes(one));
            return Ok(revision);
        }
    }

    /// Commits while all locks are held. Returns `None` if the usage counter that the
    /// budget needs was dropped.
    fn commit_locked(&self, plan: &mut Plan<'_>) -> Result<Option<Revision>, StorageError> {
        self.files.lock.check()?;
        for (check, key) in &plan.checks {
            self.indeterminate.check(key.full)?;
            self.reader.prepare(&key.component)?;
            let found = self.reader.read(key)?;
            check.verify(found.as_ref().map(|found| (&found.value, found.revision)))?;
        }
        // Prepare the directories first: nothing has changed if this fails.
        for Changes { component, writes, .. } in plan.components.values() {
            if writes.iter().any(|write| write.value.is_some()) {
                let FileWriter { layout, sync, .. } = &self.files;
                component.prepare_to_write(layout, *sync, self.revisions.first())?;
            } else if !writes.is_empty() {
                // If the key is missing, the delete of an earlier process may not be
                // durable yet.
                self.reader.prepare(component)?;
            }
        }
        if !self.reserve(plan)? {
            return Ok(None);
        }
        let written = self.revisions.next().map_err(Failure::from).and_then(|revision| {
            self.write_files(plan, revision)?;
            Ok(revision)
        });
        match written {
            Ok(revision) => {
                self.indeterminate.remove(plan.written_keys());
                self.settle(plan);
                self.add_unflushed(plan)?;
                Ok(Some(revision))
            }
            Err(Failure { error, outcome: None }) => {
                for Changes { component, growth, .. } in plan.components.values() {
                    component.release(*growth);
                }
                Err(error)
            }
            Err(Failure { error, outcome: Some(outcome) }) => {
                self.indeterminate.insert(plan.written_keys(), &outcome);
                self.forget(plan.components());
                Err(error)
            }
        }
    }

    fn write_files(&self, plan: &Plan<'_>, revision: Revision) -> Result<(), Failure> {
        let writes: Vec<&ResolvedWrite<'_>> = plan.writes().collect();
        match writes.as_slice() {
            [] => Ok(()),
            [write] => {
                let was_indeterminate = self.indeterminate.get(write.key.full).is_some();
                self.files.write_one(write, revision, was_indeterminate)
            }
            writes => self.files.write_many(writes, revision),
        }
    }

    /// Checks the budget and adds the growth to the usage counters. Returns `false` if
    /// the budget needs a counter and there is none: a concurrent write that failed has
    /// dropped it.
    fn reserve(&self, plan: &mut Plan<'_>) -> Result<bool, StorageError> {
        for Changes { component, writes, growth, shrinkage } in plan.components.values_mut() {
            (*growth, *shrinkage) = (Usage::default(), Usage::default());
            if component.usage().is_none() {
                if plan.budget.is_some() {
                    return Ok(false);
                }
                // Without a counter the size of the old values is not needed.
                component.add_written(writes.iter().map(|write| write.key.user));
                continue;
            }
            let (mut old, mut new) = (Usage::default(), Usage::default());
            for ResolvedWrite { key, value } in &*writes {
                old = old + self.reader.file_usage(key)?.unwrap_or_default();
                new = new + value.map(|new| Usage::of(key.user, new.len())).unwrap_or_default();
            }
            (*growth, *shrinkage) = (new - old, old - new);
        }
        for Changes { component, growth, shrinkage, .. } in plan.components.values() {
            if !component.reserve(*growth, *shrinkage, plan.budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Updates what is in memory after a commit.
    fn settle(&self, plan: &Plan<'_>) {
        for Changes { component, writes, shrinkage, .. } in plan.components.values() {
            for ResolvedWrite { key, value } in writes {
                component.update_index(key.user, value.is_some(), |holds_a_key| {
                    self.reader.names.update(component, value.is_some(), holds_a_key);
                });
            }
            component.release(*shrinkage);
        }
    }

    /// Drops what may be wrong after a write with an unknown outcome.
    fn forget<'a>(&self, components: impl Iterator<Item = &'a Arc<Component>>) {
        components.for_each(|component| component.forget());
        self.reader.names.forget();
    }

    fn add_unflushed(&self, plan: &Plan<'_>) -> Result<(), StorageError> {
        if self.files.sync {
            return Ok(());
        }
        let mut is_due = false;
        for write in plan.writes() {
            is_due = self.unflushed.add(write.key.file.clone());
        }
        if is_due { self.unflushed.flush(&self.files.layout) } else { Ok(()) }
    }

    /// The commit of a key that happened but is not applied completely.
    fn pending_commit(&self, key: &str) -> Option<Arc<super::journal::Journal>> {
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
