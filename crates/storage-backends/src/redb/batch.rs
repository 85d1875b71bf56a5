//! Applies commits within one write transaction.

use std::collections::HashMap;

use ::redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use storage_core::{Commit, CommitView, Revision, Usage, UsageChange, VersionedValue, Write};

use super::counts::{CountState, Counts};
use super::error::{Error, corrupt_record};
use super::listing;
use super::tables::{self, DATA, USAGE_COUNTERS, WriteTable};
use crate::revision_blocks::RevisionBlocks;
use crate::{identity, record};

/// How many steps a transaction takes to count a component without a usage counter. A
/// larger component is counted outside the transaction.
const MAX_STEPS: usize = 256;

/// How the usage of a component is tracked.
#[derive(Debug, Clone, Copy)]
enum Tracking {
    None,
    /// A count runs and must get the changes of this transaction.
    Counting(UsageChange),
    /// The value of the usage counter at the end of this transaction.
    Counter(Usage),
}

/// Commits of one write transaction.
pub(super) struct Batch<'txn, 'w> {
    data: WriteTable<'txn>,
    counters: WriteTable<'txn>,
    has_counters: bool,
    tracked: HashMap<String, Tracking>,
    counts: &'w Counts,
    generation: u64,
    changed: bool,
    /// A buffer for records.
    record: Vec<u8>,
}

/// What to do after the transaction of a [`Batch`] was committed.
pub(super) struct Committed {
    /// Whether there is anything to commit.
    pub(super) changed: bool,
    tracked: HashMap<String, Tracking>,
    generation: u64,
}

impl Committed {
    /// Passes the changes of usage to running counts.
    pub(super) fn publish(&self, counts: &Counts) {
        for (component, tracking) in &self.tracked {
            match tracking {
                Tracking::None => {}
                Tracking::Counting(change) => counts.record(component, self.generation, *change),
                Tracking::Counter(_) => counts.remove(component),
            }
        }
    }
}

impl<'txn, 'w> Batch<'txn, 'w> {
    pub(super) fn open(
        txn: &'txn WriteTransaction,
        counts: &'w Counts,
        generation: u64,
    ) -> Result<Self, Error> {
        let counters = txn.open_table(USAGE_COUNTERS)?;
        Ok(Self {
            data: txn.open_table(DATA)?,
            has_counters: !counters.is_empty()?,
            counters,
            tracked: HashMap::new(),
            counts,
            generation,
            changed: false,
            record: Vec::new(),
        })
    }

    /// Applies one commit. Returns `None`, without applying it, if its budget needs a
    /// component to be counted outside the transaction.
    ///
    /// # Errors
    /// After [`Error::Store`] the commit changed nothing and the transaction can go on.
    pub(super) fn commit(
        &mut self,
        commit: &Commit,
        revisions: &RevisionBlocks,
    ) -> Result<Option<Revision>, Error> {
        let budgeted = commit.budgeted_component()?;
        let evaluation = commit.evaluate(&mut View { batch: self, budgeted })?;
        if let Some(component) = budgeted {
            let Some(usage) = self.counter(component)? else { return Ok(None) };
            evaluation.change(component).apply(usage, commit.budget.as_ref())?;
        }
        // A group of commits reserves enough, unless the counter is exhausted.
        let revision = revisions.next(|_| Err(identity::no_revision_left()))?;
        for write in &evaluation.writes {
            self.write(write, revision)?;
        }
        for (component, change) in evaluation.changes {
            match self.tracking(component)? {
                Tracking::None => {}
                Tracking::Counting(total) => *total = *total + change,
                Tracking::Counter(usage) => *usage = *usage + change.added - change.removed,
            }
        }
        Ok(Some(revision))
    }

    fn write(&mut self, write: &Write, revision: Revision) -> Result<(), Error> {
        let key = write.key.as_bytes();
        match &write.value {
            Some(value) => {
                record::encode_keyless(&write.key, value.as_bytes(), revision, &mut self.record);
                self.data.insert(key, self.record.as_slice())?;
                self.changed = true;
            }
            None => self.changed |= self.data.remove(key)?.is_some(),
        }
        Ok(())
    }

    fn tracking(&mut self, component: &str) -> Result<&mut Tracking, Error> {
        if !self.tracked.contains_key(component) {
            let stored = match self.has_counters {
                true => tables::usage_counter(&self.counters, component)?,
                false => None,
            };
            let tracking = match (stored, self.counts.get(component, self.generation)) {
                (Some(usage), _) => Tracking::Counter(usage),
                (None, CountState::Counted(usage)) => {
                    // Stored even if every commit is refused.
                    self.changed |= usage.keys > 0;
                    Tracking::Counter(usage)
                }
                (None, CountState::Counting) => Tracking::Counting(UsageChange::default()),
                (None, CountState::None) => Tracking::None,
            };
            self.tracked.insert(component.to_owned(), tracking);
        }
        Ok(self.tracked.entry(component.to_owned()).or_insert(Tracking::None))
    }

    /// The usage of a component, including this transaction's writes. Counts a small
    /// component that has no counter; `None` for a large one.
    fn counter(&mut self, component: &str) -> Result<Option<Usage>, Error> {
        match *self.tracking(component)? {
            Tracking::Counter(usage) => return Ok(Some(usage)),
            Tracking::Counting(_) => return Ok(None),
            Tracking::None => {}
        }
        let counted = listing::count_component(&self.data, component, MAX_STEPS)?;
        let Some(usage) = counted else { return Ok(None) };
        self.tracked.insert(component.to_owned(), Tracking::Counter(usage));
        // Stored even if the commit is refused, so that the next one need not count.
        self.changed |= usage.keys > 0;
        Ok(Some(usage))
    }

    /// Stores the usage counters.
    pub(super) fn finish(mut self) -> Result<Committed, Error> {
        for (component, tracking) in &self.tracked {
            let key = component.as_bytes();
            match tracking {
                // An empty component is counted at no cost.
                Tracking::Counter(Usage { keys: 0, .. }) => drop(self.counters.remove(key)?),
                Tracking::Counter(usage) => {
                    let bytes = tables::encode_counter(key, *usage);
                    self.counters.insert(key, bytes.as_slice())?;
                }
                Tracking::None | Tracking::Counting(_) => {}
            }
        }
        let Self { changed, tracked, generation, .. } = self;
        Ok(Committed { changed, tracked, generation })
    }
}

/// What one commit reads of the batch.
struct View<'b, 'txn, 'w> {
    batch: &'b mut Batch<'txn, 'w>,
    budgeted: Option<&'b str>,
}

impl CommitView for View<'_, '_, '_> {
    type Error = Error;

    fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, Error> {
        let Some(found) = self.batch.data.get(key.as_bytes())? else { return Ok(None) };
        let (value, revision) = record::decode_keyless(key, found.value())
            .map_err(|problem| corrupt_record(key, problem))?;
        Ok(Some(VersionedValue { value: value.into(), revision }))
    }

    fn value_len(&mut self, key: &str) -> Result<Option<usize>, Error> {
        let found = self.batch.data.get(key.as_bytes())?;
        Ok(found.map(|found| record::keyless_value_len(found.value())))
    }

    fn is_counted(&mut self, component: &str) -> Result<bool, Error> {
        let tracked = !matches!(self.batch.tracking(component)?, Tracking::None);
        Ok(tracked || self.budgeted == Some(component))
    }
}
