//! What is stored when the storage is opened again.

use super::budgets::bytes;
use super::listing::owned;
use super::{Case, Subject, case};
use crate::conformance::subject::{expect, expect_that};
use crate::{Budget, Commit, PageRequest, Revision, StorageError};

pub(super) const CASES: &[Case] = &[
    case!(an_empty_storage_opens_again needs Persistence),
    case!(values_are_persistent needs Persistence),
    case!(overwrites_and_deletes_are_persistent needs Persistence),
    case!(keys_of_every_component_are_persistent needs Persistence),
    case!(flushed_writes_are_persistent needs Persistence),
    case!(commits_are_persistent needs Persistence, Commits),
    case!(revisions_are_persistent needs Persistence, Revisions, Commits),
    case!(revisions_keep_growing needs Persistence, Revisions, Commits),
    case!(a_budget_counts_what_was_stored_before needs Persistence, Commits, Budgets),
];

fn an_empty_storage_opens_again(subject: &Subject<'_>) {
    for _ in 0..3 {
        let store = subject.open();
        expect("list_keys(None)", store.list_keys(None), vec![]);
        expect("list_components", store.list_components(None, 10).keys, vec![]);
        store.holds("key", None);
        store.holds("a/b/c/key", None);
    }
}

fn values_are_persistent(subject: &Subject<'_>) {
    let one = subject.component("one");
    let large: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let every: Vec<u8> = (0..=255).collect();
    let values = [
        ("empty", vec![]),
        ("every byte", every),
        ("large", large),
        ("unicode \u{e9}\u{1f600}", b"x".to_vec()),
        ("deep/../down/%2f*", b"y".to_vec()),
    ];
    let store = subject.open();
    for (own, value) in &values {
        store.set(&format!("{one}{own}"), value.clone());
    }
    drop(store);
    for _ in 0..2 {
        let store = subject.open();
        for (own, value) in &values {
            store.holds(&format!("{one}{own}"), value.as_slice());
        }
    }
}

fn overwrites_and_deletes_are_persistent(subject: &Subject<'_>) {
    let one = subject.component("one");
    let (kept, gone, back) = (format!("{one}kept"), format!("{one}gone"), format!("{one}back"));
    let store = subject.open();
    for key in [&kept, &gone, &back] {
        store.set(key, "a first value that is long");
    }
    store.set(&kept, "second");
    store.delete(&gone);
    store.delete(&back);
    drop(store);
    let store = subject.open();
    store.holds(&kept, &b"second"[..]);
    store.holds(&gone, None);
    store.holds(&back, None);
    store.set(&back, "");
    store.set(&kept, "third");
    drop(store);
    let store = subject.open();
    store.holds(&kept, &b"third"[..]);
    store.holds(&gone, None);
    store.holds(&back, &b""[..]);
}

fn keys_of_every_component_are_persistent(subject: &Subject<'_>) {
    let keys = ["A/b/c/k", "a", "a/b/c/", "a/b/c/k", "a/b/c/k2", "a/b/cc/k", "a/b/d/k", "z/y"];
    let store = subject.open();
    for key in keys {
        store.set(key, key);
    }
    store.delete("a/b/d/k");
    let (contents, usage) = (store.contents(), store.usage(None));
    drop(store);
    let store = subject.open();
    let page = store.list_page(PageRequest::new(3).after("a"));
    expect("the page after \"a\"", page.keys, owned(&["a/b/c/", "a/b/c/k", "a/b/c/k2"]));
    let components = store.list_components(None, 10).keys;
    expect("list_components", components, owned(&["A/b/c/", "a/b/c/", "a/b/cc/"]));
    expect("usage(None)", store.usage(None), usage);
    expect("the contents", store.contents(), contents);
}

fn flushed_writes_are_persistent(subject: &Subject<'_>) {
    let store = subject.open();
    store.set("key", "value");
    store.flush();
    let contents = store.contents();
    drop(store);
    expect("the contents", subject.open().contents(), contents);
}

fn commits_are_persistent(subject: &Subject<'_>) {
    let store = subject.open();
    store.set("a/b/c/1", "old");
    store.set("a/b/c/2", "old");
    let commit = Commit::new().set("a/b/c/1", "new".into()).delete("a/b/c/2");
    store.commit(commit.set("x/y/z/3", "new".into()).set("unscoped", "new".into()));
    let contents = store.contents();
    drop(store);
    for _ in 0..2 {
        let store = subject.open();
        expect("the contents", store.contents(), contents.clone());
        store.holds("a/b/c/1", &b"new"[..]);
        store.holds("a/b/c/2", None);
        store.holds("x/y/z/3", &b"new"[..]);
        store.holds("unscoped", &b"new"[..]);
    }
}

fn revisions_are_persistent(subject: &Subject<'_>) {
    let key = subject.component("one") + "key";
    let store = subject.open();
    store.put(&key, "one");
    let written = store.put(&key, "two");
    let other = store.put("other", "x");
    drop(store);
    for _ in 0..2 {
        let store = subject.open();
        let revision = |key: &str| store.get_versioned(key).map(|found| found.revision);
        expect("the revision of the key", revision(&key), Some(written));
        expect("the revision of another key", revision("other"), Some(other));
    }
}

fn revisions_keep_growing(subject: &Subject<'_>) {
    let mut last: Option<Revision> = None;
    for round in 0..4 {
        let store = subject.open();
        for key in ["a/b/c/key", "key", "key", "deleted"] {
            let next = store.put(key, "value");
            let what =
                format!("put to return more than {last:?} when opened {round} times: {next}");
            expect_that(what, last.is_none_or(|last| next > last));
            last = Some(next);
        }
        // No key has the last revision any more.
        store.delete("deleted");
    }
}

fn a_budget_counts_what_was_stored_before(subject: &Subject<'_>) {
    let one = subject.component("one");
    let commit = |own: &str, value: &str, budget: Budget| {
        Commit::new().set(format!("{one}{own}"), value.into()).with_budget(budget)
    };
    let store = subject.open();
    store.commit(commit("a", "1234", bytes(10)));
    store.set(&format!("{one}b"), "123");
    store.set(&format!("{one}c"), "1");
    store.delete(&format!("{one}c"));
    drop(store);
    // 9 bytes in two keys.
    for _ in 0..2 {
        let store = subject.open();
        store.refuses(commit("d", "1", bytes(10)), &StorageError::QuotaExceeded);
        let two_keys = Budget { max_bytes: 100, max_keys: 2 };
        store.refuses(commit("d", "", two_keys), &StorageError::QuotaExceeded);
        store.commit(commit("a", "12345", bytes(10)));
        store.commit(commit("a", "1234", bytes(10)));
    }
    let store = subject.open();
    store.delete(&format!("{one}b"));
    store.commit(commit("d", "1234", bytes(10)));
    store.refuses(commit("e", "", bytes(10)), &StorageError::QuotaExceeded);
}
