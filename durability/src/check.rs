//! Looks at a store after it was cut off, and compares it with the model.

use std::collections::{BTreeMap, BTreeSet};

use storage_core::{
    Budget, Commit, ComponentStorage, StorageError, Usage, VersionedValue, split_full_key,
};

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
    storage: &dyn ComponentStorage,
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
            if let Some(state) = known.and_then(|known| known.legal().find(holds)) {
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
        let verdicts = op.keys.iter().filter_map(|key| {
            let applied = model.applied(*number, key, found.get(key)?)?;
            Some((applied, key))
        });
        let (applied, missing): (Vec<_>, Vec<_>) = verdicts.partition(|(applied, _)| *applied);
        if let (Some((_, one)), Some((_, other))) = (applied.first(), missing.first()) {
            findings.add(
                Fault::Partial,
                format!(
                    "operation {number} of {} keys changed {} of them, {one} say, but not {other}",
                    op.keys.len(),
                    applied.len()
                ),
            );
        }
    }
}

/// Compares the ledger of each component with a recount.
fn ledgers(storage: &dyn ComponentStorage, random: &mut Random, findings: &mut Findings) {
    let partitions = match storage.list_partitions(None, usize::MAX) {
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

fn ledger(
    storage: &dyn ComponentStorage,
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
fn next_revision(storage: &dyn ComponentStorage, model: &mut Model, findings: &mut Findings) {
    match storage.put(PROBE, "probe".into()) {
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
