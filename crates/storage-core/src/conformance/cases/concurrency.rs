//! Calls from many threads at once. Each case asserts what holds in every
//! interleaving; none depends on how long anything takes.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::listing::owned;
use super::{Case, Subject, case};
use crate::conformance::subject::{Store, expect, expect_that, expect_value, in_threads, succeed};
use crate::{Budget, Commit, PageRequest, Revision, StorageError, StorageValue, Usage};

pub(super) const CASES: &[Case] = &[
    case!(a_thread_reads_its_own_writes),
    case!(a_reader_sees_values_whole),
    case!(writers_of_different_keys_lose_nothing),
    case!(a_listing_is_in_order_while_keys_come_and_go),
    case!(no_revision_is_given_twice needs Revisions),
    case!(the_last_write_to_a_key_has_its_largest_revision needs Revisions),
    case!(a_value_and_its_revision_belong_together needs Revisions),
    case!(increments_by_revision_are_all_counted needs Commits, Revisions),
    case!(increments_by_value_are_all_counted needs Commits),
    case!(of_many_creators_one_wins needs Commits),
    case!(commits_to_the_same_keys_do_not_mix needs Commits),
    case!(commits_over_components_do_not_mix needs Commits),
    case!(writers_never_exceed_a_budget needs Commits, Budgets),
    case!(a_race_leaves_the_budget_exact needs Commits, Budgets),
];

const THREADS: usize = 4;

/// Runs `write` in threads, each with its number, and `read` in this one until
/// they have ended: at least once, and once after the last write.
fn while_writing(write: impl Fn(usize) + Sync, mut read: impl FnMut()) {
    struct Ended<'a>(&'a AtomicUsize);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    let running = AtomicUsize::new(THREADS);
    thread::scope(|scope| {
        let (running, write) = (&running, &write);
        let writers: Vec<_> = (0..THREADS)
            .map(|n| {
                scope.spawn(move || {
                    let _ended = Ended(running);
                    write(n);
                })
            })
            .collect();
        loop {
            let last_round = running.load(Ordering::SeqCst) == 0;
            read();
            if last_round {
                break;
            }
        }
        for writer in writers {
            writer.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
}

fn a_thread_reads_its_own_writes(subject: &Subject<'_>) {
    let store = subject.open();
    // All in one component, which comes and goes with them.
    let component = subject.component("one");
    in_threads(THREADS, |n| {
        let key = format!("{component}{n}");
        for round in 0..20 {
            let value = format!("{n} {round}");
            store.set(&key, value.as_str());
            store.holds(&key, value.as_bytes());
            let listed = store.list_keys(Some(&component));
            expect_that(format_args!("{key:?} to be listed in {listed:?}"), listed.contains(&key));
            store.delete(&key);
            store.holds(&key, None);
            let listed = store.list_keys(Some(&component));
            expect_that(format_args!("no {key:?} in {listed:?}"), !listed.contains(&key));
        }
    });
    expect("list_keys(None)", store.list_keys(None), vec![]);
    expect("list_partitions", store.list_partitions(None, 10).keys, vec![]);
}

fn a_reader_sees_values_whole(subject: &Subject<'_>) {
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
            format_args!("{what} to read what one write left, not {} bytes", found.len()),
            values.contains(&found),
        );
    };
    while_writing(
        |n| (0..15).for_each(|_| store.set(&key, value(n))),
        || {
            whole("get", store.get(&key));
            whole("get_many", store.get_many(&[&key]).into_iter().next().flatten());
            if let Some(at_hand) = store.storage().try_get(&key) {
                whole("try_get", at_hand);
            }
        },
    );
}

fn writers_of_different_keys_lose_nothing(subject: &Subject<'_>) {
    let store = subject.open();
    let components = ["one", "two"].map(|instance| subject.component(instance));
    let keys_of = |n: usize| {
        let components = &components;
        let own = move |m: usize| components.iter().map(move |of| format!("{of}key {m} of {n}"));
        (0..15).flat_map(own).collect::<BTreeSet<String>>()
    };
    in_threads(THREADS, |n| {
        for key in keys_of(n) {
            store.set(&key, key.as_str());
        }
        // Every third one goes again.
        for key in keys_of(n).iter().step_by(3) {
            store.delete(key);
        }
    });
    let mut expected = BTreeSet::new();
    for n in 0..THREADS {
        let kept = |(at, key): (usize, String)| (at % 3 != 0).then_some(key);
        expected.extend(keys_of(n).into_iter().enumerate().filter_map(kept));
    }
    for key in &expected {
        store.holds(key, key.as_bytes());
    }
    let usage: Usage = expected.iter().map(|key| Usage::of(key, key.len())).sum();
    expect("usage(None)", store.usage(None), usage);
    expect("list_keys(None)", store.list_keys(None), expected.into_iter().collect());
}

fn a_listing_is_in_order_while_keys_come_and_go(subject: &Subject<'_>) {
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
        |n| {
            for round in 0..8 {
                for of in ["a", "a/b/c/", "a/b/c-/", "a/b/ca/", "n/o/p/"] {
                    let key = format!("{of}{n}{round}");
                    store.set(&key, "");
                    store.delete(&key);
                }
            }
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
            let partitions = store.list_partitions(None, usize::MAX).keys;
            for partition in ["a/b/c/", "a/b/cc/", "x/y/z/"] {
                let listed = partitions.iter().any(|name| name == partition);
                expect_that(format_args!("{partition:?} to be listed in {partitions:?}"), listed);
            }
        },
    );
    expect("list_keys(None)", store.list_keys(None), stable.clone());
}

fn no_revision_is_given_twice(subject: &Subject<'_>) {
    let store = subject.open();
    let given = in_threads(THREADS, |n| {
        let own = format!("suite/thread/{n}/key");
        let keys = ["shared", &own];
        (0..20).map(|round| store.put(keys.get(round % 2).unwrap_or(&"shared"), "v")).collect()
    });
    for of_thread in &given {
        let of_thread: &Vec<Revision> = of_thread;
        let grows = of_thread.windows(2).all(|pair| pair.first() < pair.last());
        expect_that(format_args!("the revisions of one thread to grow: {of_thread:?}"), grows);
    }
    let unique: BTreeSet<&Revision> = given.iter().flatten().collect();
    expect("the number of different revisions", unique.len(), THREADS * 20);
}

fn the_last_write_to_a_key_has_its_largest_revision(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    for _ in 0..5 {
        let written: BTreeMap<Revision, String> = in_threads(THREADS, |n| {
            let values = (0..4).map(|round| format!("{n} {round}"));
            values.map(|value| (store.put(&key, value.as_str()), value)).collect::<Vec<_>>()
        })
        .into_iter()
        .flatten()
        .collect();
        let last = written.last_key_value();
        let found = store.get_versioned(&key);
        expect_value(
            "the value after the race",
            found.as_ref().map(|found| &found.value),
            last.map(|(_, value)| value.as_bytes()),
        );
        let revision = found.map(|found| found.revision);
        expect(
            "the revision after the race",
            revision.as_ref(),
            last.map(|(revision, _)| revision),
        );
    }
}

fn a_value_and_its_revision_belong_together(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    let written: Mutex<BTreeMap<Revision, Vec<u8>>> = Mutex::default();
    let mut read: BTreeMap<Revision, Vec<u8>> = BTreeMap::new();
    while_writing(
        |n| {
            for round in 0..15 {
                let value = format!("{n} {round}");
                let revision = store.put(&key, value.as_str());
                let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
                written.insert(revision, value.into_bytes());
            }
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

/// How often each thread increments.
const INCREMENTS: usize = 15;

/// A retry means that another thread went ahead, so there are few; a bound keeps
/// an implementation that never agrees from running for ever.
const MAX_ATTEMPTS: usize = 100_000;

/// Increments the number under a key in several threads. `attempt` reads it and
/// makes the commit that adds one.
fn check_increments(store: &Store, key: &str, attempt: impl Fn() -> Commit + Sync) {
    in_threads(THREADS, |_| {
        for _ in 0..INCREMENTS {
            let done = (0..MAX_ATTEMPTS).any(|_| match store.storage().commit(attempt()) {
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
            expect_that("a commit to succeed that no other got ahead of", done);
        }
    });
    let total = (THREADS * INCREMENTS).to_string();
    store.holds(key, total.as_bytes());
}

fn plus_one(value: &StorageValue) -> StorageValue {
    let text = String::from_utf8_lossy(value.as_bytes());
    let number = text.parse::<u64>();
    expect_that(format_args!("the counter to be a number, not {text:?}"), number.is_ok());
    (number.unwrap_or_default() + 1).to_string().as_str().into()
}

fn increments_by_revision_are_all_counted(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "counter";
    check_increments(&store, &key, || match store.get_versioned(&key) {
        None => Commit::new().require_absent(&*key).set(&*key, "1".into()),
        Some(found) => {
            Commit::new().require_revision(&*key, found.revision).set(&*key, plus_one(&found.value))
        }
    });
}

fn increments_by_value_are_all_counted(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "counter";
    check_increments(&store, &key, || match store.get(&key) {
        None => Commit::new().require_absent(&*key).set(&*key, "1".into()),
        Some(value) => {
            let next = plus_one(&value);
            Commit::new().require_value(&*key, value).set(&*key, next)
        }
    });
}

fn of_many_creators_one_wins(subject: &Subject<'_>) {
    let store = subject.open();
    for round in 0..10 {
        // Half of the time the component is created too.
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
    }
}

/// Commits one value to all keys from each thread; after each round all must
/// have the value of one of them.
fn check_commits(store: &Store, keys: &[String]) {
    for round in 0..8 {
        in_threads(THREADS, |n| {
            let value = StorageValue::from(format!("{round} {n}").as_str());
            let mut keys = keys.to_vec();
            // Not all in the same order, so that locks taken in the order of the
            // commit would wait for each other.
            let len = keys.len();
            keys.rotate_left(n % len.max(1));
            let commit =
                keys.into_iter().fold(Commit::new(), |commit, key| commit.set(key, value.clone()));
            store.commit(commit);
        });
        let values: Vec<_> =
            keys.iter().map(|key| store.get(key).map(StorageValue::into_bytes)).collect();
        let first = values.first().cloned().flatten().unwrap_or_default();
        let of_round = first.starts_with(format!("{round} ").as_bytes());
        expect_that(format_args!("a value of round {round} after it"), of_round);
        for (key, value) in keys.iter().zip(&values) {
            let value = value.clone().map(StorageValue::from);
            let what = format!("{key:?}, written together with {:?}", keys.first());
            expect_value(what, value.as_ref(), Some(&first));
        }
    }
}

fn commits_to_the_same_keys_do_not_mix(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    check_commits(&store, &["a", "b", "c", "d"].map(|own| format!("{one}{own}")));
}

fn commits_over_components_do_not_mix(subject: &Subject<'_>) {
    let store = subject.open();
    check_commits(&store, &owned(&["a/b/c/k", "loose", "x/y/z/k", "a/b/cc/k", "a/b/c/l"]));
}

fn writers_never_exceed_a_budget(subject: &Subject<'_>) {
    const ROOM: u64 = 25;
    let store = subject.open();
    let component = subject.component("one");
    // 3 bytes of key and 7 of value each.
    let budget = Budget { max_bytes: ROOM * 10, max_keys: 1000 };
    let stored: u64 = in_threads(THREADS, |n| {
        let mut stored = 0;
        for round in 0..15 {
            let key = format!("{component}{n}{round:02}");
            let commit = Commit::new().set(key, "1234567".into()).with_budget(budget);
            match store.storage().commit(commit) {
                Err(StorageError::QuotaExceeded) => {}
                result => {
                    succeed("commit", result);
                    stored += 1;
                }
            }
        }
        stored
    })
    .into_iter()
    .sum();
    // No more, and no less: nobody was refused while there was room.
    expect("the number of writes that the budget allowed", stored, ROOM);
    expect("the number of keys", store.usage(None).keys, ROOM);
}

fn a_race_leaves_the_budget_exact(subject: &Subject<'_>) {
    let store = subject.open();
    let component = subject.component("one");
    let wide = Budget { max_bytes: 10_000, max_keys: 100 };
    in_threads(THREADS, |n| {
        for round in 0..12 {
            // Two of the threads meet at each key.
            let key = format!("{component}{}", (n / 2 + round) % 5);
            let value = StorageValue::new(vec![b'v'; (n * 7 + round * 3) % 20]);
            match (n + round) % 4 {
                0 => store.delete(&key),
                1 => store.set(&key, value),
                2 => drop(store.commit(Commit::new().delete(&*key).with_budget(wide))),
                _ => drop(store.commit(Commit::new().set(&*key, value).with_budget(wide))),
            }
        }
    });
    let usage = store.usage(None);
    let own = usage.bytes - usage.keys * component.len() as u64;
    let one_more = |max_bytes| {
        let commit = Commit::new().set(format!("{component}new"), "12".into());
        commit.with_budget(Budget { max_bytes, max_keys: usage.keys + 1 })
    };
    store.refuses(one_more(own + 4), &StorageError::QuotaExceeded);
    store.commit(one_more(own + 5));
}
