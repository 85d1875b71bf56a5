//! Writing: the commits that wait together, in one transaction.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::redb::{Database, Durability, ReadableTable, ReadableTableMetadata, WriteTransaction};
use storage_core::{Commit, Revision, StorageError, StorageValue, Usage, Write, split_full_key};

use super::count::{Change, Counts, Found};
use super::engine::Engine;
use super::fail::Fail;
use super::group::{Group, MAX_TOGETHER, Requests};
use super::listing;
use super::tables::{self, DATA, LEDGERS, META, WriteTable};
use crate::first_revision::first_revision;
use crate::{hooks, identity, record};

/// The largest value: the engine takes somewhat more, with the record around it.
pub(super) const MAX_VALUE_BYTES: usize = 2 << 30;

/// How many bytes are written in one transaction, unless one request has more.
const MAX_BYTES_TOGETHER: usize = 8 << 20;

/// How many revisions are reserved at once.
const BLOCK: u64 = 1 << 16;

/// How many keys a transaction looks at for a ledger that is not there. Where
/// there are more, they are counted beside it.
const MAX_COUNTED_INSIDE: usize = 256;

/// What a writer asks for.
#[derive(Debug)]
pub(super) enum Request {
    Commit(Arc<Commit>),
    /// What has been written shall be durable.
    Flush,
}

impl Request {
    /// The bytes of its values.
    fn bytes(&self) -> usize {
        match self {
            Self::Flush => 0,
            Self::Commit(commit) => {
                let len = |write: &Write| write.value.as_ref().map_or(0, StorageValue::len);
                commit.writes.iter().map(len).sum()
            }
        }
    }
}

/// The answer, unless the request has failed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Served {
    Flushed,
    Committed(Revision),
    /// Nothing has happened: the budget needs the partition to be counted.
    NeedsLedger,
}

type Answer = Result<Served, StorageError>;

type Waiting<'a> = Requests<'a, Request, Answer>;

/// What a store needs to write.
#[derive(Debug)]
pub(super) struct Writer {
    /// Whether a write returns before it is durable.
    relaxed: bool,
    group: Group<Request, Answer>,
    counts: Counts,
    revisions: Mutex<Revisions>,
    unflushed: Mutex<Unflushed>,
}

/// What a relaxed store has not made durable yet.
#[derive(Debug, Default)]
struct Unflushed {
    /// Whether there is something, and the generation of the engine that has it.
    since: Option<u64>,
    /// The engine stopped with it, and nobody who flushes was told.
    lost: bool,
}

impl Unflushed {
    /// Finds out whether the engine has stopped since.
    fn look(&mut self, generation: u64) {
        if self.since.is_some_and(|since| since < generation) {
            self.since = None;
            self.lost = true;
        }
    }
}

/// Revisions are reserved in blocks that are durable before their first number
/// is used, so that none is given twice, although a relaxed write may be lost.
#[derive(Debug)]
struct Revisions {
    next: u64,
    reserved_up_to: u64,
}

impl Writer {
    pub(super) fn new(relaxed: bool, reserved_up_to: u64) -> Self {
        Self {
            relaxed,
            group: Group::default(),
            counts: Counts::default(),
            revisions: Mutex::new(Revisions {
                next: first_revision(reserved_up_to),
                reserved_up_to,
            }),
            unflushed: Mutex::default(),
        }
    }

    /// Applies a commit whose keys are valid, together with those that wait.
    pub(super) fn commit(&self, engine: &Engine, commit: Commit) -> Result<Revision, StorageError> {
        for write in &commit.writes {
            let len = write.value.as_ref().map_or(0, StorageValue::len);
            if len > MAX_VALUE_BYTES {
                return Err(StorageError::LimitExceeded {
                    limit: "bytes of a value",
                    max: MAX_VALUE_BYTES as u64,
                    actual: len as u64,
                });
            }
        }
        let commit = Arc::new(commit);
        loop {
            match self.submit(engine, Request::Commit(Arc::clone(&commit)))? {
                Served::Committed(revision) => return Ok(revision),
                Served::NeedsLedger => self.prepare_ledger(engine, commit.component_prefix()?)?,
                Served::Flushed => return Err(lost(engine)),
            }
        }
    }

    /// Counts a partition that has no ledger, or waits for whoever does.
    fn prepare_ledger(&self, engine: &Engine, partition: &str) -> Result<(), StorageError> {
        // While it is held nobody writes. The next transaction knows of the
        // count, and what the last one wrote is counted.
        let revisions = self.revisions();
        let generation = engine.generation();
        let mut begun = false;
        let counted = engine.read_through(|txn| {
            let ledgers = txn.open_table(LEDGERS)?;
            if tables::stored_ledger(&ledgers, partition)?.is_some() {
                return Ok(None);
            }
            begun = self.counts.begin(partition, generation);
            drop(revisions);
            if !begun {
                return Ok(None);
            }
            hooks::before_a_count();
            let counted = listing::count_own(&txn.open_table(DATA)?, partition, usize::MAX);
            hooks::after_a_count();
            counted
        });
        if begun {
            let counted = counted.as_ref().ok().copied().flatten();
            self.counts.end(partition, generation, counted);
        } else if counted.is_ok() {
            self.counts.wait(partition);
        }
        counted.map(drop)
    }

    fn revisions(&self) -> MutexGuard<'_, Revisions> {
        self.revisions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes durable what has been written.
    ///
    /// # Errors
    /// [`StorageError::IoError`] also, once, if something was lost since the
    /// last flush that was told of it.
    pub(super) fn flush(&self, engine: &Engine) -> Result<(), StorageError> {
        let mut flushed = self.flush_silently(engine);
        if self.relaxed {
            flushed = flushed.and_then(|()| engine.disk().check_flushed());
        }
        let generation = engine.generation();
        let mut unflushed = self.unflushed();
        unflushed.look(generation);
        if std::mem::take(&mut unflushed.lost) && flushed.is_ok() {
            return Err(StorageError::IoError(format!(
                "{}: writes of the last moment were lost in an I/O error",
                engine.path().display()
            )));
        }
        flushed
    }

    /// The same, but what was lost is left to be told to somebody else.
    pub(super) fn flush_silently(&self, engine: &Engine) -> Result<(), StorageError> {
        let generation = engine.generation();
        let mut unflushed = self.unflushed();
        unflushed.look(generation);
        let nothing = unflushed.since.is_none() && !engine.disk().is_behind();
        drop(unflushed);
        if nothing { Ok(()) } else { self.submit(engine, Request::Flush).map(drop) }
    }

    fn unflushed(&self) -> MutexGuard<'_, Unflushed> {
        self.unflushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, engine: &Engine, request: Request) -> Answer {
        let serve = |requests: &mut Waiting<'_>| self.serve(engine, requests);
        self.group.submit(request, serve, || Err(lost(engine)))
    }

    /// Serves those who wait, in order; in one thread at a time.
    fn serve(&self, engine: &Engine, waiting: &mut Waiting<'_>) -> Vec<Answer> {
        let mut served = Vec::new();
        let together = self.serve_together(engine, &mut served, || waiting.next());
        let error = match together {
            Ok(answers) => return answers,
            Err(error) => error,
        };
        if served.is_empty() {
            // It did not come to taking any.
            served.extend(waiting.next());
        }
        // Damage concerns whoever comes upon it, and the others have not been
        // served.
        if matches!(error, StorageError::Corrupt { .. }) && served.len() > 1 {
            let alone = |request| {
                let mut once = Some(request);
                let mut served = Vec::new();
                let mut answers = self.serve_together(engine, &mut served, || once.take())?;
                answers.pop().unwrap_or_else(|| Err(lost(engine)))
            };
            return served.into_iter().map(alone).collect();
        }
        served.iter().map(|_| Err(error.clone())).collect()
    }

    /// Serves requests in one transaction, and keeps them in `served`.
    fn serve_together(
        &self,
        engine: &Engine,
        served: &mut Vec<Request>,
        mut next: impl FnMut() -> Option<Request>,
    ) -> Result<Vec<Answer>, StorageError> {
        let mut revisions = self.revisions();
        // Commits to a moved file are refused. A relaxed store still flushes there what
        // it acknowledged.
        let moved = engine.disk().check_in_place().err();
        let relaxed = self.relaxed;
        let needed = revisions.next.saturating_add(MAX_TOGETHER as u64);
        let mut reserves = needed > revisions.reserved_up_to && moved.is_none();
        if reserves && relaxed {
            // On its own, because what is relaxed may return before it is durable.
            let up_to = needed.saturating_add(BLOCK);
            engine.write(|db, _| reserve(db, up_to))?;
            if engine.disk().is_behind() {
                return Err(disk_is_full(engine));
            }
            revisions.reserved_up_to = up_to;
            reserves = false;
        }
        let written = engine.write(|db, generation| {
            let mut txn = db.begin_write()?;
            let mut batch = Batch::open(&txn, &mut revisions, &self.counts, generation)?;
            let mut answers = Vec::new();
            let mut bytes = 0;
            while bytes < MAX_BYTES_TOGETHER
                && let Some(request) = next()
            {
                bytes += request.bytes();
                // Kept whatever becomes of it: it wants an answer.
                served.push(request);
                match (served.last(), &moved) {
                    (Some(Request::Commit(_)), Some(moved)) => answers.push(Err(moved.clone())),
                    (Some(request), _) => answers.push(batch.serve(request)?),
                    (None, _) => {}
                }
            }
            let (mut changed, kept) = batch.finish()?;
            if reserves {
                revisions.reserved_up_to = needed.saturating_add(BLOCK);
                tables::write_reserved(&mut txn.open_table(META)?, revisions.reserved_up_to)?;
                changed = true;
            }
            let flushes = served.iter().any(|request| matches!(request, Request::Flush));
            let durable = !relaxed || flushes;
            if !durable {
                txn.set_durability(Durability::None)?;
            }
            if changed || flushes {
                txn.commit()?;
            } else {
                txn.abort()?;
            }
            kept.iter().for_each(|(partition, kept)| match kept {
                Kept::Nothing => {}
                Kept::Counting(change) => self.counts.tell(partition, generation, *change),
                Kept::Ledger(_) => self.counts.forget(partition),
            });
            if relaxed && changed || flushes {
                let mut unflushed = self.unflushed();
                unflushed.look(generation);
                let is_durable = durable && !engine.disk().is_behind();
                unflushed.since = (!is_durable).then_some(generation);
            }
            if flushes && engine.disk().is_behind() {
                for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                    *answer = Err(disk_is_full(engine));
                }
            }
            Ok(answers)
        });
        if written.is_err() {
            // Whether the reservation happened is unknown; making it again does
            // no harm.
            revisions.reserved_up_to = revisions.reserved_up_to.min(revisions.next);
        }
        written
    }
}

fn disk_is_full(engine: &Engine) -> StorageError {
    let why = engine.disk().behind_because();
    // Settled meanwhile: the next write finds room.
    StorageError::IoError(why.unwrap_or_else(|| {
        format!("cannot write {}: the disk was full; try again", engine.path().display())
    }))
}

/// The outcome of a write that nobody can tell.
fn lost(engine: &Engine) -> StorageError {
    StorageError::Unavailable {
        key: None,
        detail: format!("{}: whether the write happened is unknown", engine.path().display()),
    }
}

fn reserve(db: &Database, up_to: u64) -> Result<(), Fail> {
    let txn = db.begin_write()?;
    tables::write_reserved(&mut txn.open_table(META)?, up_to)?;
    txn.commit()?;
    Ok(())
}

/// What is kept of what a partition uses.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Nothing,
    /// Somebody counts it, and has to be told of what this transaction changes.
    Counting(Change),
    /// What is in its ledger at the end of the transaction.
    Ledger(Usage),
}

/// Commits on their way into one transaction.
struct Batch<'txn, 'r> {
    data: WriteTable<'txn>,
    ledgers: WriteTable<'txn>,
    /// Whether any partition has a ledger.
    any_ledger: bool,
    /// The partitions that were written to.
    touched: HashMap<String, Kept>,
    revisions: &'r mut Revisions,
    counts: &'r Counts,
    generation: u64,
    changed: bool,
    /// The record that is being written, to reuse its memory.
    record: Vec<u8>,
}

impl<'txn, 'r> Batch<'txn, 'r> {
    fn open(
        txn: &'txn WriteTransaction,
        revisions: &'r mut Revisions,
        counts: &'r Counts,
        generation: u64,
    ) -> Result<Self, Fail> {
        let ledgers = txn.open_table(LEDGERS)?;
        Ok(Self {
            data: txn.open_table(DATA)?,
            any_ledger: !ledgers.is_empty()?,
            ledgers,
            touched: HashMap::new(),
            revisions,
            counts,
            generation,
            changed: false,
            record: Vec::new(),
        })
    }

    /// Applies one request. The outer error ends the transaction; with the inner
    /// one it has changed nothing.
    fn serve(&mut self, request: &Request) -> Result<Answer, Fail> {
        let commit = match request {
            Request::Flush => return Ok(Ok(Served::Flushed)),
            Request::Commit(commit) => commit,
        };
        for check in &commit.checks {
            let found = match self.find(&check.key)? {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            let found = found.as_ref().map(|(value, revision)| (value, *revision));
            if let Err(error) = check.verify(found) {
                return Ok(Err(error));
            }
        }
        let writes = commit.effective_writes();
        // Nothing grows by a delete, so it needs no ledger.
        let grows = writes.iter().any(|write| write.value.is_some());
        if let Some(budget) = commit.budget.filter(|_| grows) {
            let partition = match commit.component_prefix() {
                Ok(partition) => partition,
                Err(error) => return Ok(Err(error)),
            };
            let Some(before) = self.ledger(partition)? else { return Ok(Ok(Served::NeedsLedger)) };
            let mut after = before;
            for write in &writes {
                let (_, own) = split_full_key(&write.key);
                if let Some(old) = self.data.get(write.key.as_bytes())? {
                    after = after - Usage::of(own, value_len(old.value()));
                }
                if let Some(new) = &write.value {
                    after = after + Usage::of(own, new.len());
                }
            }
            if let Err(error) = budget.allow(before, after) {
                return Ok(Err(error));
            }
        }
        let revision = Revision::new(self.revisions.next);
        let Some(next) = revision.get().checked_add(1) else {
            return Ok(Err(identity::no_revision_left()));
        };
        self.revisions.next = next;
        for write in writes {
            self.apply(write, revision)?;
        }
        Ok(Ok(Served::Committed(revision)))
    }

    /// What is stored under a key; the inner error is damage to it.
    fn find(
        &self,
        key: &str,
    ) -> Result<Result<Option<(StorageValue, Revision)>, StorageError>, Fail> {
        let Some(found) = self.data.get(key.as_bytes())? else { return Ok(Ok(None)) };
        Ok(match record::decode_beside_key(key, found.value()) {
            Ok((value, revision)) => Ok(Some((value.into(), revision))),
            Err(problem) => Err(damaged(key, problem)),
        })
    }

    fn apply(&mut self, write: &Write, revision: Revision) -> Result<(), Fail> {
        let key = write.key.as_bytes();
        let (partition, own) = split_full_key(&write.key);
        let old = match &write.value {
            Some(value) => {
                record::encode_beside_key(&write.key, value.as_bytes(), revision, &mut self.record);
                self.data.insert(key, self.record.as_slice())?
            }
            None => self.data.remove(key)?,
        };
        let old_len = old.map(|old| value_len(old.value()));
        if write.value.is_none() && old_len.is_none() {
            return Ok(());
        }
        self.changed = true;
        let removed = old_len.map_or_else(Usage::default, |len| Usage::of(own, len));
        let new = write.value.as_ref();
        let added = new.map_or_else(Usage::default, |new| Usage::of(own, new.len()));
        match self.kept(partition)? {
            None | Some(Kept::Nothing) => {}
            Some(Kept::Counting(change)) => change.and(added, removed),
            Some(Kept::Ledger(usage)) => *usage = *usage + added - removed,
        }
        Ok(())
    }

    fn kept(&mut self, partition: &str) -> Result<Option<&mut Kept>, Fail> {
        if !self.touched.contains_key(partition) {
            let stored = match self.any_ledger {
                true => tables::stored_ledger(&self.ledgers, partition)?,
                false => None,
            };
            let kept = match (stored, self.counts.find(partition, self.generation)) {
                (Some(usage), _) => Kept::Ledger(usage),
                (None, Found::Counted(usage)) => {
                    // Written down whatever becomes of the request.
                    self.changed |= usage.keys > 0;
                    Kept::Ledger(usage)
                }
                (None, Found::Counting) => Kept::Counting(Change::default()),
                (None, Found::Nothing) => Kept::Nothing,
            };
            self.touched.insert(partition.to_owned(), kept);
        }
        Ok(self.touched.get_mut(partition))
    }

    /// The ledger of a partition, which is made if there is none and that is
    /// little work; otherwise `None`.
    fn ledger(&mut self, partition: &str) -> Result<Option<Usage>, Fail> {
        match self.kept(partition)? {
            Some(Kept::Ledger(usage)) => return Ok(Some(*usage)),
            Some(Kept::Counting(_)) => return Ok(None),
            None | Some(Kept::Nothing) => {}
        }
        // With the writes of this transaction.
        let counted = listing::count_own(&self.data, partition, MAX_COUNTED_INSIDE)?;
        let Some(usage) = counted else { return Ok(None) };
        self.touched.insert(partition.to_owned(), Kept::Ledger(usage));
        // Kept even if the commit is refused, so that the next one need not
        // count.
        self.changed |= usage.keys > 0;
        Ok(Some(usage))
    }

    /// Writes the ledgers. Tells whether the transaction changes anything, and
    /// what is kept of the partitions if it is committed.
    fn finish(mut self) -> Result<(bool, HashMap<String, Kept>), Fail> {
        for (partition, kept) in &self.touched {
            let key = partition.as_bytes();
            match kept {
                // Counting nothing costs nothing.
                Kept::Ledger(Usage { keys: 0, .. }) => drop(self.ledgers.remove(key)?),
                Kept::Ledger(usage) => {
                    let bytes = tables::ledger_bytes(key, *usage);
                    self.ledgers.insert(key, bytes.as_slice())?;
                }
                Kept::Nothing | Kept::Counting(_) => {}
            }
        }
        Ok((self.changed, self.touched))
    }
}

pub(super) fn damaged(key: &str, problem: &str) -> StorageError {
    StorageError::Corrupt {
        key: Some(key.to_owned()),
        detail: format!(
            "its record: {problem}; restore the store from a copy, or write or delete the key"
        ),
    }
}

/// How many bytes the value in a record has.
pub(super) fn value_len(record: &[u8]) -> usize {
    record.len().saturating_sub(record::OVERHEAD_BESIDE_KEY)
}
