//! How a write happens: locks, checks, budget, and then one batch.
//!
//! The order of locks: the gates of partitions by number, the locks of keys by
//! number, then for moments a ledger's state. RocksDB syncs the writes of several
//! threads at once, so nothing that they share is held alone meanwhile.

use std::cell::Cell;
use std::sync::Arc;

use ::rocksdb::WriteBatch;
use storage_core::{
    Budget, Check, Commit, Revision, StorageError, StorageValue, Usage, VersionedValue, Write,
    split_full_key, validate_full_key,
};

use super::keys;
use super::ledger::Change;
use super::read;
use super::store::RocksDbStorage;
use super::usage::{Keeping, Ledger};
use super::writer::{Entry, FailedWrite, Writer};
use crate::record;

/// The size of what a batch holds for an entry beside key and record.
const BATCH_ENTRY_BYTES: usize = 16;

/// The size of what a batch holds for a change of a ledger beside its name.
const LEDGER_ENTRY_BYTES: usize = 40;

/// The largest buffer that a thread keeps.
const MAX_BUFFER_BYTES: usize = 16 << 10;

/// A key and what it shall hold.
type KeyAndValue<'a> = (&'a str, Option<&'a [u8]>);

fn change_of(write: &Write) -> KeyAndValue<'_> {
    (&write.key, write.value.as_ref().map(StorageValue::as_bytes))
}

/// Lends a buffer for a record, which the thread keeps for the next.
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

/// A partition that a write touches.
struct Touched<'a> {
    name: &'a str,
    ledger: Arc<Ledger>,
    keeping: Keeping,
    change: Change,
}

/// Whether ledgers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// There should be none that had to be.
    Blind,
    Keep,
    /// The old value of a key cannot be read, and so no change be told: the
    /// ledgers of the partitions are removed, to be counted again when a budget
    /// needs them.
    Remove,
}

/// What became of an attempt.
enum Attempt {
    Done(Revision),
    /// There is a ledger to be kept, so no key may be written twice.
    NeedsCounting,
    /// The budget needs the partition's ledger, which is not at hand.
    NeedsLedger(Arc<Ledger>),
    /// It has to be done in the other mode.
    Unreadable(StorageError),
}

impl RocksDbStorage {
    /// Writes a single key, whatever is there.
    pub(super) fn write_one(
        &self,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<Revision, StorageError> {
        let writer = self.writer()?;
        validate_full_key(key)?;
        self.refuse_while_broken(writer)?;
        let gate = writer.gates.read(split_full_key(key).0);
        if !writer.ledgers.are_any() {
            let _lock = writer.key_locks.write(key);
            let revision = self.next_revision(writer)?;
            let written = match value {
                Some(value) => with_buffer(|record| {
                    record::encode_beside_key(key, value, revision, record);
                    self.put_entry(writer, Entry::Set(key, record))
                }),
                None => self.put_entry(writer, Entry::Delete(key)),
            };
            return match written {
                Ok(()) => {
                    writer.unsettled.remove([key].into_iter());
                    Ok(revision)
                }
                Err(error) => {
                    writer.unsettled.insert([key].into_iter(), &FailedWrite);
                    Err(error)
                }
            };
        }
        drop(gate);
        self.attempt_until_done(writer, &[], vec![(key, value)], Vec::new, None)
    }

    /// Checks and applies a commit.
    pub(super) fn write_commit(&self, commit: &Commit) -> Result<Revision, StorageError> {
        let writer = self.writer()?;
        commit.keys().try_for_each(validate_full_key)?;
        commit.budgeted_component()?;
        if let ([], None, [write]) = (&*commit.checks, commit.budget, &*commit.writes) {
            let value = write.value.as_ref().map(StorageValue::as_bytes);
            return self.write_one(&write.key, value);
        }
        self.refuse_while_broken(writer)?;
        // Of two writes to a key in one batch the later one counts, so nothing
        // has to be sorted out first unless there is something to count.
        let all: Vec<KeyAndValue<'_>> = commit.writes.iter().map(change_of).collect();
        let counted = || commit.effective_writes().into_iter().map(change_of).collect();
        self.attempt_until_done(writer, &commit.checks, all, counted, commit.budget.as_ref())
    }

    /// `counted` are the writes of which none is to the same key as another.
    fn attempt_until_done<'a>(
        &self,
        writer: &Writer,
        checks: &[Check],
        mut writes: Vec<KeyAndValue<'a>>,
        counted: impl Fn() -> Vec<KeyAndValue<'a>>,
        budget: Option<&Budget>,
    ) -> Result<Revision, StorageError> {
        // Nothing grows by a delete, so it needs no ledger.
        let grows = writes.iter().any(|(_, value)| value.is_some());
        let budget = budget.filter(|_| grows);
        let mut mode = Mode::Keep;
        if writes.len() > 1 {
            match budget {
                Some(_) => writes = counted(),
                None => mode = Mode::Blind,
            }
        }
        loop {
            match self.attempt(writer, checks, &writes, budget, mode)? {
                Attempt::Done(revision) => return Ok(revision),
                Attempt::NeedsCounting => {
                    writes = counted();
                    mode = Mode::Keep;
                }
                Attempt::NeedsLedger(ledger) => self.prepare_ledger(writer, &ledger)?,
                Attempt::Unreadable(error) if budget.is_some() => return Err(error),
                Attempt::Unreadable(_) => mode = Mode::Remove,
            }
        }
    }

    fn attempt(
        &self,
        writer: &Writer,
        checks: &[Check],
        writes: &[KeyAndValue<'_>],
        budget: Option<&Budget>,
        mode: Mode,
    ) -> Result<Attempt, StorageError> {
        let keys =
            || checks.iter().map(|check| &*check.key).chain(writes.iter().map(|(key, _)| *key));
        let partitions = || writes.iter().map(|(key, _)| split_full_key(key).0);
        let gates = match mode {
            Mode::Blind | Mode::Keep => (writer.gates.read_all(partitions()), Vec::new()),
            Mode::Remove => (Vec::new(), writer.gates.write_all(partitions())),
        };
        let mut touched = self.touched(writer, partitions(), budget.is_some())?;
        if mode == Mode::Blind && touched.iter().any(|one| one.keeping != Keeping::Nothing) {
            return Ok(Attempt::NeedsCounting);
        }
        let locks = writer.key_locks.write_all(keys());
        for check in checks {
            writer.unsettled.check(&check.key)?;
            let found = self.found(&check.key)?;
            check.verify(found.as_ref().map(|found| (&found.value, found.revision)))?;
        }
        if mode == Mode::Keep {
            for (key, value) in writes {
                if let Err(error) = self.enter_change(&mut touched, key, *value) {
                    return match error {
                        StorageError::Corrupt { .. } => Ok(Attempt::Unreadable(error)),
                        _ => Err(error),
                    };
                }
            }
        }
        for one in &touched {
            let allow = |before, after| budget.map_or(Ok(()), |budget| budget.allow(before, after));
            let known = mode == Mode::Remove || one.ledger.reserve(one.change, allow)?;
            if !known && budget.is_some() {
                return Ok(Attempt::NeedsLedger(Arc::clone(&one.ledger)));
            }
        }
        let written = self
            .next_revision(writer)
            .and_then(|revision| Ok((revision, self.batch(writes, &touched, revision, mode)?)));
        let (revision, batch) = match written {
            Ok(ready) => ready,
            Err(error) => {
                touched.iter().for_each(|one| one.ledger.give_back(one.change));
                return Err(error);
            }
        };
        if let Some(batch) = batch
            && let Err(error) = self.put_entry(writer, Entry::Batch(batch))
        {
            writer.unsettled.insert(writes.iter().map(|(key, _)| *key), &FailedWrite);
            touched.iter().for_each(|one| one.ledger.forget());
            return Err(error);
        }
        writer.unsettled.remove(writes.iter().map(|(key, _)| *key));
        let mut long = Vec::new();
        for one in touched {
            match mode {
                Mode::Remove => one.ledger.removed(),
                Mode::Keep if one.ledger.settle(one.change) => long.push(one.ledger),
                Mode::Blind | Mode::Keep => {}
            }
        }
        drop((locks, gates));
        for ledger in long {
            // The write has happened, and the ledger is right as it is.
            let _ = self.fold_ledger(writer, &ledger);
        }
        Ok(Attempt::Done(revision))
    }
    /// The partitions of a write whose gates are passed, in the order of their
    /// names; none where no ledger has to be kept.
    fn touched<'a>(
        &self,
        writer: &Writer,
        partitions: impl Iterator<Item = &'a str>,
        has_budget: bool,
    ) -> Result<Vec<Touched<'a>>, StorageError> {
        if !has_budget && !writer.ledgers.are_any() {
            return Ok(Vec::new());
        }
        let mut names: Vec<&str> = partitions.collect();
        names.sort_unstable();
        names.dedup();
        let touch = |name| {
            let ledger = writer.ledgers.of(name);
            let keeping = self.keeping_of(&ledger)?;
            Ok(Touched { name, ledger, keeping, change: Change::default() })
        };
        names.into_iter().map(touch).collect()
    }

    /// What is stored under a key whose lock is held.
    fn found(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        let Some(record) = self.record(key)? else { return Ok(None) };
        let (value, revision) = read::decode(key, &record, &self.root)?;
        Ok(Some(VersionedValue { value: value.into(), revision }))
    }

    /// Adds what the write of a key changes to what its partition uses.
    fn enter_change(
        &self,
        touched: &mut [Touched<'_>],
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), StorageError> {
        let (name, own) = split_full_key(key);
        let at = touched.binary_search_by_key(&name, |one| one.name);
        let Some(one) = at.ok().and_then(|at| touched.get_mut(at)) else { return Ok(()) };
        if one.keeping == Keeping::Nothing {
            return Ok(());
        }
        let old = self.record(key)?.map_or(Usage::default(), |record| {
            Usage::of(own, record::value_len_beside_key(&record))
        });
        let new = value.map_or(Usage::default(), |value| Usage::of(own, value.len()));
        one.change = one.change.and(Change::between(old, new));
        Ok(())
    }

    /// Everything that a write changes, to happen at once; `None` for nothing.
    fn batch(
        &self,
        writes: &[KeyAndValue<'_>],
        touched: &[Touched<'_>],
        revision: Revision,
        mode: Mode,
    ) -> Result<Option<WriteBatch>, StorageError> {
        if writes.is_empty() {
            return Ok(None);
        }
        let size_of = |(key, value): &KeyAndValue<'_>| {
            let record = value.map_or(0, |value| record::OVERHEAD_BESIDE_KEY + value.len());
            BATCH_ENTRY_BYTES + key.len() + record
        };
        let ledgers = touched.iter().map(|one| LEDGER_ENTRY_BYTES + one.name.len());
        let size: usize = writes.iter().map(size_of).chain(ledgers).sum();
        let mut batch = WriteBatch::with_capacity_bytes(BATCH_ENTRY_BYTES + size);
        let mut record = Vec::new();
        for (key, value) in writes {
            match value {
                Some(value) => {
                    record::encode_beside_key(key, value, revision, &mut record);
                    batch.put(keys::stored(key), &record);
                }
                None => batch.delete(keys::stored(key)),
            }
        }
        for one in touched {
            match (mode, one.keeping) {
                (Mode::Keep, Keeping::Add) if !one.change.is_nothing() => {
                    self.add_change(&mut batch, &one.ledger, one.change)?;
                }
                (Mode::Remove, Keeping::Add) => self.remove_ledger(&mut batch, &one.ledger)?,
                _ => {}
            }
        }
        Ok(Some(batch))
    }
}
