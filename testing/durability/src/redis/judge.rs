//! Compares a store with the history of its chains.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use storage_core::Store;

use super::chains::{Attempt, End, History, Host, KEPT, counter, numbered, parse};
use crate::check;
use crate::report::Fault;

/// What became of the commits of a round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    pub(super) acked: u64,
    pub(super) lost: u64,
    pub(super) indeterminate: u64,
    pub(super) refused: u64,
    /// How long before the failure the first lost commit was acknowledged.
    pub(super) before: Duration,
    /// How long after it the last lost one was.
    pub(super) after: Duration,
}

/// The keys of each component, and the attempts that they name.
pub(super) type Contents = Vec<BTreeMap<String, u64>>;

/// Reads all components, and finds what contradicts itself or the history.
pub(super) fn read(store: &dyn Store, history: &History) -> Contents {
    let attempts = history.attempts();
    history.prefixes.iter().map(|prefix| component(store, history, &attempts, prefix)).collect()
}

fn component(
    store: &dyn Store,
    history: &History,
    attempts: &BTreeMap<u64, Attempt>,
    prefix: &str,
) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let listed = match store.list_keys(Some(prefix)) {
        Ok(listed) => listed,
        Err(error) => {
            history.find(Fault::Unreadable, format!("cannot list {prefix}: {error}"));
            return found;
        }
    };
    let mut last = None;
    for key in &listed {
        let value = match store.get_versioned(key) {
            Ok(Some(value)) => value,
            other => {
                history.find(Fault::Listing, format!("{key} is listed but read as {other:?}"));
                continue;
            }
        };
        let Some((id, number)) = parse(value.value.as_bytes()) else {
            history.find(Fault::Torn, format!("{key} has a value that was not written"));
            continue;
        };
        history.see(Host::Busy, value.revision.get(), id);
        if *key == counter(prefix) {
            last = Some((id, number));
        } else if *key != numbered(prefix, number) {
            history.find(Fault::Torn, format!("{key} has the value of number {number}"));
        }
        if !attempts.contains_key(&id) {
            history.find(Fault::Torn, format!("{key} names the unknown attempt {id}"));
        }
        found.insert(key.clone(), id);
    }
    let number = last.map_or(0, |(_, number)| number);
    let mut expected: BTreeSet<String> = last.iter().map(|_| counter(prefix)).collect();
    let first = number.saturating_sub(KEPT) + 1;
    expected.extend((first..=number).map(|number| numbered(prefix, number)));
    if !found.keys().eq(expected.iter()) {
        let differ: Vec<&String> = found
            .keys()
            .filter(|key| !expected.contains(*key))
            .chain(expected.iter().filter(|key| !found.contains_key(*key)))
            .collect();
        history.find(
            Fault::Partial,
            format!("{prefix}: the counter is {number}, but its keys differ in {differ:?}"),
        );
    }
    if let Err((fault, problem)) = check::usage_counter(store, prefix, true) {
        history.find(fault, format!("{prefix}: {problem}"));
    }
    found
}

/// Counts what became of the attempts. `fault` is the time of the disturbance.
pub(super) fn count(history: &History, contents: &Contents, fault: Instant) -> Numbers {
    let attempts = history.attempts();
    let mut survivors = BTreeSet::new();
    for (component, (found, prefix)) in contents.iter().zip(&history.prefixes).enumerate() {
        // From the counter back to the first commit.
        let mut id = found.get(&counter(prefix)).copied().unwrap_or(0);
        let mut next: Option<u64> = None;
        while let Some(attempt) = attempts.get(&id) {
            survivors.insert(id);
            let follows = next.is_none_or(|next| next == attempt.number + 1);
            if attempt.component != component || !follows {
                history.find(Fault::Torn, format!("{prefix}: attempt {id} is out of order"));
                break;
            }
            if found.get(&numbered(prefix, attempt.number)).is_some_and(|named| *named != id) {
                let number = attempt.number;
                history.find(
                    Fault::Partial,
                    format!("{prefix}: number {number} is not of attempt {id}"),
                );
            }
            if let End::Refused = attempt.end {
                history.find(
                    Fault::Contract,
                    format!("{prefix}: attempt {id} took effect, but its error says it did not"),
                );
            }
            next = Some(attempt.number);
            id = attempt.parent;
        }
    }
    let mut numbers = Numbers::default();
    for (id, attempt) in &attempts {
        match attempt.end {
            End::Acked { .. } if survivors.contains(id) => numbers.acked += 1,
            End::Acked { at, .. } => {
                numbers.acked += 1;
                numbers.lost += 1;
                numbers.before = numbers.before.max(fault.saturating_duration_since(at));
                numbers.after = numbers.after.max(at.saturating_duration_since(fault));
            }
            End::Unknown => numbers.indeterminate += 1,
            End::Refused => numbers.refused += 1,
        }
    }
    find_disorder(history, &attempts, &survivors, fault);
    numbers
}

/// A replica has the writes of a shard up to a point, so of those before the disturbance none
/// may survive that is later than a lost one.
fn find_disorder(
    history: &History,
    attempts: &BTreeMap<u64, Attempt>,
    survivors: &BTreeSet<u64>,
    fault: Instant,
) {
    // By shard, which is in the lowest byte.
    let mut lost: BTreeMap<u64, u64> = BTreeMap::new();
    let mut survived: BTreeMap<u64, u64> = BTreeMap::new();
    for (id, attempt) in attempts {
        let End::Acked { revision, at } = attempt.end else { continue };
        if at > fault {
            continue;
        }
        let shard = revision & 0xff;
        if survivors.contains(id) {
            let latest = survived.entry(shard).or_insert(revision);
            *latest = revision.max(*latest);
        } else {
            let earliest = lost.entry(shard).or_insert(revision);
            *earliest = revision.min(*earliest);
        }
    }
    for (shard, earliest) in lost {
        if let Some(latest) = survived.get(&shard).filter(|latest| **latest > earliest) {
            history.find(
                Fault::Partial,
                format!("shard {shard} lost revision {earliest} but has {latest}"),
            );
        }
    }
}

/// Compares two readings without writes between them: what was lost stays lost, and what
/// survived stays.
pub(super) fn compare(history: &History, first: &Contents, second: &Contents) {
    for (first, second) in first.iter().zip(second) {
        for (key, id) in second {
            if first.get(key) != Some(id) {
                let text = format!("{key} came back as attempt {id}, it was {:?}", first.get(key));
                history.find(Fault::Contract, text);
            }
        }
        for key in first.keys().filter(|key| !second.contains_key(*key)) {
            history.find(Fault::Lost, format!("{key} was read, and then lost"));
        }
    }
}

/// A time between these, chosen at random.
pub(super) fn between(random: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.u64(from..to))
}

#[cfg(test)]
mod tests {
    use storage_backends::MemoryStorage;
    use storage_core::ComponentStorage as _;

    use super::super::chains::Host;
    use super::*;

    const PREFIX: &str = "loss/r1/c0/";

    /// Commits until there are this many attempts.
    fn work(history: &History, store: &MemoryStorage, attempts: usize) {
        std::thread::scope(|scope| {
            scope.spawn(|| history.write(Host::Busy, store, 0, 1));
            while history.attempts().len() < attempts {
                std::thread::yield_now();
            }
            history.end();
        });
    }

    fn contents_of(store: &MemoryStorage) -> BTreeMap<String, Vec<u8>> {
        let keys = store.list_keys(None).unwrap();
        keys.into_iter()
            .map(|key| (key.clone(), store.get(&key).unwrap().unwrap().as_bytes().to_vec()))
            .collect()
    }

    fn faults(history: &History) -> Vec<Fault> {
        history.take_findings().into_iter().map(|(fault, _)| fault).collect()
    }

    #[test]
    fn commits_that_were_lost_are_counted() {
        let store = MemoryStorage::new();
        let history = History::new(vec![PREFIX.to_owned()], 1);
        work(&history, &store, 40);
        let contents = read(&store, &history);
        let numbers = count(&history, &contents, Instant::now());
        assert!(numbers.acked >= 40, "{numbers:?}");
        assert_eq!((numbers.lost, faults(&history)), (0, vec![]));

        // A failover to a replica that has the first of these only.
        let (store, history) = (MemoryStorage::new(), History::new(vec![PREFIX.to_owned()], 1));
        work(&history, &store, 20);
        let (early, kept) = (contents_of(&store), history.attempts().len());
        history.resume();
        work(&history, &store, kept + 20);
        let all = history.attempts().len();
        store.list_keys(None).unwrap().iter().for_each(|key| store.delete(key).unwrap());
        for (key, value) in early {
            store.set(&key, value.into()).unwrap();
        }
        let contents = read(&store, &history);
        let numbers = count(&history, &contents, Instant::now());
        assert_eq!(numbers.lost, (all - kept) as u64);
        assert_eq!(faults(&history), []);
    }

    #[test]
    fn commits_that_are_half_there_are_found() {
        let store = MemoryStorage::new();
        let history = History::new(vec![PREFIX.to_owned()], 1);
        work(&history, &store, 40);
        let whole = read(&store, &history);
        let key = store.list_keys(Some(PREFIX)).unwrap().remove(3);
        let value = store.get(&key).unwrap().unwrap();
        store.delete(&key).unwrap();
        let part = read(&store, &history);
        assert_eq!(faults(&history), [Fault::Partial]);
        // And a key that comes back, or goes.
        compare(&history, &part, &whole);
        compare(&history, &whole, &part);
        assert_eq!(faults(&history), [Fault::Contract, Fault::Lost]);
        store.set(&key, "1 1 ".into()).unwrap();
        assert!(count(&history, &read(&store, &history), Instant::now()).lost == 0);
        assert!(faults(&history).contains(&Fault::Torn));
        store.set(&key, value).unwrap();
        store.delete(&counter(PREFIX)).unwrap();
        let numbers = count(&history, &read(&store, &history), Instant::now());
        assert_eq!(numbers.lost, numbers.acked);
        assert!(faults(&history).contains(&Fault::Partial));
    }

    #[test]
    fn a_later_write_that_survived_a_lost_one_is_found() {
        let store = MemoryStorage::new();
        let prefixes = vec![PREFIX.to_owned(), "loss/r1/c1/".to_owned()];
        let history = History::new(prefixes, 1);
        // Revisions of the same lowest byte follow each other at 256.
        work(&history, &store, 600);
        let last = store.list_keys(Some(PREFIX)).unwrap();
        last.iter().for_each(|key| store.delete(key).unwrap());
        let contents = read(&store, &history);
        let numbers = count(&history, &contents, Instant::now());
        assert!(numbers.lost > 0 && numbers.lost < numbers.acked, "{numbers:?}");
        let faults = faults(&history);
        assert!(!faults.is_empty() && faults.iter().all(|fault| *fault == Fault::Partial));
    }
}
