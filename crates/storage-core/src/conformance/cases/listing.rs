//! `list_keys`: the keys and their order.

use std::collections::BTreeSet;

use super::{Case, Subject, case};
use crate::conformance::subject::{Opened, expect};

pub(super) const CASES: &[Case] = &[
    case!(an_empty_storage_lists_nothing),
    case!(keys_are_listed_in_ascending_byte_order),
    case!(a_prefix_selects_the_keys_that_begin_with_it),
    case!(a_prefix_is_not_a_pattern),
    case!(a_prefix_may_end_anywhere_in_a_key),
    case!(a_listing_follows_every_write),
    case!(a_component_prefix_selects_only_its_keys),
];

/// Sets the keys out of order, and returns them in order.
pub(super) fn filled<K: AsRef<str>>(store: &Opened, keys: &[K]) -> Vec<String> {
    let mut sorted: Vec<String> = keys.iter().map(|key| key.as_ref().to_owned()).collect();
    sorted.sort();
    sorted.dedup();
    // From both ends to the middle.
    let (mut front, mut back) = (sorted.iter(), sorted.iter().rev());
    for _ in 0..sorted.len().div_ceil(2) {
        for key in [front.next(), back.next()].into_iter().flatten() {
            store.set(key, "");
        }
    }
    sorted
}

fn an_empty_storage_lists_nothing(subject: &Subject<'_>) {
    let store = subject.open();
    for prefix in [None, Some(""), Some("a"), Some("a/b/c/"), Some("a/b/c/d")] {
        expect(format_args!("list_keys({prefix:?})"), store.list_keys(prefix), vec![]);
    }
}

fn keys_are_listed_in_ascending_byte_order(subject: &Subject<'_>) {
    let store = subject.open();
    // Keys that locales or UTF-16 order differently: case, digits, accents,
    // punctuation around the slash.
    #[rustfmt::skip]
    let keys = [
        "b", "a", "B", "A", "10", "9", "1", "Z", "z", "\u{e9}", "e", "f", "a-", "a/", "a0",
        "a", "a.", "a ", "\u{ffff}", "\u{10000}", "\u{e000}", "~", "a/b", "a-b", "a0b", "_",
        "{",
    ];
    let sorted = filled(&store, &keys);
    expect("list_keys(None)", store.list_keys(None), sorted);
}

fn a_prefix_selects_the_keys_that_begin_with_it(subject: &Subject<'_>) {
    let store = subject.open();
    let keys =
        ["user:1", "user:10", "user:2", "user", "users", "use", "admin:1", "User:1", "xuser:1"];
    filled(&store, &keys);
    let list = |prefix| store.list_keys(Some(prefix));
    expect("list_keys(\"user:\")", list("user:"), owned(&["user:1", "user:10", "user:2"]));
    expect("list_keys(\"user:1\")", list("user:1"), owned(&["user:1", "user:10"]));
    expect("list_keys(\"user:10\")", list("user:10"), owned(&["user:10"]));
    expect("list_keys(\"user:100\")", list("user:100"), vec![]);
    expect("list_keys(\"U\")", list("U"), owned(&["User:1"]));
    expect("list_keys(\"b\")", list("b"), vec![]);
}

fn a_prefix_is_not_a_pattern(subject: &Subject<'_>) {
    let store = subject.open();
    let keys =
        ["*", "a*b", "axb", "%", "a%b", "_", "a_b", "[a]", "a?b", "a.b", "\\", "(", "^a", "a$"];
    let sorted = filled(&store, &keys);
    for prefix in
        ["*", "%", "_", "[", "?", ".", "\\", "(", "^", "a*", "a%", "a_", "a?", "a.", "a$", ".*"]
    {
        let expected: Vec<String> =
            sorted.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
        expect(format_args!("list_keys({prefix:?})"), store.list_keys(Some(prefix)), expected);
    }
}

fn a_prefix_may_end_anywhere_in_a_key(subject: &Subject<'_>) {
    let store = subject.open();
    #[rustfmt::skip]
    let keys = [
        "app/notes/home/user/1", "app/notes/home/user/2", "app/notes/home",
        "app/notes/homes/x", "app/notes/hom/y", "app/notes/work/user/1", "app/note", "app",
        "ap/p", "app-/notes/home/z", "app/notes/home/", "application",
        "app/notes/home/\u{e9}1", "app/notes/home/\u{e9}2", "app/notes/home/\u{ea}",
    ];
    let sorted = filled(&store, &keys);
    for key in &sorted {
        for (end, _) in key.char_indices() {
            let prefix = key.get(..end);
            let begins = |key: &&String| key.starts_with(prefix.unwrap_or_default());
            let expected: Vec<String> = sorted.iter().filter(begins).cloned().collect();
            expect(format_args!("list_keys({prefix:?})"), store.list_keys(prefix), expected);
        }
    }
}

fn a_listing_follows_every_write(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let mut expected: BTreeSet<String> = BTreeSet::new();
    let check = |expected: &BTreeSet<String>| {
        let expected: Vec<String> = expected.iter().cloned().collect();
        expect("list_keys(None)", store.list_keys(None), expected.clone());
        expect("list_keys of the component", store.list_keys(Some(&one)), expected);
    };
    // The first listing is empty, in case a listing builds an index.
    check(&expected);
    for n in [5, 1, 9, 5, 3, 1] {
        store.set(&format!("{one}{n}"), "");
        expected.insert(format!("{one}{n}"));
        check(&expected);
    }
    for n in [3, 9, 3, 1, 5] {
        store.delete(&format!("{one}{n}"));
        expected.remove(&format!("{one}{n}"));
        check(&expected);
    }
}

fn a_component_prefix_selects_only_its_keys(subject: &Subject<'_>) {
    let store = subject.open();
    let keys = NEIGHBOURS.map(|component| format!("{component}key"));
    filled(&store, &keys);
    for component in NEIGHBOURS {
        let own = vec![format!("{component}key")];
        expect(format_args!("list_keys({component:?})"), store.list_keys(Some(component)), own);
    }
}

/// Similar component prefixes: instead of the slash they have a character that sorts
/// before it (`+`, `-`, `.`) or after it (`0`, `:`).
#[rustfmt::skip]
pub(super) const NEIGHBOURS: [&str; 12] = [
    "a/b/001/", "a/b/0011/", "a/b/00/", "a/b/001-/", "a/b/001+/", "a/b/001./", "a/b/001:/",
    "a/b/0010/", "a/b-/001/", "a-/b/001/", "a/b0/001/", "a0/b/001/",
];

pub(super) fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}
