//! Looks at a store after it was cut off, and compares it with the model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use storage_core::{Budget, Commit, StorageError, Store, Usage, VersionedValue, split_full_key};

use crate::content::writer_of;
use crate::model::{Model, State};
use crate::random::Random;
use crate::report::{Fault, Findings};

/// A key that only the check writes.
const PROBE: &str = "dur/check/probe/revision";

/// Compares everything in the store with the model, which afterwards is certain
/// of what it holds; false if there was no looking at it.
///
/// Writes to the store, and logs nothing of it: a second look at the same store
/// after another cut sees these writes as acknowledged.
pub(crate) fn check(
    storage: &dyn Store,
    model: &mut Model,
    random: &mut Random,
    findings: &mut Findings,
) -> bool {
    let listed = match storage.list_keys(None) {
        Ok(listed) => listed,
        Err(error) => {
            findings.add(kind_of(&error), format!("the listing failed: {error}"));
            return false;
        }
    };
    if !listed.is_sorted() {
        findings.add(Fault::Listing, "the listing is out of order".to_owned());
    }
    let listed: BTreeSet<String> = listed.into_iter().filter(|key| key != PROBE).collect();
    let every: BTreeSet<String> = listed.iter().chain(model.keys.keys()).cloned().collect();
    let mut found = BTreeMap::new();
    let mut damaged = Vec::new();
    for key in every {
        let read = storage.get_versioned(&key);
        match judge(model, &key, &read, findings) {
            Some(state) => {
                found.insert(key.clone(), state);
            }
            None => damaged.push(key.clone()),
        }
        let there = !matches!(read, Ok(None));
        if there != listed.contains(&key) {
            findings.add(Fault::Listing, format!("{key} is there: {there}, the listing differs"));
        }
        if storage.exists(&key) != Ok(there) && read.is_ok() {
            findings.add(Fault::Listing, format!("{key} is there: {there}, `exists` differs"));
        }
    }
    partial_commits(model, &found, findings);
    for (key, state) in found {
        model.settle(&key, state);
    }
    for key in damaged {
        // So that the next round begins with something certain.
        match storage.delete(&key) {
            Ok(()) => {
                let state = State { op: model.next_op, len: None, revision: None };
                model.next_op += 1;
                model.settle(&key, state);
            }
            Err(error) => {
                findings.add(Fault::Contract, format!("{key} cannot be deleted: {error}"));
            }
        }
    }
    model.forget_ops();
    ledgers(storage, random, findings);
    next_revision(storage, model, findings);
    // Where durability is relaxed: what was found here is certain from now on.
    if let Err(error) = storage.flush() {
        findings.add(Fault::Unreadable, format!("a flush after it all: {error}"));
    }
    true
}

/// What it is when a read ends with an error.
fn kind_of(error: &StorageError) -> Fault {
    match error {
        StorageError::Corrupt { .. } => Fault::Corrupt,
        _ => Fault::Unreadable,
    }
}

/// Compares a key with what it may hold, and gives what it does hold.
fn judge(
    model: &Model,
    key: &str,
    read: &Result<Option<VersionedValue>, StorageError>,
    findings: &mut Findings,
) -> Option<State> {
    let known = model.keys.get(key);
    let possible =
        || -> Vec<State> { known.map(|known| known.possible.clone()).unwrap_or_default() };
    match read {
        Ok(None) => {
            let legal = known.is_none_or(|known| known.legal().any(|state| state.len.is_none()));
            if !legal {
                findings.add(Fault::Lost, format!("{key} is gone, there was {:?}", possible()));
            }
            let absences = known.into_iter().flat_map(|known| known.possible.iter());
            let op = absences.filter(|state| state.len.is_none()).map(|state| state.op).max();
            Some(State { op: op.unwrap_or(0), len: None, revision: None })
        }
        Ok(Some(VersionedValue { value, revision })) => {
            let value = value.as_ref();
            let holds = |state: &&State| state.is(key, value, revision.get());
            let exact = |state: &State| Some(State { revision: Some(revision.get()), ..*state });
            // The bytes of short values repeat: one of the same revision first.
            let same = |state: &&State| state.revision == Some(revision.get()) && holds(state);
            let written = known.and_then(|known| known.history.iter().rev().find(same));
            let legal = known.and_then(|known| {
                known.legal().find(|state| match written {
                    Some(written) => written.op == state.op,
                    None => holds(state),
                })
            });
            if let Some(state) = legal {
                return exact(state);
            }
            if let Some(state) = known.and_then(|known| known.history.iter().rev().find(holds)) {
                findings.add(
                    Fault::Lost,
                    format!("{key} has the value of {state:?}, there was {:?}", possible()),
                );
                return exact(state);
            }
            findings.add(
                Fault::Torn,
                format!(
                    "{key} has {} bytes at revision {revision}, by {:?}; there was {:?}",
                    value.len(),
                    writer_of(key, value),
                    possible()
                ),
            );
            None
        }
        Err(error) => {
            findings.add(kind_of(error), format!("{key}: {error}"));
            None
        }
    }
}

fn partial_commits(model: &Model, found: &BTreeMap<String, State>, findings: &mut Findings) {
    for (number, op) in &model.ops {
        let verdicts: Vec<(&str, &State, Option<bool>)> = op
            .keys
            .iter()
            .filter_map(|key| {
                let state = found.get(key)?;
                Some((key.as_str(), state, model.applied(*number, key, state)))
            })
            .collect();
        let any = |applied| verdicts.iter().any(|(_, _, verdict)| *verdict == Some(applied));
        if !(any(true) && any(false)) {
            continue;
        }
        let mut text = format!("operation {number}, acknowledged: {}:", op.acked);
        for (key, state, verdict) in verdicts {
            let verdict = match verdict {
                Some(true) => "done",
                Some(false) => "not done",
                None => "cannot be told",
            };
            let (op, len) = (state.op, state.len);
            let recent = model.keys.get(key).map(|model| model.recent()).unwrap_or_default();
            let _ = write!(text, " {key} {verdict} (has {op}/{len:?} of {recent:?});");
        }
        findings.add(Fault::Partial, text);
    }
}

/// Compares the ledger of each component with a recount.
fn ledgers(storage: &dyn Store, random: &mut Random, findings: &mut Findings) {
    let partitions = match storage.list_components(None, usize::MAX) {
        Ok(page) => page.keys,
        Err(error) => {
            findings.add(Fault::Unreadable, format!("the components: {error}"));
            return;
        }
    };
    for partition in &partitions {
        // The edges cost writes: not all of them every time.
        let edges = partitions.len() <= 6 || random.chance(25);
        if let Err((fault, problem)) = ledger(storage, partition, edges) {
            findings.add(fault, format!("{partition}: {problem}"));
        }
    }
}

/// Compares what `usage` says of a component with a recount, and at the edges of
/// budgets what its ledger says.
pub(crate) fn ledger(
    storage: &dyn Store,
    partition: &str,
    edges: bool,
) -> Result<(), (Fault, String)> {
    let unreadable = |error: StorageError| (Fault::Unreadable, error.to_string());
    let (mut full, mut own) = (Usage::default(), Usage::default());
    for key in storage.list_keys(Some(partition)).map_err(unreadable)? {
        let value = storage.get(&key).map_err(unreadable)?;
        let len = value.map_or(0, |value| value.len());
        full = full + Usage::of(&key, len);
        own = own + Usage::of(split_full_key(&key).1, len);
    }
    let usage = storage.usage(Some(partition)).map_err(unreadable)?;
    if usage != full {
        return Err((Fault::Ledger, format!("usage says {usage:?}, a recount {full:?}")));
    }
    if !edges {
        return Ok(());
    }
    // The ledger itself shows at the edge of a budget.
    let key = format!("{partition}edge");
    let after = own + Usage::of("edge", 100);
    let commit = |bytes, keys| {
        let budget = Budget { max_bytes: bytes, max_keys: keys };
        let commit = Commit::new().set(key.as_str(), vec![1; 100].into()).with_budget(budget);
        storage.commit(commit)
    };
    for (bytes, keys) in [(after.bytes - 1, after.keys), (after.bytes, after.keys - 1)] {
        let answer = commit(bytes, keys);
        if answer != Err(StorageError::QuotaExceeded) {
            return Err((
                Fault::Ledger,
                format!(
                    "a write to {after:?} within {bytes} bytes and {keys} keys gave {answer:?}"
                ),
            ));
        }
    }
    if let Err(error) = commit(after.bytes, after.keys) {
        return Err((Fault::Ledger, format!("a write to {after:?}, just within: {error}")));
    }
    storage.delete(&key).map_err(unreadable)
}

/// A new write has a revision above every one that was given.
fn next_revision(storage: &dyn Store, model: &mut Model, findings: &mut Findings) {
    match storage_core::put(&storage, PROBE, "probe".into()) {
        Ok(revision) => {
            let largest = model.largest_revision;
            if revision.get() <= largest {
                findings.add(
                    Fault::Revision,
                    format!("a new write got revision {revision}, {largest} had been given"),
                );
            }
            model.largest_revision = largest.max(revision.get());
        }
        Err(error) => findings.add(Fault::Unreadable, format!("a write after it all: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::content;
    use crate::engine::{Engine, Mode};
    use crate::events::{Event, Found};
    use std::sync::Arc;

    /// A store, and the log of what was done to it.
    struct Case {
        _folder: tempfile::TempDir,
        storage: Arc<dyn Store>,
        events: Vec<Event>,
        op: u64,
    }

    const A: &str = "dur/test/x/a";
    const B: &str = "dur/test/y/b";

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let storage = Engine::File.open(Mode::Relaxed, &folder.path().join("store")).unwrap();
            Self { _folder: folder, storage, events: Vec::new(), op: 0 }
        }

        fn begin(&mut self, changes: &[(&str, Option<usize>)]) -> u64 {
            self.op += 1;
            let changes = changes.iter().map(|(key, len)| ((*key).to_owned(), *len)).collect();
            self.events.push(Event::Begin { op: self.op, at: 0, changes });
            self.op
        }

        fn acked(&mut self, op: u64, revision: u64) {
            self.events.push(Event::Acked { op, at: 0, revision: Some(revision) });
        }

        fn put(&self, key: &str, op: u64, len: usize) -> u64 {
            storage_core::put(&self.storage, key, content(key, op, len).into()).unwrap().get()
        }

        /// A write that was done and acknowledged.
        fn done(&mut self, key: &str, len: usize) -> u64 {
            let op = self.begin(&[(key, Some(len))]);
            let revision = self.put(key, op, len);
            self.acked(op, revision);
            revision
        }

        fn faults(&self) -> Vec<Fault> {
            let (mut model, mut findings) = (Model::new(), Findings::default());
            model.replay(&self.events, None, &mut findings);
            assert!(check(&*self.storage, &mut model, &mut Random::new(1), &mut findings));
            let all = [
                Fault::Lost,
                Fault::Torn,
                Fault::Partial,
                Fault::Revision,
                Fault::Ledger,
                Fault::Listing,
                Fault::Corrupt,
                Fault::Unreadable,
                Fault::Contract,
                Fault::Died,
            ];
            // What was found is certain: a second look finds nothing.
            let mut again = Findings::default();
            check(&*self.storage, &mut model, &mut Random::new(1), &mut again);
            if findings.count(Fault::Revision) == 0 {
                assert_eq!(again.texts(), Vec::<String>::new());
            }
            all.into_iter().filter(|fault| findings.count(*fault) > 0).collect()
        }
    }

    #[test]
    fn what_was_acknowledged_or_begun_is_right() {
        let mut case = Case::new();
        case.done(A, 1);
        case.done(A, 40_000);
        case.done(B, 3);
        let open = case.begin(&[(A, Some(9)), (B, None)]);
        assert_eq!(case.faults(), [], "not done");
        let commit = Commit::new().set(A, content(A, open, 9).into()).delete(B);
        case.storage.commit(commit).unwrap();
        assert_eq!(case.faults(), [], "done");
    }

    #[test]
    fn what_is_gone_or_old_is_lost() {
        let mut case = Case::new();
        case.done(A, 100);
        case.storage.delete(A).unwrap();
        assert_eq!(case.faults(), [Fault::Lost]);

        let mut case = Case::new();
        case.done(A, 100);
        let op = case.begin(&[(A, Some(100))]);
        // Acknowledged, and not done.
        case.acked(op, 70_000);
        assert_eq!(case.faults(), [Fault::Lost, Fault::Revision]);

        let mut case = Case::new();
        case.done(A, 100);
        let op = case.begin(&[(A, None)]);
        case.events.push(Event::Acked { op, at: 0, revision: None });
        assert_eq!(case.faults(), [Fault::Lost], "a delete");
    }

    #[test]
    fn what_nobody_wrote_is_torn() {
        for value in [content(B, 1, 100), content(A, 2, 100), vec![0; 100], vec![]] {
            let mut case = Case::new();
            case.done(A, 100);
            case.storage.set(A, value.into()).unwrap();
            assert_eq!(case.faults(), [Fault::Torn]);
        }
        let mut torn = content(A, 1, 100);
        torn[99] ^= 1;
        let mut case = Case::new();
        case.done(A, 100);
        case.storage.set(A, torn.into()).unwrap();
        assert_eq!(case.faults(), [Fault::Torn]);
        let case = Case::new();
        case.storage.set(A, content(A, 1, 100).into()).unwrap();
        assert_eq!(case.faults(), [Fault::Torn], "a key that was never written");
    }

    #[test]
    fn a_part_of_a_commit_is_told() {
        for deletes in [false, true] {
            let mut case = Case::new();
            case.done(A, 100);
            case.done(B, 100);
            let op = case.begin(&[(A, Some(50)), (B, (!deletes).then_some(60))]);
            case.put(A, op, 50);
            assert_eq!(case.faults(), [Fault::Partial], "deletes: {deletes}");
        }
        let mut case = Case::new();
        case.done(A, 100);
        case.done(B, 100);
        case.begin(&[(A, Some(50)), (B, None)]);
        case.storage.delete(B).unwrap();
        assert_eq!(case.faults(), [Fault::Partial]);
    }

    #[test]
    fn what_was_read_may_not_go_back() {
        let mut case = Case::new();
        let revision = case.done(A, 100);
        let op = case.begin(&[(A, Some(200))]);
        let read = |own, revision, op| Event::Read {
            at: 0,
            own,
            key: A.to_owned(),
            revision,
            found: Found::By(op),
        };
        case.events.push(read(false, revision, op - 1));
        assert_eq!(case.faults(), []);
        case.events.push(read(false, revision + 1, op));
        assert_eq!(case.faults(), [Fault::Lost]);
    }

    #[test]
    fn a_short_value_is_told_from_another_of_the_same_bytes_by_its_revision() {
        let mut case = Case::new();
        let first = case.done(A, 1);
        case.done(B, 100);
        // An operation that would have written the same byte.
        while content(A, case.op + 1, 1) != content(A, 1, 1) {
            case.op += 1;
        }
        let op = case.begin(&[(A, Some(1)), (B, Some(7))]);
        assert_eq!(content(A, op, 1), content(A, 1, 1));
        case.events.push(Event::Read {
            at: 0,
            own: true,
            key: A.to_owned(),
            revision: first,
            found: Found::Short(content(A, 1, 1)),
        });
        assert_eq!(case.faults(), [], "neither key was changed");
    }

    #[test]
    fn a_revision_that_comes_again_is_told() {
        let mut case = Case::new();
        let revision = case.done(A, 100);
        let op = case.begin(&[(A, Some(20))]);
        case.put(A, op, 20);
        case.acked(op, revision);
        assert!(case.faults().contains(&Fault::Revision));
        let mut case = Case::new();
        case.done(A, 100);
        let op = case.begin(&[(B, None)]);
        case.acked(op, 1 << 40);
        assert_eq!(case.faults(), [Fault::Revision], "a new write is below");
    }
}
