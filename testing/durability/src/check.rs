//! Compares a store with the model after a cut, a kill or a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use fastrand::Rng;
use storage_core::{Budget, Commit, StorageError, Store, Usage, VersionedValue, split_full_key};

use crate::content::writer_of;
use crate::model::{Model, State};
use crate::plan::percent;
use crate::report::{Fault, Findings};

/// A key that only the check writes.
const PROBE: &str = "dur/check/probe/revision";

/// Compares the whole store with the model, and records in the model what was found.
/// Returns false if the store cannot be listed.
///
/// Also writes to the store. The next check of the store expects these writes.
pub(crate) fn check(
    storage: &dyn Store,
    model: &mut Model,
    random: &mut Rng,
    findings: &mut Findings,
) -> bool {
    let listed = match storage.list_keys(None) {
        Ok(listed) => listed,
        Err(error) => {
            findings.add(fault_of(&error), format!("cannot list the keys: {error}"));
            return false;
        }
    };
    if !listed.is_sorted() {
        findings.add(Fault::Listing, "the listing is not in order".to_owned());
    }
    let listed: BTreeSet<String> = listed.into_iter().filter(|key| key != PROBE).collect();
    let every: BTreeSet<String> = listed.iter().chain(model.keys.keys()).cloned().collect();
    let mut found = BTreeMap::new();
    let mut damaged = Vec::new();
    for key in every {
        let read = storage.get_versioned(&key);
        match check_key(model, &key, &read, findings) {
            Some(state) => {
                found.insert(key.clone(), state);
            }
            None => damaged.push(key.clone()),
        }
        let exists = !matches!(read, Ok(None));
        if exists != listed.contains(&key) {
            findings.add(Fault::Listing, format!("{key} exists: {exists}; the listing differs"));
        }
        if storage.exists(&key) != Ok(exists) && read.is_ok() {
            findings.add(Fault::Listing, format!("{key} exists: {exists}; `exists` differs"));
        }
    }
    partial_commits(model, &found, findings);
    for (key, state) in found {
        model.settle(&key, state);
    }
    for key in damaged {
        // The next round starts from a certain state.
        match storage.delete(&key) {
            Ok(()) => {
                let state = State { op: model.next_op, len: None, revision: None };
                model.next_op += 1;
                model.settle(&key, state);
            }
            Err(error) => {
                findings.add(Fault::Contract, format!("cannot delete {key}: {error}"));
            }
        }
    }
    model.forget_ops();
    usage_counters(storage, random, findings);
    next_revision(storage, model, findings);
    // In relaxed mode, too, the next round may rely on this state.
    if let Err(error) = storage.flush() {
        findings.add(Fault::Unreadable, format!("cannot flush: {error}"));
    }
    true
}

/// The fault that an error of a read is.
fn fault_of(error: &StorageError) -> Fault {
    match error {
        StorageError::Corrupt { .. } => Fault::Corrupt,
        _ => Fault::Unreadable,
    }
}

/// Compares a key with its possible states, and returns the state in which it is.
fn check_key(
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
                findings.add(
                    Fault::Lost,
                    format!("{key} is missing, expected one of {:?}", possible()),
                );
            }
            let absences = known.into_iter().flat_map(|known| known.possible.iter());
            let op = absences.filter(|state| state.len.is_none()).map(|state| state.op).max();
            Some(State { op: op.unwrap_or(0), len: None, revision: None })
        }
        Ok(Some(VersionedValue { value, revision })) => {
            let value = value.as_ref();
            let holds = |state: &&State| state.is(key, value, revision.get());
            let exact = |state: &State| Some(State { revision: Some(revision.get()), ..*state });
            // Short values repeat, so prefer one with the same revision.
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
                    format!("{key} has the value of {state:?}, expected one of {:?}", possible()),
                );
                return exact(state);
            }
            findings.add(
                Fault::Torn,
                format!(
                    "{key} has {} bytes at revision {revision}, by {:?}; expected one of {:?}",
                    value.len(),
                    writer_of(key, value),
                    possible()
                ),
            );
            None
        }
        Err(error) => {
            findings.add(fault_of(error), format!("{key}: {error}"));
            None
        }
    }
}

/// Finds operations that were applied to a part of their keys.
fn partial_commits(model: &Model, found: &BTreeMap<String, State>, findings: &mut Findings) {
    for (number, op) in &model.ops {
        let results: Vec<(&str, &State, Option<bool>)> = op
            .keys
            .iter()
            .filter_map(|key| {
                let state = found.get(key)?;
                Some((key.as_str(), state, model.applied(*number, key, state)))
            })
            .collect();
        let any = |applied| results.iter().any(|(_, _, result)| *result == Some(applied));
        if !(any(true) && any(false)) {
            continue;
        }
        let mut text = format!("operation {number}, acknowledged: {}:", op.acked);
        for (key, state, result) in results {
            let result = match result {
                Some(true) => "applied",
                Some(false) => "not applied",
                None => "unknown",
            };
            let (op, len) = (state.op, state.len);
            let recent = model.keys.get(key).map(|model| model.recent()).unwrap_or_default();
            let _ = write!(text, " {key} {result} (has {op}/{len:?} of {recent:?});");
        }
        findings.add(Fault::Partial, text);
    }
}

/// Compares the usage counter of each component with a recount.
fn usage_counters(storage: &dyn Store, random: &mut Rng, findings: &mut Findings) {
    let components = match storage.list_components(None, usize::MAX) {
        Ok(page) => page.keys,
        Err(error) => {
            findings.add(Fault::Unreadable, format!("cannot list the components: {error}"));
            return;
        }
    };
    for prefix in &components {
        // The limits cost writes, so they are not tried for every component.
        let limits = components.len() <= 6 || percent(random, 25);
        if let Err((fault, problem)) = usage_counter(storage, prefix, limits) {
            findings.add(fault, format!("{prefix}: {problem}"));
        }
    }
}

/// Compares `usage` of a component with a recount. With `limits`, also compares the usage
/// counter, by commits whose budgets are just enough or just too small.
pub(crate) fn usage_counter(
    storage: &dyn Store,
    prefix: &str,
    limits: bool,
) -> Result<(), (Fault, String)> {
    let unreadable = |error: StorageError| (Fault::Unreadable, error.to_string());
    let (mut full, mut user) = (Usage::default(), Usage::default());
    for key in storage.list_keys(Some(prefix)).map_err(unreadable)? {
        let value = storage.get(&key).map_err(unreadable)?;
        let len = value.map_or(0, |value| value.len());
        full = full + Usage::of(&key, len);
        user = user + Usage::of(split_full_key(&key).1, len);
    }
    let usage = storage.usage(Some(prefix)).map_err(unreadable)?;
    if usage != full {
        return Err((
            Fault::UsageCounter,
            format!("`usage` returned {usage:?}, a recount {full:?}"),
        ));
    }
    if !limits {
        return Ok(());
    }
    let key = format!("{prefix}limit");
    let after = user + Usage::of("limit", 100);
    let commit = |bytes, keys| {
        let budget = Budget { max_bytes: bytes, max_keys: keys };
        let commit = Commit::new().set(key.as_str(), vec![1; 100].into()).with_budget(budget);
        storage.commit(commit)
    };
    for (bytes, keys) in [(after.bytes - 1, after.keys), (after.bytes, after.keys - 1)] {
        let result = commit(bytes, keys);
        if result != Err(StorageError::QuotaExceeded) {
            return Err((
                Fault::UsageCounter,
                format!(
                    "a write to {after:?} with a budget of {bytes} bytes and {keys} keys returned {result:?}"
                ),
            ));
        }
    }
    if let Err(error) = commit(after.bytes, after.keys) {
        return Err((
            Fault::UsageCounter,
            format!("a write to {after:?} with just enough budget: {error}"),
        ));
    }
    storage.delete(&key).map_err(unreadable)
}

/// A new write must get a revision above all earlier ones.
fn next_revision(storage: &dyn Store, model: &mut Model, findings: &mut Findings) {
    match storage_core::put(storage, PROBE, "probe".into()) {
        Ok(revision) => {
            let largest = model.largest_revision;
            if revision.get() <= largest {
                findings.add(
                    Fault::Revision,
                    format!("a new write got revision {revision} after revision {largest}"),
                );
            }
            model.largest_revision = largest.max(revision.get());
        }
        Err(error) => findings.add(Fault::Unreadable, format!("cannot write: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::content;
    use crate::engine::{Engine, Mode};
    use crate::events::{Event, Found};
    use std::sync::Arc;

    /// A store, and the log of its operations.
    struct Case {
        _directory: tempfile::TempDir,
        storage: Arc<dyn Store>,
        events: Vec<Event>,
        op: u64,
    }

    const A: &str = "dur/test/x/a";
    const B: &str = "dur/test/y/b";

    impl Case {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let storage =
                Engine::File.open(Mode::Relaxed, &directory.path().join("store")).unwrap();
            Self { _directory: directory, storage, events: Vec::new(), op: 0 }
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
            storage_core::put(&*self.storage, key, content(key, op, len).into()).unwrap().get()
        }

        /// A write that happened and was acknowledged.
        fn done(&mut self, key: &str, len: usize) -> u64 {
            let op = self.begin(&[(key, Some(len))]);
            let revision = self.put(key, op, len);
            self.acked(op, revision);
            revision
        }

        fn faults(&self) -> Vec<Fault> {
            let (mut model, mut findings) = (Model::new(), Findings::default());
            model.replay(&self.events, None, &mut findings);
            assert!(check(&*self.storage, &mut model, &mut Rng::with_seed(1), &mut findings));
            let all = [
                Fault::Lost,
                Fault::Torn,
                Fault::Partial,
                Fault::Revision,
                Fault::UsageCounter,
                Fault::Listing,
                Fault::Corrupt,
                Fault::Unreadable,
                Fault::Contract,
                Fault::Died,
            ];
            // What was found is certain now, so a second check finds nothing.
            let mut again = Findings::default();
            check(&*self.storage, &mut model, &mut Rng::with_seed(1), &mut again);
            if findings.count(Fault::Revision) == 0 {
                assert_eq!(again.texts(), Vec::<String>::new());
            }
            all.into_iter().filter(|fault| findings.count(*fault) > 0).collect()
        }
    }

    #[test]
    fn acknowledged_and_begun_writes_are_allowed() {
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
    fn missing_and_old_values_are_lost() {
        let mut case = Case::new();
        case.done(A, 100);
        case.storage.delete(A).unwrap();
        assert_eq!(case.faults(), [Fault::Lost]);

        let mut case = Case::new();
        case.done(A, 100);
        let op = case.begin(&[(A, Some(100))]);
        // Acknowledged, but it did not happen.
        case.acked(op, 70_000);
        assert_eq!(case.faults(), [Fault::Lost, Fault::Revision]);

        let mut case = Case::new();
        case.done(A, 100);
        let op = case.begin(&[(A, None)]);
        case.events.push(Event::Acked { op, at: 0, revision: None });
        assert_eq!(case.faults(), [Fault::Lost], "a delete");
    }

    #[test]
    fn values_that_were_never_written_are_torn() {
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
    fn parts_of_commits_are_found() {
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
    fn reads_do_not_go_back() {
        let mut case = Case::new();
        let revision = case.done(A, 100);
        let op = case.begin(&[(A, Some(200))]);
        let read = |own, revision, op| Event::Read {
            at: 0,
            own,
            key: A.to_owned(),
            revision: Some(revision),
            found: Found::By(op),
        };
        case.events.push(read(false, revision, op - 1));
        assert_eq!(case.faults(), []);
        case.events.push(read(false, revision + 1, op));
        assert_eq!(case.faults(), [Fault::Lost]);
    }

    #[test]
    fn equal_short_values_are_distinguished_by_revision() {
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
            revision: Some(first),
            found: Found::Short(content(A, 1, 1)),
        });
        assert_eq!(case.faults(), [], "neither key was changed");
    }

    #[test]
    fn reused_revisions_are_found() {
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
