//! Writes: locks, checks, budgets, and one batch for each commit.
//!
//! Locks are taken in this order: component locks, key locks, the state of a counter.
//! RocksDB syncs the writes of several threads together, so no shared lock is held
//! exclusively during a sync.

use std::cell::Cell;
use std::sync::Arc;

use ::rocksdb::WriteBatch;
use storage_core::{
    Commit, CommitView, Revision, StorageError, StorageValue, Usage, UsageChange, VersionedValue,
    Write, split_full_key, validate_full_key,
};

use super::counters::{Counter, Counters, State, Tracking};
use super::database::Database;
use super::engine_writer::{EngineWriter, Entry};
use super::{counter_format, keys, listing};
use crate::key_locks::{IndeterminateCause, IndeterminateKeys, KEY_LOCKS, KeyLocks};
use crate::{hooks, record};

/// How many component locks there are. Exclusive ones are held only briefly.
const COMPONENT_LOCKS: usize = 256;

/// The size of a batch entry without key and record.
const BATCH_ENTRY_BYTES: usize = 16;

/// The size of a counter's change in a batch without the component prefix.
const COUNTER_ENTRY_BYTES: usize = 40;

/// The largest buffer that a thread keeps.
const MAX_BUFFER_BYTES: usize = 16 << 10;

/// What a store needs to write.
pub(super) struct Writer {
    key_locks: KeyLocks,
    component_locks: KeyLocks,
    counters: Counters,
    indeterminate: IndeterminateKeys<FailedWrite>,
    // Dropped last: it holds the store lock.
    engine: EngineWriter,
}

/// A failed write, which may take effect when the store is reopened.
#[derive(Debug, Clone, Copy)]
struct FailedWrite;

impl IndeterminateCause for FailedWrite {
    fn detail(&self) -> &'static str {
        "a write to it failed and may or may not have taken effect; write or delete the key \
         again, or reopen the store"
    }
}

/// A component that a commit writes to.
struct Touched<'a> {
    component: &'a str,
    counter: Arc<Counter>,
    tracking: Tracking,
    change: UsageChange,
}

enum Attempt {
    Done(Revision),
    /// The budget needs this counter, which is not in memory.
    NeedsCounter(Arc<Counter>),
    /// An old value cannot be read, so the change of usage is unknown.
    UnknownChange,
}

impl Writer {
    pub(super) fn new(engine: EngineWriter, has_counters: bool) -> Self {
        Self {
            key_locks: KeyLocks::new(KEY_LOCKS),
            component_locks: KeyLocks::new(COMPONENT_LOCKS),
            counters: Counters::new(has_counters),
            indeterminate: IndeterminateKeys::default(),
            engine,
        }
    }

    pub(super) fn engine(&self) -> &EngineWriter {
        &self.engine
    }

    /// # Errors
    /// [`StorageError::Unavailable`] if the last write to the key is indeterminate.
    pub(super) fn check_key(&self, key: &str) -> Result<(), StorageError> {
        self.indeterminate.check(key)
    }

    /// # Errors
    /// [`StorageError::Unavailable`] if the last write to a `wanted` key is
    /// indeterminate.
    pub(super) fn check_keys(&self, wanted: impl Fn(&str) -> bool) -> Result<(), StorageError> {
        self.indeterminate.check_all(wanted)
    }

    /// Whether any component may have a usage counter.
    pub(super) fn has_counters(&self) -> bool {
        self.counters.any()
    }

    /// Sets or deletes one key without checks.
    pub(super) fn write_one(
        &self,
        database: &Database,
        key: &str,
        value: Option<StorageValue>,
    ) -> Result<Revision, StorageError> {
        validate_full_key(key)?;
        self.engine.check_working(database)?;
        let component_lock = self.component_locks.read(split_full_key(key).0);
        if self.counters.any() {
            drop(component_lock);
            let commit = match value {
                Some(value) => Commit::new().set(key, value),
                None => Commit::new().delete(key),
            };
            return self.apply(database, &commit);
        }
        let _key_lock = self.key_locks.write(key);
        let revision = self.engine.next_revision(database)?;
        let written = match value {
            Some(value) => with_buffer(|record| {
                record::encode_keyless(key, value.as_bytes(), revision, record);
                self.engine.put(database, Entry::Set(key, record))
            }),
            None => self.engine.put(database, Entry::Delete(key)),
        };
        match written {
            Ok(()) => self.indeterminate.remove([key].into_iter()),
            Err(_) => self.indeterminate.insert([key].into_iter(), &FailedWrite),
        }
        written.map(|()| revision)
    }

    /// Checks and applies a commit.
    pub(super) fn commit(
        &self,
        database: &Database,
        commit: &Commit,
    ) -> Result<Revision, StorageError> {
        commit.keys().try_for_each(validate_full_key)?;
        commit.budgeted_component()?;
        self.engine.check_working(database)?;
        self.apply(database, commit)
    }

    fn apply(&self, database: &Database, commit: &Commit) -> Result<Revision, StorageError> {
        let mut drop_counters = false;
        loop {
            match self.attempt(database, commit, drop_counters)? {
                Attempt::Done(revision) => return Ok(revision),
                Attempt::NeedsCounter(counter) => self.prepare_counter(database, &counter)?,
                Attempt::UnknownChange => drop_counters = true,
            }
        }
    }

    /// Tries to apply a commit. With `drop_counters` it deletes the usage counters of
    /// its components, so that the next budget counts them again.
    fn attempt(
        &self,
        database: &Database,
        commit: &Commit,
        drop_counters: bool,
    ) -> Result<Attempt, StorageError> {
        let budgeted = commit.budgeted_component()?;
        let components = || commit.writes.iter().map(|write| split_full_key(&write.key).0);
        let component_locks = match drop_counters {
            false => (self.component_locks.read_all(components()), Vec::new()),
            true => (Vec::new(), self.component_locks.write_all(components())),
        };
        let mut touched = self.touched(database, components(), budgeted.is_some())?;
        let key_locks = self.key_locks.write_all(commit.keys());
        let mut view =
            View { writer: self, database, touched: &touched, drop_counters, unreadable: false };
        let evaluated = commit.evaluate(&mut view);
        if evaluated.is_err() && view.unreadable && budgeted.is_none() {
            return Ok(Attempt::UnknownChange);
        }
        let evaluation = evaluated?;
        for one in &mut touched {
            one.change = evaluation.change(one.component);
        }
        for one in &touched {
            let allow = |usage| one.change.apply(usage, commit.budget.as_ref()).map(drop);
            let budget_applies = budgeted.is_some();
            let known = drop_counters
                || one.counter.reserve(one.change, |usage| {
                    if budget_applies { allow(usage) } else { Ok(()) }
                })?;
            if !known && budget_applies {
                return Ok(Attempt::NeedsCounter(Arc::clone(&one.counter)));
            }
        }
        let writes = &evaluation.writes;
        let prepared = self.engine.next_revision(database).and_then(|revision| {
            Ok((revision, batch(database, writes, &touched, revision, drop_counters)?))
        });
        let (revision, batch) = prepared.inspect_err(|_| {
            touched.iter().for_each(|one| one.counter.release(one.change));
        })?;
        let written_keys = || writes.iter().map(|write| &*write.key);
        if let Some(batch) = batch
            && let Err(error) = self.engine.put(database, Entry::Batch(batch))
        {
            self.indeterminate.insert(written_keys(), &FailedWrite);
            touched.iter().for_each(|one| one.counter.forget_usage());
            return Err(error);
        }
        self.indeterminate.remove(written_keys());
        let mut long = Vec::new();
        for one in touched {
            if drop_counters {
                *one.counter.state() = State::Absent;
            } else if one.counter.record(one.change) {
                long.push(one.counter);
            }
        }
        drop((key_locks, component_locks));
        for counter in long {
            // The commit has happened, and the counter is right without a total.
            let _ = self.store_total(database, &counter);
        }
        Ok(Attempt::Done(revision))
    }

    /// The components of a commit, in byte order; none if no counter is needed. Their
    /// component locks are held.
    fn touched<'a>(
        &self,
        database: &Database,
        components: impl Iterator<Item = &'a str>,
        has_budget: bool,
    ) -> Result<Vec<Touched<'a>>, StorageError> {
        if !has_budget && !self.counters.any() {
            return Ok(Vec::new());
        }
        let mut components: Vec<&str> = components.collect();
        components.sort_unstable();
        components.dedup();
        let touch = |component| {
            let counter = self.counters.of(component);
            let tracking = tracking(database, &counter)?;
            Ok(Touched { component, counter, tracking, change: UsageChange::default() })
        };
        components.into_iter().map(touch).collect()
    }

    /// Makes sure that a component has a usage counter and that its usage is in memory.
    /// Counts the component while others write to it, if it has none.
    fn prepare_counter(&self, database: &Database, counter: &Counter) -> Result<(), StorageError> {
        let _preparing = counter.lock_preparation();
        if counter.is_ready() {
            return Ok(());
        }
        let component = &*counter.component;
        let component_lock = self.component_locks.write(component);
        if self.counters.any()
            && let Some(usage) = database.usage_counter(component)?
        {
            *counter.state() = State::Present { usage: Some(usage), changes: 0 };
            return Ok(());
        }
        self.engine.check_working(database)?;
        self.counters.set_any();
        *counter.state() = State::Counting(UsageChange::default());
        let keys = listing::keys_of(database, component);
        drop(component_lock);
        hooks::before_count();
        let counted = listing::count(component, keys);
        hooks::after_count();

        let _component_lock = self.component_locks.write(component);
        let state = *counter.state();
        let usage = match (counted, state) {
            (Ok(counted), State::Counting(since)) => counted + since.added - since.removed,
            (Err(error), _) => {
                counter.forget_usage();
                return Err(error);
            }
            // A write failed during the count, so its change is unknown.
            (Ok(_), _) => return Ok(()),
        };
        self.write_total(database, counter, usage)
    }

    /// Stores the changes of a counter as one total.
    fn store_total(&self, database: &Database, counter: &Counter) -> Result<(), StorageError> {
        let _component_lock = self.component_locks.write(&counter.component);
        let State::Present { usage: Some(usage), .. } = *counter.state() else { return Ok(()) };
        self.write_total(database, counter, usage)
    }

    /// Writes a total. The exclusive component lock is held.
    fn write_total(
        &self,
        database: &Database,
        counter: &Counter,
        usage: Usage,
    ) -> Result<(), StorageError> {
        let component = &*counter.component;
        let mut batch = WriteBatch::default();
        let total = counter_format::encode_total(component, usage);
        batch.put_cf(database.counters_family()?, component, total);
        // If this fails, the total may appear when the store is reopened. It is correct
        // then, because no later write precedes it in the log.
        let written = self
            .engine
            .check_in_place()
            .and_then(|()| self.engine.put(database, Entry::Batch(batch)));
        *counter.state() = match written {
            Ok(()) => State::Present { usage: Some(usage), changes: 0 },
            Err(_) => State::Unknown,
        };
        written
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("sync", &self.engine.is_sync()).finish_non_exhaustive()
    }
}

/// What a write must do for a counter. The component lock is held.
fn tracking(database: &Database, counter: &Counter) -> Result<Tracking, StorageError> {
    if let Some(tracking) = counter.tracking() {
        return Ok(tracking);
    }
    let has_counter = database.has_counter(&counter.component)?;
    let mut state = counter.state();
    if *state == State::Unknown {
        *state = match has_counter {
            true => State::Present { usage: None, changes: 0 },
            false => State::Absent,
        };
    }
    drop(state);
    Ok(counter.tracking().unwrap_or(Tracking::None))
}

/// What one commit reads. Its keys are locked.
struct View<'a, 'c> {
    writer: &'a Writer,
    database: &'a Database,
    touched: &'a [Touched<'c>],
    drop_counters: bool,
    /// Whether an old value could not be read.
    unreadable: bool,
}

impl CommitView for View<'_, '_> {
    type Error = StorageError;

    fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.writer.indeterminate.check(key)?;
        self.database.get(key)
    }

    fn value_len(&mut self, key: &str) -> Result<Option<usize>, StorageError> {
        match self.database.record(key) {
            Ok(record) => Ok(record.map(|record| record::keyless_value_len(&record))),
            Err(error) => {
                self.unreadable = matches!(error, StorageError::Corrupt { .. });
                Err(error)
            }
        }
    }

    fn is_counted(&mut self, component: &str) -> Result<bool, StorageError> {
        let found = self.touched.binary_search_by_key(&component, |one| one.component);
        let tracking = found.ok().and_then(|index| self.touched.get(index));
        let tracked = tracking.is_some_and(|one| one.tracking != Tracking::None);
        Ok(tracked && !self.drop_counters)
    }
}

/// All changes of a commit; `None` without writes.
fn batch(
    database: &Database,
    writes: &[&Write],
    touched: &[Touched<'_>],
    revision: Revision,
    drop_counters: bool,
) -> Result<Option<WriteBatch>, StorageError> {
    if writes.is_empty() {
        return Ok(None);
    }
    let size_of = |write: &&Write| {
        let record = write.value.as_ref().map_or(0, |value| record::KEYLESS_OVERHEAD + value.len());
        BATCH_ENTRY_BYTES + write.key.len() + record
    };
    let counters = touched.iter().map(|one| COUNTER_ENTRY_BYTES + one.component.len());
    let size: usize = writes.iter().map(size_of).chain(counters).sum();
    let mut batch = WriteBatch::with_capacity_bytes(BATCH_ENTRY_BYTES + size);
    let mut record = Vec::new();
    for write in writes {
        match &write.value {
            Some(value) => {
                record::encode_keyless(&write.key, value.as_bytes(), revision, &mut record);
                batch.put(keys::stored(&write.key), &record);
            }
            None => batch.delete(keys::stored(&write.key)),
        }
    }
    for one in touched.iter().filter(|one| one.tracking == Tracking::Stored) {
        let family = database.counters_family()?;
        if drop_counters {
            batch.delete_cf(family, one.component);
        } else if one.change.added != one.change.removed {
            let change = counter_format::encode_change(one.component, one.change);
            batch.merge_cf(family, one.component, change);
        }
    }
    Ok(Some(batch))
}

/// Lends a buffer for a record, which the thread keeps for its next write.
fn with_buffer<T>(write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.take();
    let result = write(&mut buffer);
    buffer.clear();
    buffer.shrink_to(MAX_BUFFER_BYTES);
    BUFFER.set(buffer);
    result
}
