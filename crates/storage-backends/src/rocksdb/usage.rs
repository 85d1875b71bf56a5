//! What partitions use, kept while it is needed for budgets.
//!
//! A partition has a ledger in the database from the first budget on. Whether it
//! has one changes only while nobody writes to the partition: its gate is shut.
//! So a write that has passed the gate knows whether to add its change. The sum
//! itself is kept in memory too, with the growth of writes that are under way,
//! so that two of them cannot use the same room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ::rocksdb::{ColumnFamily, WriteBatch};
use storage_core::{PageRequest, StorageError, Usage, split_full_key};

use super::errors;
use super::keys::Kind;
use super::ledger::{self, Change};
use super::listing::{Cursor, Reads};
use super::options::LEDGERS;
use super::store::RocksDbStorage;
use super::writer::{Entry, Writer};
use crate::{hooks, record};

/// How many gates of partitions there are: shared by writers, shut by whoever
/// changes whether there is a ledger, for a moment only. Enough that two
/// partitions in use at once seldom share one.
pub(super) const GATES: usize = 256;

/// How many ledgers may be remembered before idle ones are dropped: some 4 MB.
const MAX_KNOWN: usize = 16_384;

/// How many changes a ledger may have before they are written as one total, so
/// that reading it stays cheap.
const CHANGES_PER_TOTAL: u32 = 1024;

/// The ledgers that are remembered.
#[derive(Debug)]
pub(super) struct Ledgers {
    /// Whether there may be one. Without any, a write looks at nothing.
    any: AtomicBool,
    known: RwLock<HashMap<Box<str>, Arc<Ledger>>>,
}

/// What is remembered of a partition's ledger.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) name: Box<str>,
    state: Mutex<State>,
    /// Held by whoever reads or counts it, so that the others wait for that.
    preparing: Mutex<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not looked up yet.
    Unknown,
    /// There is none.
    Absent,
    /// There is none yet: somebody counts what there was at one moment. This has
    /// changed since.
    Counting(Change),
    /// There is one.
    Present {
        /// What is used, and the growth of writes under way; `None` if it has to
        /// be read from the ledger.
        usage: Option<Usage>,
        /// How many changes it was given since it was read or written as a total.
        changes: u32,
    },
}

impl Ledgers {
    /// `any`: whether there is a ledger in the database.
    pub(super) fn new(any: bool) -> Self {
        Self { any: AtomicBool::new(any), known: RwLock::default() }
    }

    /// Whether the store may have a ledger. For a partition whose gate one has
    /// passed, a no is certain.
    pub(super) fn are_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// What is remembered of a partition.
    pub(super) fn of(&self, partition: &str) -> Arc<Ledger> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(ledger) = known.get(partition) {
            return Arc::clone(ledger);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            // Whoever uses one holds an Arc of it, and gets it from this map.
            known.retain(|_, ledger| Arc::strong_count(ledger) > 1);
        }
        let make = || {
            Arc::new(Ledger {
                name: partition.into(),
                state: Mutex::new(State::Unknown),
                preparing: Mutex::default(),
            })
        };
        Arc::clone(known.entry(partition.into()).or_insert_with(make))
    }
}

/// What a write has to do for a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// Nothing.
    Nothing,
    /// Tell whoever counts by how much it has changed.
    Tell,
    /// Add its change in the same batch.
    Add,
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a write has to do whose partition's gate is passed: this does not
    /// change before it leaves.
    fn keeping(&self) -> Option<Keeping> {
        match *self.state() {
            State::Unknown => None,
            State::Absent => Some(Keeping::Nothing),
            State::Counting(_) => Some(Keeping::Tell),
            State::Present { .. } => Some(Keeping::Add),
        }
    }

    /// Enters the growth of a write, if `allow` agrees with what is used before
    /// and after it. `allow` is not asked if that is not known: `false`.
    pub(super) fn reserve(
        &self,
        change: Change,
        allow: impl FnOnce(Usage, Usage) -> Result<(), StorageError>,
    ) -> Result<bool, StorageError> {
        let mut state = self.state();
        let State::Present { usage: Some(usage), .. } = &mut *state else { return Ok(false) };
        allow(*usage, change.applied_to(*usage))?;
        *usage = change.growth().applied_to(*usage);
        Ok(true)
    }

    /// Takes back what was entered for a write that has not happened.
    pub(super) fn give_back(&self, change: Change) {
        if let State::Present { usage: Some(usage), .. } = &mut *self.state() {
            *usage = change.growth().undone().applied_to(*usage);
        }
    }

    /// Takes in the change of a write that has happened, its growth apart where
    /// that was entered. Tells whether it is time to write a total.
    pub(super) fn settle(&self, change: Change) -> bool {
        match &mut *self.state() {
            State::Counting(since) => *since = since.and(change),
            State::Present { usage, changes } => {
                *usage = usage.map(|usage| change.shrinkage().applied_to(usage));
                *changes = changes.saturating_add(1);
                return changes.is_multiple_of(CHANGES_PER_TOTAL);
            }
            State::Unknown | State::Absent => {}
        }
        false
    }

    /// Forgets what may not be true any more, after a write of unknown outcome.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        *state = match *state {
            // Whether there is one has not changed.
            State::Present { .. } => State::Present { usage: None, changes: 0 },
            State::Absent => State::Absent,
            State::Counting(_) | State::Unknown => State::Unknown,
        };
    }

    /// Says that a write, with the gate shut, has removed it.
    pub(super) fn removed(&self) {
        *self.state() = State::Absent;
    }

    fn is_ready(&self) -> bool {
        matches!(*self.state(), State::Present { usage: Some(_), .. })
    }
}

impl RocksDbStorage {
    fn ledgers_family(&self) -> Result<&ColumnFamily, StorageError> {
        self.db
            .cf_handle(LEDGERS)
            .ok_or_else(|| errors::corrupt(&self.root, None, "it has no column family ledgers"))
    }

    /// The total in the database; `None` if there is none that can be trusted.
    pub(super) fn stored_total(&self, partition: &str) -> Result<Option<Usage>, StorageError> {
        if self.writer.as_ref().is_some_and(|writer| !writer.ledgers.are_any()) {
            return Ok(None);
        }
        let entry = self
            .db
            .get_pinned_cf_opt(self.ledgers_family()?, partition, &self.read_options)
            .map_err(|error| errors::failed("read", &self.root, &error))?;
        Ok(entry.and_then(|entry| ledger::read(partition, &entry)))
    }

    /// What a write to a partition has to do for its ledger. The partition's gate
    /// is passed.
    pub(super) fn keeping_of(&self, ledger: &Ledger) -> Result<Keeping, StorageError> {
        if let Some(keeping) = ledger.keeping() {
            return Ok(keeping);
        }
        let found = self.db.get_pinned_cf_opt(
            self.ledgers_family()?,
            ledger.name.as_bytes(),
            &self.read_options,
        );
        let is_there = match found {
            Ok(found) => found.is_some(),
            // It is there, and whoever needs it will find out that it is broken.
            Err(error) if error.kind() == ::rocksdb::ErrorKind::Corruption => true,
            Err(error) => return Err(errors::failed("read", &self.root, &error)),
        };
        let mut state = ledger.state();
        if *state == State::Unknown {
            *state =
                if is_there { State::Present { usage: None, changes: 0 } } else { State::Absent };
        }
        drop(state);
        Ok(ledger.keeping().unwrap_or(Keeping::Nothing))
    }

    /// Adds a change to a batch.
    pub(super) fn add_change(
        &self,
        batch: &mut WriteBatch,
        ledger: &Ledger,
        change: Change,
    ) -> Result<(), StorageError> {
        let name = &*ledger.name;
        batch.merge_cf(self.ledgers_family()?, name, ledger::change(name, change));
        Ok(())
    }

    /// Removes a ledger in a batch.
    pub(super) fn remove_ledger(
        &self,
        batch: &mut WriteBatch,
        ledger: &Ledger,
    ) -> Result<(), StorageError> {
        batch.delete_cf(self.ledgers_family()?, ledger.name.as_bytes());
        Ok(())
    }

    /// Makes sure that a partition has a ledger and that its total is in memory.
    /// Counts the partition's keys if it has none, while others write to it.
    pub(super) fn prepare_ledger(
        &self,
        writer: &Writer,
        ledger: &Ledger,
    ) -> Result<(), StorageError> {
        let _preparing = ledger.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        if ledger.is_ready() {
            return Ok(());
        }
        let name = &*ledger.name;
        let gate = writer.gates.write(name);
        if writer.ledgers.are_any()
            && let Some(usage) = self.stored_total(name)?
        {
            *ledger.state() = State::Present { usage: Some(usage), changes: 0 };
            return Ok(());
        }
        self.refuse_while_broken(writer)?;
        writer.ledgers.any.store(true, Ordering::Release);
        *ledger.state() = State::Counting(Change::default());
        // What it walks over is what there is now.
        let keys = self.keys_of(name);
        drop(gate);
        hooks::before_count();
        let counted = self.count(name, keys);
        hooks::after_count();

        let _gate = writer.gates.write(name);
        let state = *ledger.state();
        let (counted, since) = match (counted, state) {
            (Ok(counted), State::Counting(since)) => (counted, since),
            (Err(error), _) => {
                ledger.forget();
                return Err(error);
            }
            // A write beside this one has failed, so the change is not known.
            (Ok(_), _) => return Ok(()),
        };
        let usage = since.applied_to(counted);
        self.write_total(writer, ledger, usage)
    }

    /// Writes the changes of a ledger as one total.
    pub(super) fn fold_ledger(&self, writer: &Writer, ledger: &Ledger) -> Result<(), StorageError> {
        let _gate = writer.gates.write(&ledger.name);
        let State::Present { usage: Some(usage), .. } = *ledger.state() else { return Ok(()) };
        self.write_total(writer, ledger, usage)
    }

    /// Writes a total. The gate is shut.
    fn write_total(
        &self,
        writer: &Writer,
        ledger: &Ledger,
        usage: Usage,
    ) -> Result<(), StorageError> {
        let name = &*ledger.name;
        let mut batch = WriteBatch::default();
        batch.put_cf(self.ledgers_family()?, name, ledger::total(name, usage));
        // If it fails it may be there after the store was opened again, and is
        // right then: nothing is written behind it in the same log.
        let in_place = writer.lock.check();
        in_place.and_then(|()| self.put_entry(writer, Entry::Batch(batch))).inspect_err(|_| {
            *ledger.state() = State::Unknown;
        })?;
        *ledger.state() = State::Present { usage: Some(usage), changes: 0 };
        Ok(())
    }

    fn keys_of(&self, partition: &str) -> Cursor<'_> {
        let request = PageRequest::new(usize::MAX).with_prefix(partition);
        let kind = if partition.is_empty() { Kind::Loose } else { Kind::InPartitions };
        Cursor::new(self, request, kind, Reads::Everything, None)
    }

    fn count(&self, partition: &str, mut keys: Cursor<'_>) -> Result<Usage, StorageError> {
        let mut total = Usage::default();
        while let Some(key) = keys.key()? {
            debug_assert_eq!(split_full_key(key).0, partition);
            let own = key.strip_prefix(partition).unwrap_or(key);
            total = total + Usage::of(own, record::value_len_beside_key(keys.record()));
            keys.next();
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use storage_core::Budget;

    use super::*;

    #[test]
    fn what_was_reserved_is_given_back_and_what_has_happened_is_kept() {
        let ledger = Ledgers::new(true).of("app/notes/home/");
        let used = Usage { bytes: 100, keys: 5 };
        *ledger.state() = State::Present { usage: Some(used), changes: 0 };
        let budget = Budget { max_bytes: 110, max_keys: 6 };
        let key = Change::between(Usage::default(), Usage { bytes: 10, keys: 1 });
        let reserve = || ledger.reserve(key, |before, after| budget.allow(before, after));
        for _ in 0..3 {
            assert_eq!(reserve(), Ok(true));
            // Nobody else has that room until it is given back.
            assert_eq!(reserve(), Err(StorageError::QuotaExceeded));
            ledger.give_back(key);
        }
        assert_eq!(reserve(), Ok(true));
        ledger.settle(key);
        assert_eq!(reserve(), Err(StorageError::QuotaExceeded));
        // A delete makes room when it has happened, not before.
        let delete = Change::between(Usage { bytes: 10, keys: 1 }, Usage::default());
        assert_eq!(ledger.reserve(delete, |_, _| Ok(())), Ok(true));
        assert_eq!(reserve(), Err(StorageError::QuotaExceeded));
        ledger.settle(delete);
        assert_eq!(reserve(), Ok(true));
    }
}
