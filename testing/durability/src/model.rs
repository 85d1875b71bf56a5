//! What the store may contain, derived from the log.

use std::collections::{BTreeMap, BTreeSet};

use crate::content::content;
use crate::engine::Mode;
use crate::events::{Event, Found};
use crate::report::{Fault, Findings};

/// How many earlier values of a key are remembered, to distinguish old values from foreign
/// ones.
const REMEMBERED: usize = 500;

/// The state of a key after an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// 0 for the absence before the first operation.
    pub(crate) op: u64,
    /// The length of the value; `None` if there is none.
    pub(crate) len: Option<usize>,
    /// The revision, if it is known.
    pub(crate) revision: Option<u64>,
}

impl State {
    const ABSENT: Self = Self { op: 0, len: None, revision: None };

    /// Whether the operation wrote these bytes with this revision.
    pub(crate) fn is(&self, key: &str, value: &[u8], revision: u64) -> bool {
        self.len == Some(value.len())
            && self.revision.is_none_or(|own| own == revision)
            && content(key, self.op, value.len()) == value
    }
}

/// What is known about a key.
#[derive(Debug, Clone)]
pub(crate) struct KeyModel {
    /// The states that it may be in, oldest first: the last acknowledged one, and those of
    /// operations that began later.
    pub(crate) possible: Vec<State>,
    /// The state of this operation was read, so no earlier state may return.
    pub(crate) floor: u64,
    /// All states that it may ever have been in, as far as they are remembered.
    pub(crate) history: Vec<State>,
    /// The index of the last settled state in `history`.
    settled: usize,
}

impl KeyModel {
    fn new() -> Self {
        Self { possible: vec![State::ABSENT], floor: 0, history: vec![State::ABSENT], settled: 0 }
    }

    /// The states that it may be in now.
    pub(crate) fn legal(&self) -> impl Iterator<Item = &State> {
        self.possible.iter().filter(|state| state.op >= self.floor)
    }

    /// The last settled state and all later ones.
    pub(crate) fn recent(&self) -> &[State] {
        self.history.get(self.settled..).unwrap_or_default()
    }

    fn recent_mut(&mut self, op: u64) -> impl Iterator<Item = &mut State> {
        let both = self.possible.iter_mut().chain(self.history.iter_mut());
        both.filter(move |state| state.op == op)
    }
}

/// An operation since the last check.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) keys: Vec<String>,
    /// The largest revision acknowledged before it began.
    after: u64,
    pub(crate) acked: bool,
}

/// What a store may contain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) keys: BTreeMap<String, KeyModel>,
    /// The operations since the last check.
    pub(crate) ops: BTreeMap<u64, Op>,
    /// The largest revision acknowledged or found so far.
    pub(crate) largest_revision: u64,
    revisions: BTreeSet<u64>,
    /// The number of the next operation.
    pub(crate) next_op: u64,
    /// Whether acknowledged writes may be lost.
    relaxed: bool,
}

/// A summary of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replayed {
    pub(crate) acked_ops: u64,
    /// Keys that these operations wrote.
    pub(crate) acked_writes: u64,
    pub(crate) failed_ops: u64,
    pub(crate) failed_reads: u64,
    pub(crate) reads: u64,
    /// Reads that failed although the state of the key was certain, and whether the error was
    /// `Unavailable`.
    pub(crate) needless_failures: Vec<(bool, String)>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { next_op: 1, ..Self::default() }
    }

    /// The model of a store with this durability.
    pub(crate) fn of(mode: Mode) -> Self {
        Self { relaxed: mode == Mode::Relaxed, ..Self::new() }
    }

    /// A key; absent if it is new.
    pub(crate) fn key(&mut self, key: &str) -> &mut KeyModel {
        self.keys.entry(key.to_owned()).or_insert_with(KeyModel::new)
    }

    /// Replays a log of which the disk has the first `until` bytes of writes.
    pub(crate) fn replay(
        &mut self,
        events: &[Event],
        until: Option<u64>,
        findings: &mut Findings,
    ) -> Replayed {
        let mut summary = Replayed::default();
        let seen = |at: u64| until.is_none_or(|until| at <= until);
        let mut powered = true;
        for event in events {
            match event {
                Event::Cut => powered = false,
                Event::Late { what, seconds } => {
                    findings.add(Fault::Hung, format!("{what} took {seconds} s"));
                }
                Event::OpenFailed(_) => {}
                Event::Begin { op, at, changes } if seen(*at) => self.begin(*op, changes),
                Event::Begin { op, .. } => self.next_op = self.next_op.max(op + 1),
                Event::Acked { op, at, revision } if seen(*at) && powered => {
                    if let Some(writes) = self.acked(*op, *revision, findings) {
                        summary.acked_ops += 1;
                        summary.acked_writes += writes;
                    }
                }
                Event::Acked { .. } => {}
                Event::Refused { op, .. } => self.refused(*op),
                Event::Indeterminate { .. } => summary.failed_ops += 1,
                Event::Read { at, own, key, revision, found } if seen(*at) && powered => {
                    summary.reads += 1;
                    self.read(key, *own, *revision, found, findings);
                }
                Event::Read { .. } => {}
                Event::ReadFailed { key, unavailable, why } => {
                    summary.failed_reads += 1;
                    if self.key(key).possible.len() == 1 {
                        summary.needless_failures.push((*unavailable, format!("{key}: {why}")));
                    }
                }
            }
        }
        summary
    }

    fn begin(&mut self, op: u64, changes: &[(String, Option<usize>)]) {
        self.next_op = self.next_op.max(op + 1);
        for (key, len) in changes {
            let state = State { op, len: *len, revision: None };
            let model = self.key(key);
            model.possible.push(state);
            model.history.push(state);
        }
        let keys = changes.iter().map(|(key, _)| key.clone()).collect();
        self.ops.insert(op, Op { keys, after: self.largest_revision, acked: false });
    }

    fn acked(&mut self, op: u64, revision: Option<u64>, findings: &mut Findings) -> Option<u64> {
        let known = self.ops.get_mut(&op)?;
        known.acked = true;
        let (keys, after) = (known.keys.clone(), known.after);
        if let Some(revision) = revision {
            if revision <= after || !self.revisions.insert(revision) {
                findings.add(
                    Fault::Revision,
                    format!("operation {op} got revision {revision} after revision {after}"),
                );
            }
            self.largest_revision = self.largest_revision.max(revision);
        }
        for key in &keys {
            let model = self.key(key);
            let read = model.recent_mut(op).find_map(|state| state.revision);
            if read.is_some() && read != revision {
                findings.add(
                    Fault::Revision,
                    format!(
                        "operation {op} got revision {revision:?}, but {key} was read at {read:?}"
                    ),
                );
            }
            model.recent_mut(op).for_each(|state| state.revision = revision);
            model.possible.retain(|state| state.op >= op);
        }
        Some(keys.len() as u64)
    }

    fn refused(&mut self, op: u64) {
        let Some(refused) = self.ops.remove(&op) else { return };
        for key in &refused.keys {
            let model = self.key(key);
            model.possible.retain(|state| state.op != op);
            model.history.retain(|state| state.op != op);
        }
    }

    fn read(
        &mut self,
        key: &str,
        own: bool,
        revision: Option<u64>,
        found: &Found,
        findings: &mut Findings,
    ) {
        let model = self.key(key);
        // Short values repeat, so the revision must match too.
        let is = |state: &&State| match found {
            Found::By(op) => state.op == *op,
            Found::Short(bytes) => {
                state.len == Some(bytes.len()) && content(key, state.op, bytes.len()) == *bytes
            }
            Found::Absent | Found::Wrong(_) => false,
        };
        let known = model.recent().iter().find(|state| is(state) && state.revision == revision);
        let unknown = || {
            let mut recent = model.recent().iter().rev();
            recent.find(|state| is(state) && state.revision.is_none())
        };
        let op = match found {
            Found::Wrong(what) => {
                findings.add(Fault::Torn, format!("a read of {key} returned {what}"));
                return;
            }
            Found::Absent => None,
            Found::By(_) | Found::Short(_) => known.or_else(unknown).map(|state| state.op),
        };
        if op.is_none() && *found != Found::Absent {
            let possible = model.recent();
            findings.add(
                Fault::Lost,
                format!(
                    "{key} was read as {found:?} at {revision:?}, expected one of {possible:?}"
                ),
            );
            return;
        }
        if let Some(op) = op {
            // Now the revision is known, and no earlier state may return.
            model.recent_mut(op).for_each(|state| state.revision = revision);
            model.floor = model.floor.max(op);
        }
        // Another thread may write the key between its read and the line in the log.
        if !own {
            return;
        }
        let fits = |state: &State| match (found, op) {
            (Found::Absent, _) => state.len.is_none(),
            (_, Some(op)) => state.op == op,
            (_, None) => false,
        };
        let narrowed: Vec<State> =
            model.possible.iter().copied().filter(|state| fits(state)).collect();
        if narrowed.is_empty() {
            let possible = &model.possible;
            findings.add(
                Fault::Lost,
                format!("the only writer of {key} read {found:?}, expected one of {possible:?}"),
            );
            return;
        }
        model.possible = narrowed;
    }

    /// Makes the state in which a key was found its only possible state.
    pub(crate) fn settle(&mut self, key: &str, state: State) {
        if let Some(revision) = state.revision {
            self.largest_revision = self.largest_revision.max(revision);
        }
        let model = self.key(key);
        model.possible = vec![state];
        model.floor = 0;
        model.history.push(state);
        let excess = model.history.len().saturating_sub(REMEMBERED);
        model.history.drain(..excess);
        model.settled = model.history.len() - 1;
    }

    /// Ends a round.
    pub(crate) fn forget_ops(&mut self) {
        self.ops.clear();
    }

    /// Whether an operation was applied to a key that was found in this state; `None` if
    /// that is unknown.
    pub(crate) fn applied(&self, op: u64, key: &str, found: &State) -> Option<bool> {
        let model = self.keys.get(key)?;
        let own = model.recent().iter().find(|state| state.op == op)?;
        if found.op == op && found.len.is_some() {
            return Some(true);
        }
        if found.len.is_some() {
            // A later operation wrote it, or an earlier one.
            return (found.op < op).then_some(false);
        }
        if model.recent().iter().any(|state| state.op > op && state.len.is_none()) {
            return None;
        }
        if own.len.is_some() {
            return Some(false);
        }
        // Only this operation deletes the key, if the key existed before.
        let before: Vec<&State> = model.recent().iter().filter(|state| state.op < op).collect();
        let known = before.iter().rposition(|state| state.revision.is_some() && !self.relaxed);
        let existed = before.iter().skip(known.unwrap_or(0)).all(|state| state.len.is_some());
        existed.then_some(true)
    }
}
