//! One key: get, set, delete, exists, and reads based on them.

use super::{Case, Subject, case};
use crate::StorageError;
use crate::conformance::Feature;
use crate::conformance::subject::{expect, expect_value, succeed};

pub(super) const CASES: &[Case] = &[
    case!(a_missing_key_is_none),
    case!(a_set_replaces_the_value),
    case!(a_deleted_key_is_missing),
    case!(deleting_a_missing_key_succeeds),
    case!(an_empty_value_is_present),
    case!(a_value_may_contain_any_byte),
    case!(a_value_of_one_mebibyte_is_stored),
    case!(keys_with_a_common_prefix_are_independent),
    case!(get_many_returns_values_in_the_order_of_the_keys),
    case!(flush_changes_nothing needs Store),
    case!(compacting_keeps_every_key needs Store),
];

fn a_missing_key_is_none(subject: &Subject<'_>) {
    let store = subject.open();
    store.holds("missing", None);
    store.set("missing1", "a neighbour");
    store.holds("missing", None);
}

fn a_set_replaces_the_value(subject: &Subject<'_>) {
    let store = subject.open();
    for value in ["first", "a longer second value", "3rd", "3rd", ""] {
        store.set("key", value);
        store.holds("key", value.as_bytes());
    }
}

fn a_deleted_key_is_missing(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    for value in ["one", "", "three"] {
        store.set(&key, value);
        store.holds(&key, value.as_bytes());
        store.delete(&key);
        store.holds(&key, None);
        expect("list_keys(None) after the delete", store.list_keys(None), vec![]);
    }
}

fn deleting_a_missing_key_succeeds(subject: &Subject<'_>) {
    let store = subject.open();
    store.delete("never there");
    store.set("key", "value");
    store.delete("ke");
    store.delete("key1");
    store.holds("key", &b"value"[..]);
    store.delete("key");
    store.delete("key");
    store.holds("key", None);
}

fn an_empty_value_is_present(subject: &Subject<'_>) {
    let store = subject.open();
    store.set("empty", "");
    expect("exists(\"empty\")", store.exists("empty"), true);
    expect_value("get(\"empty\")", store.get("empty").as_ref(), Some(b""));
    store.holds("empty", &b""[..]);
    expect("list_keys(None)", store.list_keys(None), vec!["empty".to_owned()]);
}

fn a_value_may_contain_any_byte(subject: &Subject<'_>) {
    let store = subject.open();
    let ascending: Vec<u8> = (0..=255).collect();
    let descending: Vec<u8> = (0..=255).rev().collect();
    store.set("ascending", ascending.clone());
    store.set("descending", descending.clone());
    store.set("zeros", vec![0; 100]);
    store.set("line", "a\r\nb\n");
    store.holds("ascending", &*ascending);
    store.holds("descending", &*descending);
    store.holds("zeros", &[0; 100][..]);
    store.holds("line", &b"a\r\nb\n"[..]);
}

fn a_value_of_one_mebibyte_is_stored(subject: &Subject<'_>) {
    let store = subject.open();
    // Blocks differ, so that a swapped or repeated one is detected.
    let value: Vec<u8> =
        (0..1_u32 << 18).flat_map(|n| n.wrapping_mul(0x9E37_79B1).to_le_bytes()).collect();
    store.set("large", value.clone());
    store.holds("large", &*value);
    store.set("large", "small");
    store.holds("large", &b"small"[..]);
}

fn keys_with_a_common_prefix_are_independent(subject: &Subject<'_>) {
    let store = subject.open();
    let keys = ["a", "a/", "a/b", "a/b/", "a/b/c", "a/b/c/", "a/b/c/d", "ab", "a0", "a b", "A"];
    for key in keys {
        store.set(key, key);
    }
    for (n, deleted) in keys.iter().enumerate() {
        store.delete(deleted);
        for (m, key) in keys.iter().enumerate() {
            store.holds(key, (m > n).then_some(key.as_bytes()));
        }
    }
}

fn get_many_returns_values_in_the_order_of_the_keys(subject: &Subject<'_>) {
    let store = subject.open();
    let (one, two) = (subject.component("one"), subject.component("two"));
    let (a, b) = (format!("{one}a"), format!("{two}b"));
    let missing = format!("{two}missing");
    store.set(&a, "A");
    store.set(&b, "B");
    store.set("unscoped", "");
    let keys = [&*b, "none", &*a, &*missing, "unscoped", &*b, &*a, &*a];
    let expected: [Option<&[u8]>; 8] =
        [Some(b"B"), None, Some(b"A"), None, Some(b""), Some(b"B"), Some(b"A"), Some(b"A")];
    let found = store.get_many(&keys);
    expect("the number of values of get_many", found.len(), keys.len());
    for ((key, found), expected) in keys.iter().zip(&found).zip(expected) {
        expect_value(format_args!("{key:?} in get_many({keys:?})"), found.as_ref(), expected);
    }
    expect("the number of values of get_many([])", store.get_many(&[]).len(), 0);
}

fn flush_changes_nothing(subject: &Subject<'_>) {
    let store = subject.open();
    store.flush();
    store.set("key", "value");
    store.set("gone", "value");
    store.delete("gone");
    let before = store.contents();
    store.flush();
    store.flush();
    expect("the contents after flush()", store.contents(), before);
    succeed("set after flush()", store.storage().set("key", "later".into()));
    store.holds("key", &b"later"[..]);
}

fn compacting_keeps_every_key(subject: &Subject<'_>) {
    let store = subject.open();
    store.set("empty", "");
    for number in 0..50 {
        store.set(&format!("a/b/c/{number:02}"), vec![number; 4_000]);
    }
    for number in 5..50 {
        store.delete(&format!("a/b/c/{number:02}"));
    }
    store.set("a/b/c/00", "overwritten");
    let before = store.contents();
    match store.store().compact() {
        Err(StorageError::Unsupported(_)) => return,
        other => drop(succeed("compact()", other)),
    }
    expect("the contents after compact()", store.contents(), before);
    store.set("key", "later");
    store.holds("key", &b"later"[..]);
    succeed("a second compact()", store.store().compact());
    drop(store);
    if subject.has(Feature::Persistence) {
        subject.open().holds("key", &b"later"[..]);
    }
}
