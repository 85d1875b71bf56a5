//! Concurrent calls. Each case asserts what holds in every interleaving; none
//! depends on timing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::listing::owned;
use super::{Case, Subject, case};
use crate::conformance::random::Random;
use crate::conformance::subject::{
    Opened, expect, expect_that, expect_value, in_threads, succeed, while_in_threads,
};
use crate::{Budget, Commit, PageRequest, Revision, StorageError, StorageValue, Usage};

pub(super) const CASES: &[Case] = &[
    case!(a_thread_reads_its_own_writes),
    case!(a_read_returns_a_whole_value),
    case!(writers_of_different_keys_lose_nothing),
    case!(a_listing_is_in_order_during_writes),
    case!(no_revision_is_assigned_twice needs Revisions, Commits),
    case!(the_last_write_to_a_key_has_its_largest_revision needs Revisions, Commits),
    case!(a_value_is_read_with_its_own_revision needs Revisions, Commits),
    case!(increments_by_revision_are_all_counted needs Commits, Revisions),
    case!(increments_by_value_are_all_counted needs Commits),
    case!(one_of_many_creators_succeeds needs Commits),
    case!(commits_to_the_same_keys_are_isolated needs Commits),
    case!(commits_over_components_are_isolated needs Commits),
    case!(writers_never_exceed_a_budget needs Commits, Budgets),
    case!(a_race_leaves_the_budget_exact needs Commits, Budgets),
    case!(the_first_budget_counts_concurrent_writes needs Commits, Budgets),
];

const THREADS: usize = 4;

/// The minimum duration of a race. A fast storage runs many rounds, and so tests many
/// interleavings; a slow one runs one round.
const RACE: Duration = Duration::from_millis(25);

/// Runs a race repeatedly, with the number of the round.
fn repeatedly(race: impl FnMut(usize)) {
    repeatedly_from(1, race);
}

/// The same, with a minimum number of rounds.
fn repeatedly_from(rounds: usize, mut race: impl FnMut(usize)) {
    let begin = Instant::now();
    for round in 0.. {
        race(round);
        if round + 1 >= rounds && begin.elapsed() > RACE {
            break;
        }
    }
}

/// Runs `write` in threads at least `rounds` times, with the numbers of the thread
/// and the round, and `read` in this thread until they have ended. The last read
/// follows the last write.
fn while_writing(rounds: usize, write: impl Fn(usize, usize) + Sync, read: impl FnMut()) {
    while_in_threads(THREADS, |n| repeatedly_from(rounds, |round| write(n, round)), read);
}

/// Deletes every key, so that every round begins empty.
fn clear(store: &Opened) {
    for key in store.list_keys(None) {
        store.delete(&key);
    }
}

fn a_thread_reads_its_own_writes(subject: &Subject<'_>) {
    let store = subject.open();
    // All in one component, which exists only with its keys.
    let component = subject.component("one");
    in_threads(THREADS, |n| {
        let key = format!("{component}{n}");
        repeatedly(|round| {
            let value = format!("{n} {round}");
            store.set(&key, value.as_str());
            store.holds(&key, value.as_bytes());
            let listed = store.list_keys(Some(&component));
            expect_that(format_args!("{key:?} to be listed in {listed:?}"), listed.contains(&key));
            store.delete(&key);
            store.holds(&key, None);
            let listed = store.list_keys(Some(&component));
            expect_that(format_args!("no {key:?} in {listed:?}"), !listed.contains(&key));
        });
    });
    expect("list_keys(None)", store.list_keys(None), vec![]);
    expect("list_components", store.list_components(None, 10).keys, vec![]);
}

fn a_read_returns_a_whole_value(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    let letters = [b'a', b'b', b'c', b'd'];
    let value =
        |n: usize| vec![letters.get(n).copied().unwrap_or(b'?'); 10_usize.pow(n as u32 + 1)];
    let values: BTreeSet<Vec<u8>> = (0..THREADS).map(value).collect();
    store.set(&key, value(0));
    let whole = |what: &str, found: Option<StorageValue>| {
        let found = found.map(StorageValue::into_bytes).unwrap_or_default();
        expect_that(
            format_args!("{what} to read what one write stored, not {} bytes", found.len()),
            values.contains(&found),
        );
    };
    while_writing(
        15,
        |n, _| store.set(&key, value(n)),
        || {
            whole("get", store.get(&key));
            whole("get_many", store.get_many(&[&key]).into_iter().next().flatten());
            if let Some(known) = store.storage().try_get("", &key) {
                whole("try_get", known);
            }
        },
    );
}

fn writers_of_different_keys_lose_nothing(subject: &Subject<'_>) {
    let store = subject.open();
    let components = ["one", "two"].map(|instance| subject.component(instance));
    // Every third key is deleted again.
    let keys_of = |n: usize| {
        let own = |m: usize| components.iter().map(move |of| format!("{of}key {m} of {n}"));
        (0..12).flat_map(own).collect::<BTreeSet<String>>().into_iter().enumerate()
    };
    repeatedly(|_| {
        clear(&store);
        in_threads(THREADS, |n| {
            keys_of(n).for_each(|(_, key)| store.set(&key, key.as_str()));
            keys_of(n).filter(|(at, _)| at % 3 == 0).for_each(|(_, key)| store.delete(&key));
        });
        let kept = (0..THREADS).flat_map(keys_of).filter(|(at, _)| at % 3 != 0);
        let kept: BTreeSet<String> = kept.map(|(_, key)| key).collect();
        for key in &kept {
            store.holds(key, key.as_bytes());
        }
        let usage: Usage = kept.iter().map(|key| Usage::of(key, key.len())).sum();
        expect("usage(None)", store.usage(None), usage);
        expect("list_keys(None)", store.list_keys(None), kept.into_iter().collect());
    });
}

fn a_listing_is_in_order_during_writes(subject: &Subject<'_>) {
    let store = subject.open();
    let stable = owned(&["a", "a/b/c/1", "a/b/c/3", "a/b/cc/1", "a/b/d", "m", "x/y/z/1"]);
    for key in &stable {
        store.set(key, "");
    }
    let check = |what: &str, seen: &[String]| {
        let in_order = seen.windows(2).all(|pair| pair.first() < pair.last());
        expect_that(
            format_args!("{what} to be in order and without repetition: {seen:?}"),
            in_order,
        );
        for key in &stable {
            expect_that(format_args!("{what} to have {key:?}: {seen:?}"), seen.contains(key));
        }
    };
    while_writing(
        8,
        |n, round| {
            let keys = ["a", "a/b/c/", "a/b/c-/", "a/b/ca/", "n/o/p/"]
                .map(|of| format!("{of}{n}{}", round % 10));
            keys.iter().for_each(|key| store.set(key, ""));
            keys.iter().for_each(|key| store.delete(key));
        },
        || {
            check("list_keys(None)", &store.list_keys(None));
            let mut seen: Vec<String> = Vec::new();
            loop {
                let after = seen.last().map(String::as_str);
                let page = store.list_page(PageRequest { prefix: "", after, limit: 2 });
                let last = !page.more || page.keys.is_empty();
                seen.extend(page.keys);
                if last {
                    break;
                }
            }
            check("the pages", &seen);
            let components = store.list_components(None, usize::MAX).keys;
            for component in ["a/b/c/", "a/b/cc/", "x/y/z/"] {
                let listed = components.iter().any(|name| name == component);
                expect_that(format_args!("{component:?} to be listed in {components:?}"), listed);
            }
        },
    );
    expect("list_keys(None)", store.list_keys(None), stable.clone());
}

fn no_revision_is_assigned_twice(subject: &Subject<'_>) {
    let store = subject.open();
    let mut seen: BTreeSet<Revision> = BTreeSet::new();
    repeatedly(|_| {
        let given = in_threads(THREADS, |n| -> Vec<Revision> {
            let private = format!("suite/thread/{n}/key");
            let keys = ["shared", &private, "shared", &private, "shared"];
            keys.map(|key| store.put(key, "v")).into()
        });
        for of_thread in given {
            let grows = of_thread.windows(2).all(|pair| pair.first() < pair.last());
            let what = format!("the revisions of one thread to grow: {of_thread:?}");
            expect_that(what, grows);
            for revision in of_thread {
                let new = seen.insert(revision);
                expect_that(format_args!("revision {revision} to be assigned once"), new);
            }
        }
    });
}

fn the_last_write_to_a_key_has_its_largest_revision(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    repeatedly(|_| {
        let written = in_threads(THREADS, |n| {
            let values = [0, 1, 2, 3].map(|m| format!("{n} {m}"));
            values.map(|value| (store.put(&key, value.as_str()), value))
        });
        let written: BTreeMap<Revision, String> = written.into_iter().flatten().collect();
        let last = written.last_key_value();
        let found = store.get_versioned(&key);
        expect_value(
            "the value after the race",
            found.as_ref().map(|found| &found.value),
            last.map(|(_, value)| value.as_bytes()),
        );
        let revision = found.map(|found| found.revision);
        let largest = last.map(|(revision, _)| *revision);
        expect("the revision after the race", revision, largest);
    });
}

fn a_value_is_read_with_its_own_revision(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    let written: Mutex<BTreeMap<Revision, Vec<u8>>> = Mutex::default();
    let mut read: BTreeMap<Revision, Vec<u8>> = BTreeMap::new();
    while_writing(
        15,
        |n, round| {
            let value = format!("{n} {round}");
            let revision = store.put(&key, value.as_str());
            let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
            written.insert(revision, value.into_bytes());
        },
        || {
            if let Some(found) = store.get_versioned(&key) {
                read.insert(found.revision, found.value.into_bytes());
            }
        },
    );
    let written = written.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (revision, value) in read {
        let expected = written.get(&revision).map(Vec::as_slice);
        let what = format!("the value read with revision {revision}");
        expect_value(what, Some(&StorageValue::from(value)), expected);
    }
}

/// The increments of each thread.
const INCREMENTS: usize = 10;

/// A retry means that another thread succeeded, so there are few. The limit ends a
/// case on an implementation that never succeeds.
const MAX_ATTEMPTS: usize = 100_000;

/// Increments the number under a key in several threads. `attempt` reads it and
/// makes the commit that adds one.
fn check_increments(subject: &Subject<'_>, attempt: impl Fn(&Opened, &str) -> Commit + Sync) {
    let store = subject.open();
    repeatedly(|round| {
        let key = format!("{}counter {round}", subject.component("one"));
        in_threads(THREADS, |_| {
            for _ in 0..INCREMENTS {
                increment(&store, &key, &attempt);
            }
        });
        store.holds(&key, (THREADS * INCREMENTS).to_string().as_bytes());
    });
}

fn increment(store: &Opened, key: &str, attempt: impl Fn(&Opened, &str) -> Commit) {
    let done = (0..MAX_ATTEMPTS).any(|_| match store.storage().commit(attempt(store, key)) {
        Err(StorageError::Conflict(found) | StorageError::AlreadyExists(found)) => {
            expect("the key of the conflict", found.as_str(), key);
            thread::yield_now();
            false
        }
        result => {
            succeed("commit", result);
            true
        }
    });
    expect_that("a commit to succeed after retries", done);
}

fn plus_one(value: &StorageValue) -> StorageValue {
    let text = String::from_utf8_lossy(value.as_bytes());
    let number = text.parse::<u64>();
    expect_that(format_args!("the counter to be a number, not {text:?}"), number.is_ok());
    (number.unwrap_or_default() + 1).to_string().as_str().into()
}

fn increments_by_revision_are_all_counted(subject: &Subject<'_>) {
    check_increments(subject, |store, key| match store.get_versioned(key) {
        None => Commit::new().require_absent(key).set(key, "1".into()),
        Some(found) => {
            let next = plus_one(&found.value);
            Commit::new().require_revision(key, found.revision).set(key, next)
        }
    });
}

fn increments_by_value_are_all_counted(subject: &Subject<'_>) {
    check_increments(subject, |store, key| match store.get(key) {
        None => Commit::new().require_absent(key).set(key, "1".into()),
        Some(value) => {
            let next = plus_one(&value);
            Commit::new().require_value(key, value).set(key, next)
        }
    });
}

fn one_of_many_creators_succeeds(subject: &Subject<'_>) {
    let store = subject.open();
    repeatedly(|round| {
        // In half of the rounds the component is created too.
        let key = format!("{}lock {round}", subject.component(&(round / 2).to_string()));
        let wins = in_threads(THREADS, |n| {
            let value = StorageValue::from(n.to_string().as_str());
            let create = Commit::new().require_absent(&*key).set(&*key, value);
            match store.storage().commit(create) {
                Err(StorageError::AlreadyExists(found)) => {
                    expect("the key of the error", found.as_str(), &*key);
                    None
                }
                result => {
                    succeed("commit", result);
                    Some(n)
                }
            }
        });
        let winners: Vec<usize> = wins.into_iter().flatten().collect();
        expect("the number of creators that won", winners.len(), 1);
        let winner = winners.first().map(ToString::to_string).unwrap_or_default();
        store.holds(&key, winner.as_bytes());
    });
}

/// Commits one value to all keys from each thread; after each round all must
/// have the value of one of them.
fn check_commits(store: &Opened, keys: &[String]) {
    repeatedly(|round| {
        in_threads(THREADS, |n| {
            let value = StorageValue::from(format!("{round} {n}").as_str());
            let mut keys = keys.to_vec();
            // In different orders, so that locks taken in commit order would deadlock.
            let len = keys.len();
            keys.rotate_left(n % len.max(1));
            let set = |commit: Commit, key| commit.set(key, value.clone());
            store.commit(keys.into_iter().fold(Commit::new(), set));
        });
        let first = keys.first().and_then(|key| store.get(key)).map(StorageValue::into_bytes);
        let first = first.unwrap_or_default();
        let of_round = first.starts_with(format!("{round} ").as_bytes());
        expect_that(format_args!("a value of round {round} after it"), of_round);
        for key in keys {
            let what = format!("{key:?}, written together with {:?}", keys.first());
            expect_value(what, store.get(key).as_ref(), Some(&first));
        }
    });
}

fn commits_to_the_same_keys_are_isolated(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    check_commits(&store, &["a", "b", "c", "d"].map(|own| format!("{one}{own}")));
}

fn commits_over_components_are_isolated(subject: &Subject<'_>) {
    let store = subject.open();
    check_commits(&store, &owned(&["a/b/c/k", "unscoped", "x/y/z/k", "a/b/cc/k", "a/b/c/l"]));
}

fn writers_never_exceed_a_budget(subject: &Subject<'_>) {
    const ROOM: u64 = 25;
    let store = subject.open();
    let component = subject.component("one");
    // 3 bytes of key and 7 of value each.
    let budget = Budget { max_bytes: ROOM * 10, max_keys: 1000 };
    let stores = |key: String| {
        let commit = Commit::new().set(key, "1234567".into()).with_budget(budget);
        match store.storage().commit(commit) {
            Err(StorageError::QuotaExceeded) => false,
            result => {
                succeed("commit", result);
                true
            }
        }
    };
    repeatedly(|_| {
        clear(&store);
        let stored = in_threads(THREADS, |n| {
            (0..10).filter(|m| stores(format!("{component}{n}{m:02}"))).count() as u64
        });
        // Neither more nor less: no write was refused within the budget.
        let stored: u64 = stored.into_iter().sum();
        expect("the number of writes that the budget allowed", stored, ROOM);
        expect("the number of keys", store.usage(None).keys, ROOM);
    });
}

/// The store must count exactly the bytes that the component uses.
fn expect_exact_budget(store: &Opened, component: &str) {
    let usage = store.usage(None);
    let used = usage.bytes - usage.keys * component.len() as u64;
    let one_more = |max_bytes| {
        let commit = Commit::new().set(format!("{component}new"), "12".into());
        commit.with_budget(Budget { max_bytes, max_keys: usage.keys + 1 })
    };
    store.refuses(one_more(used + 4), &StorageError::QuotaExceeded);
    store.commit(one_more(used + 5));
}

fn a_race_leaves_the_budget_exact(subject: &Subject<'_>) {
    let store = subject.open();
    let component = subject.component("one");
    let wide = Budget { max_bytes: 10_000, max_keys: 100 };
    repeatedly(|round| {
        clear(&store);
        in_threads(THREADS, |n| {
            let mut random = Random::new((round * THREADS + n) as u64);
            for _ in 0..10 {
                let key = format!("{component}{}", random.below(8));
                let value = StorageValue::new(vec![b'v'; random.below(20)]);
                match random.below(6) {
                    0 => store.delete(&key),
                    1 | 2 => store.set(&key, value),
                    3 => drop(store.commit(Commit::new().delete(&*key).with_budget(wide))),
                    _ => drop(store.commit(Commit::new().set(&*key, value).with_budget(wide))),
                }
            }
        });
        expect_exact_budget(&store, &component);
    });
}

/// The component has so many keys that a storage may count them while others write.
fn the_first_budget_counts_concurrent_writes(subject: &Subject<'_>) {
    const KEYS: usize = 300;
    let store = subject.open();
    let component = subject.component("one");
    let key = |n: usize| format!("{component}{n:03}");
    let set = |commit: Commit, n: usize| commit.set(key(n), "12345".into());
    store.commit((0..KEYS).fold(Commit::new(), set));
    let wide = Budget { max_bytes: 100_000, max_keys: 1_000 };
    in_threads(THREADS, |n| {
        let mut random = Random::new(n as u64);
        for round in 0..20 {
            let key = key(random.below(KEYS));
            let value = StorageValue::new(vec![b'v'; random.below(20)]);
            match random.below(3) {
                0 => store.delete(&key),
                1 => store.set(&key, value),
                _ => drop(store.commit(Commit::new().delete(&*key).set(format!("{key}+"), value))),
            }
            if n == 0 && round == 5 {
                let first = Commit::new().set(format!("{component}first"), "".into());
                store.commit(first.with_budget(wide));
            }
        }
    });
    let usage = store.usage(None);
    let keys = store.list_keys(None);
    let values: usize = keys.iter().filter_map(|key| store.get(key)).map(|value| value.len()).sum();
    let names: usize = keys.iter().map(String::len).sum();
    let counted = Usage { bytes: (names + values) as u64, keys: keys.len() as u64 };
    expect("usage", usage, counted);
    expect_exact_budget(&store, &component);
}
