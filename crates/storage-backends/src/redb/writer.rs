//! Group commit: writes that wait at the same time share a transaction and its fsync.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redb::{Database, Durability};
use storage_core::{Commit, Compacted, Revision, StorageError, StorageValue, Write};

use super::batch::Batch;
use super::counts::Counts;
use super::engine::Engine;
use super::error::{Error, MAX_VALUE_BYTES, value_too_large};
use super::tables::{self, DATA, META, USAGE_COUNTERS};
use super::{compaction, listing};
use crate::group_commit::{GroupCommit, MAX_GROUP, Requests};
use crate::hooks;
use crate::revision_blocks::RevisionBlocks;

/// How many bytes of values one transaction writes, unless one request has more.
const MAX_GROUP_BYTES: usize = 8 << 20;

#[derive(Debug)]
enum Request {
    Commit(Arc<Commit>),
    /// Makes earlier writes durable.
    Flush,
}

impl Request {
    fn value_bytes(&self) -> usize {
        match self {
            Self::Flush => 0,
            Self::Commit(commit) => commit.writes.iter().map(value_len).sum(),
        }
    }
}

fn value_len(write: &Write) -> usize {
    write.value.as_ref().map_or(0, StorageValue::len)
}

#[derive(Debug, Clone, Copy)]
enum Done {
    Flushed,
    Committed(Revision),
    /// The commit was not applied: its budget needs a component to be counted.
    NeedsCount,
}

type Outcome = Result<Done, StorageError>;

/// What a store needs to write.
#[derive(Debug)]
pub(super) struct Writer {
    /// Whether a write returns before it is durable.
    relaxed: bool,
    group: GroupCommit<Request, Outcome>,
    counts: Counts,
    revisions: RevisionBlocks,
    /// Held during each write transaction, so that a count can begin between two.
    transaction: Mutex<()>,
    unflushed: Mutex<Unflushed>,
}

/// Writes of a relaxed store that are not durable yet.
#[derive(Debug, Default)]
struct Unflushed {
    /// The engine's generation that has such writes; `None` without any.
    since: Option<u64>,
    /// Whether the engine stopped with such writes, and no flush has reported it yet.
    lost: bool,
}

impl Unflushed {
    /// Notes a loss if the engine stopped since the last call.
    fn update(&mut self, generation: u64) {
        if self.since.is_some_and(|since| since < generation) {
            self.since = None;
            self.lost = true;
        }
    }
}

impl Writer {
    pub(super) fn new(relaxed: bool, reserved_up_to: u64) -> Self {
        Self {
            relaxed,
            group: GroupCommit::default(),
            counts: Counts::default(),
            revisions: RevisionBlocks::new(reserved_up_to),
            transaction: Mutex::default(),
            unflushed: Mutex::default(),
        }
    }

    /// Applies a commit with valid keys.
    pub(super) fn commit(&self, engine: &Engine, commit: Commit) -> Result<Revision, StorageError> {
        if let Some(len) = commit.writes.iter().map(value_len).find(|len| *len > MAX_VALUE_BYTES) {
            return Err(value_too_large(len));
        }
        let commit = Arc::new(commit);
        loop {
            match self.submit(engine, Request::Commit(Arc::clone(&commit)))? {
                Done::Committed(revision) => return Ok(revision),
                Done::NeedsCount => self.count(engine, commit.component_prefix()?)?,
                Done::Flushed => return Err(indeterminate(engine)),
            }
        }
    }

    /// Counts a component that has no usage counter, or waits for a running count.
    fn count(&self, engine: &Engine, component: &str) -> Result<(), StorageError> {
        // The snapshot contains all earlier transactions, and all later ones know of
        // the count.
        let between_transactions = self.transaction();
        let generation = engine.generation();
        let mut begun = false;
        let counted = engine.read_without_retry(|txn| {
            let counters = txn.open_table(USAGE_COUNTERS)?;
            if tables::usage_counter(&counters, component)?.is_some() {
                return Ok(None);
            }
            begun = self.counts.begin(component, generation);
            drop(between_transactions);
            if !begun {
                return Ok(None);
            }
            hooks::before_count();
            let counted = listing::count_component(&txn.open_table(DATA)?, component, usize::MAX);
            hooks::after_count();
            counted
        });
        if begun {
            let counted = counted.as_ref().ok().copied().flatten();
            self.counts.end(component, generation, counted);
        } else if counted.is_ok() {
            self.counts.wait(component);
        }
        counted.map(drop)
    }

    fn transaction(&self) -> MutexGuard<'_, ()> {
        self.transaction.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes earlier writes durable.
    ///
    /// # Errors
    /// [`StorageError::IoError`] also, once, if acknowledged writes were lost since the
    /// last flush that reported it.
    pub(super) fn flush(&self, engine: &Engine) -> Result<(), StorageError> {
        let mut flushed = self.flush_in_background(engine);
        if self.relaxed {
            flushed = flushed.and_then(|()| engine.file().check_flushed());
        }
        let generation = engine.generation();
        let mut unflushed = self.unflushed();
        unflushed.update(generation);
        if std::mem::take(&mut unflushed.lost) && flushed.is_ok() {
            return Err(StorageError::IoError(format!(
                "{}: recent writes were lost because of an I/O error",
                engine.path().display()
            )));
        }
        flushed
    }

    /// Compacts the file, between two transactions.
    pub(super) fn compact(&self, engine: &Engine) -> Result<Compacted, StorageError> {
        let _transaction = self.transaction();
        compaction::compact(engine, || {
            if engine.file().has_backlog() {
                return Err(Error::Store(disk_full(engine)));
            }
            self.unflushed().since = None;
            Ok(())
        })
    }

    /// Makes earlier writes durable, and leaves lost writes for [`flush`](Self::flush)
    /// to report.
    pub(super) fn flush_in_background(&self, engine: &Engine) -> Result<(), StorageError> {
        let generation = engine.generation();
        let mut unflushed = self.unflushed();
        unflushed.update(generation);
        let nothing = unflushed.since.is_none() && !engine.file().has_backlog();
        drop(unflushed);
        if nothing { Ok(()) } else { self.submit(engine, Request::Flush).map(drop) }
    }

    fn unflushed(&self) -> MutexGuard<'_, Unflushed> {
        self.unflushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, engine: &Engine, request: Request) -> Outcome {
        let serve = |requests: &mut Requests<'_, Request, Outcome>| self.serve(engine, requests);
        self.group.submit(request, serve, || Err(indeterminate(engine)))
    }

    /// Serves the waiting requests in order. Runs in one thread at a time.
    fn serve(&self, engine: &Engine, waiting: &mut Requests<'_, Request, Outcome>) -> Vec<Outcome> {
        let mut taken = Vec::new();
        let error = match self.run_transaction(engine, &mut taken, || waiting.next()) {
            Ok(outcomes) => return outcomes,
            Err(error) => error,
        };
        if taken.is_empty() {
            taken.extend(waiting.next());
        }
        // Damage affects only the request that reads it. Run the others without it.
        if matches!(error, StorageError::Corrupt { .. }) && taken.len() > 1 {
            let alone = |request| {
                let mut once = Some(request);
                let mut taken = Vec::new();
                let mut outcomes = self.run_transaction(engine, &mut taken, || once.take())?;
                outcomes.pop().unwrap_or_else(|| Err(indeterminate(engine)))
            };
            return taken.into_iter().map(alone).collect();
        }
        taken.iter().map(|_| Err(error.clone())).collect()
    }

    /// Serves requests in one transaction and moves them to `taken`.
    fn run_transaction(
        &self,
        engine: &Engine,
        taken: &mut Vec<Request>,
        mut next: impl FnMut() -> Option<Request>,
    ) -> Result<Vec<Outcome>, StorageError> {
        let _transaction = self.transaction();
        // A moved file gets no commits, but a flush still makes acknowledged writes
        // durable there.
        let moved = engine.file().check_in_place().err();
        if moved.is_none() {
            self.revisions.reserve(MAX_GROUP as u64, |up_to| {
                engine.write(|db, _| persist_reservation(db, up_to))?;
                if engine.file().has_backlog() { Err(disk_full(engine)) } else { Ok(()) }
            })?;
        }
        engine.write(|db, generation| {
            let mut txn = db.begin_write()?;
            let mut batch = Batch::open(&txn, &self.counts, generation)?;
            let mut outcomes = Vec::new();
            let mut bytes = 0;
            let mut flushes = false;
            while bytes < MAX_GROUP_BYTES
                && let Some(request) = next()
            {
                bytes += request.value_bytes();
                // Taken before it is served: it needs an outcome even after an error.
                taken.push(request);
                outcomes.push(match (taken.last(), &moved) {
                    (Some(Request::Commit(_)), Some(moved)) => Err(moved.clone()),
                    (Some(Request::Commit(commit)), None) => {
                        match batch.commit(commit, &self.revisions) {
                            Ok(Some(revision)) => Ok(Done::Committed(revision)),
                            Ok(None) => Ok(Done::NeedsCount),
                            Err(Error::Store(error)) => Err(error),
                            Err(error) => return Err(error),
                        }
                    }
                    _ => {
                        flushes = true;
                        Ok(Done::Flushed)
                    }
                });
            }
            let committed = batch.finish()?;
            let durable = !self.relaxed || flushes;
            if !durable {
                txn.set_durability(Durability::None)?;
            }
            if committed.changed || flushes {
                txn.commit()?;
            } else {
                txn.abort()?;
            }
            committed.publish(&self.counts);
            if self.relaxed && committed.changed || flushes {
                let mut unflushed = self.unflushed();
                unflushed.update(generation);
                let is_durable = durable && !engine.file().has_backlog();
                unflushed.since = (!is_durable).then_some(generation);
            }
            if flushes && engine.file().has_backlog() {
                for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
                    *outcome = Err(disk_full(engine));
                }
            }
            Ok(outcomes)
        })
    }
}

fn disk_full(engine: &Engine) -> StorageError {
    // Without a reason the backlog was written back in the meantime.
    StorageError::IoError(engine.file().backlog_reason().unwrap_or_else(|| {
        format!("cannot write {}: the disk was full; try again", engine.path().display())
    }))
}

fn indeterminate(engine: &Engine) -> StorageError {
    StorageError::Unavailable {
        key: None,
        detail: format!("{}: the write may or may not have taken effect", engine.path().display()),
    }
}

/// Records durably that the revisions below `up_to` are reserved. The transaction is
/// separate from that of the commits, which may return before they are durable.
fn persist_reservation(db: &Database, up_to: u64) -> Result<(), Error> {
    let txn = db.begin_write()?;
    tables::write_reserved(&mut txn.open_table(META)?, up_to)?;
    txn.commit()?;
    Ok(())
}
