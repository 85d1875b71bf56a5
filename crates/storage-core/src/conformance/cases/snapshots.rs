//! `read_snapshot`: every key and value at one point in time.

use super::listing::filled;
use super::{Case, Subject, case};
use crate::conformance::subject::{Opened, expect, expect_that, while_in_threads};
use crate::{Commit, StorageError};

pub(super) const CASES: &[Case] = &[
    case!(a_snapshot_has_every_key_and_value_in_order needs Store, Snapshots),
    case!(a_snapshot_begins_after_a_key_that_need_not_exist needs Store, Snapshots),
    case!(a_snapshot_stops_at_the_visitors_error needs Store, Snapshots),
    case!(a_snapshot_shows_commits_as_a_whole needs Store, Snapshots, Commits),
    case!(a_snapshot_shows_no_later_write_without_an_earlier_one needs Store, Snapshots),
];

fn snapshot(store: &Opened, prefix: &str, after: Option<&str>) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let read = store.store().read_snapshot(prefix, after, &mut |key, value| {
        found.push((key.to_owned(), value.as_bytes().to_vec()));
        Ok(())
    });
    expect(format_args!("read_snapshot({prefix:?}, {after:?})"), read, Ok(()));
    found
}

fn a_snapshot_has_every_key_and_value_in_order(subject: &Subject<'_>) {
    let store = subject.open();
    expect("the snapshot of an empty storage", snapshot(&store, "", None), Vec::new());
    let one = subject.component("one");
    let mut keys: Vec<String> =
        ["a", "a/b", "ab", "b", "\u{e9}"].map(|own| format!("{one}{own}")).to_vec();
    keys.extend(["a", "m/n", "m/n/1/x", "m/n/10/x", "z"].map(str::to_owned));
    let keys = filled(&store, &keys);
    for (at, key) in keys.iter().enumerate() {
        store.set(key, at.to_string().as_str());
    }
    let all: Vec<(String, Vec<u8>)> =
        keys.iter().enumerate().map(|(at, key)| (key.clone(), at.to_string().into())).collect();
    for prefix in ["", "a", &one, &format!("{one}a"), &format!("{one}b"), "missing"] {
        let wanted: Vec<_> =
            all.iter().filter(|(key, _)| key.starts_with(prefix)).cloned().collect();
        expect(
            format_args!("the snapshot of prefix {prefix:?}"),
            snapshot(&store, prefix, None),
            wanted,
        );
    }
}

fn a_snapshot_begins_after_a_key_that_need_not_exist(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let keys = filled(&store, &["b", "d", "da", "f"].map(|own| format!("{one}{own}")));
    for after in ["", "b", "c", "d", "da", "f", "g"] {
        let after = format!("{one}{after}");
        for prefix in ["", &one, &format!("{one}d"), &format!("{one}f")] {
            let found: Vec<String> =
                snapshot(&store, prefix, Some(&after)).into_iter().map(|(key, _)| key).collect();
            let wanted: Vec<String> = keys
                .iter()
                .filter(|key| key.starts_with(prefix) && **key > after)
                .cloned()
                .collect();
            expect(format_args!("the snapshot of {prefix:?} after {after:?}"), found, wanted);
        }
    }
}

fn a_snapshot_stops_at_the_visitors_error(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    filled(&store, &["a", "b", "c"].map(|own| format!("{one}{own}")));
    let mut seen = 0;
    let full = StorageError::IoError("the copy has no room".into());
    let read = store.store().read_snapshot(&one, None, &mut |_, _| {
        seen += 1;
        if seen == 2 { Err(full.clone()) } else { Ok(()) }
    });
    expect("the visitor's error", read, Err(full.clone()));
    expect("how many keys were visited", seen, 2);
    // The snapshot holds no lock any more.
    store.set(&format!("{one}d"), "4");
    expect("the next snapshot's keys", snapshot(&store, &one, None).len(), 4);
}

/// One writer moves a number between keys with commits, so that the values always
/// have the same sum.
fn a_snapshot_shows_commits_as_a_whole(subject: &Subject<'_>) {
    const MOVES: u64 = 300;
    let store = subject.open();
    let keys = ["one", "two", "three"].map(|name| format!("{}{name}", subject.component(name)));
    let [first, second, third] = &keys;
    let commit = |a: u64, b: u64, c: u64| {
        Commit::new()
            .set(first, a.to_string().as_str().into())
            .set(second, b.to_string().as_str().into())
            .set(third, c.to_string().as_str().into())
    };
    store.commit(commit(MOVES, 0, 0));
    let move_all = |_| {
        for moved in 1..=MOVES {
            store.commit(commit(MOVES - moved, moved / 2, moved - moved / 2));
        }
    };
    while_in_threads(1, move_all, || {
        let found = snapshot(&store, "", None);
        let sum: u64 = found
            .iter()
            .filter(|(key, _)| keys.contains(key))
            .filter_map(|(_, value)| std::str::from_utf8(value).ok()?.parse::<u64>().ok())
            .sum();
        expect_that(
            format_args!("numbers that only commits move to add up to {MOVES}: {found:?}"),
            sum == MOVES,
        );
    });
}

/// Each key is written after the previous one, so a snapshot that has a key has all
/// previous ones.
fn a_snapshot_shows_no_later_write_without_an_earlier_one(subject: &Subject<'_>) {
    const KEYS: usize = 150;
    let store = subject.open();
    let one = subject.component("one");
    // Half of them in descending order, against the order of the snapshot.
    let key = |n: usize| {
        if n.is_multiple_of(2) {
            format!("{one}{:04}", 5_000 + n)
        } else {
            format!("{one}{:04}", 5_000 - n)
        }
    };
    let write_all = |_| (0..KEYS).for_each(|n| store.set(&key(n), ""));
    while_in_threads(1, write_all, || {
        let found: Vec<String> =
            snapshot(&store, &one, None).into_iter().map(|(key, _)| key).collect();
        let mut wanted: Vec<String> = (0..found.len()).map(key).collect();
        wanted.sort_unstable();
        expect("the keys of a snapshot, written one after the other", found, wanted);
    });
}
