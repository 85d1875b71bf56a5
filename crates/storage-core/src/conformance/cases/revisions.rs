//! `put` and `get_versioned`: the revision of every write.

use super::{Case, Subject, case};
use crate::conformance::subject::{Opened, expect, expect_that, expect_value, short};
use crate::{Commit, Revision};

pub(super) const CASES: &[Case] = &[
    case!(put_stores_as_set_does needs Revisions, Commits),
    case!(a_missing_key_has_no_revision needs Revisions, Commits),
    case!(the_revision_read_is_that_of_the_write needs Revisions, Commits),
    case!(every_write_has_a_larger_revision needs Revisions, Commits),
    case!(a_write_leaves_the_revisions_of_other_keys needs Revisions, Commits),
    case!(the_revision_of_a_commit_is_that_of_its_keys needs Revisions, Commits),
];

/// The revision of a key that must exist.
#[track_caller]
pub(super) fn revision(store: &Opened, key: &str) -> Revision {
    let found = store.get_versioned(key).map(|found| found.revision);
    expect_that(format_args!("get_versioned({}) to find a value", short(key)), found.is_some());
    found.unwrap_or(Revision::new(0))
}

fn put_stores_as_set_does(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    for value in ["one", "", "three"] {
        store.put(&key, value);
        store.holds(&key, value.as_bytes());
    }
    store.delete(&key);
    store.holds(&key, None);
    store.put(&key, "four");
    store.holds(&key, &b"four"[..]);
    expect("list_keys(None)", store.list_keys(None), vec![key]);
}

fn a_missing_key_has_no_revision(subject: &Subject<'_>) {
    let store = subject.open();
    expect("get_versioned of a key that was never written", store.get_versioned("key"), None);
    store.put("key", "value");
    store.delete("key");
    expect("get_versioned of a deleted key", store.get_versioned("key"), None);
}

fn the_revision_read_is_that_of_the_write(subject: &Subject<'_>) {
    let store = subject.open();
    let keys =
        [subject.component("one") + "a", subject.component("two") + "b", "unscoped".to_owned()];
    for value in ["one", "two", ""] {
        let written: Vec<Revision> = keys.iter().map(|key| store.put(key, value)).collect();
        for (key, written) in keys.iter().zip(written) {
            let found = store.get_versioned(key);
            let what = format!("get_versioned({key:?})");
            expect_value(&what, found.as_ref().map(|found| &found.value), Some(value.as_bytes()));
            expect(&what, found.map(|found| found.revision), Some(written));
        }
    }
}

fn every_write_has_a_larger_revision(subject: &Subject<'_>) {
    let store = subject.open();
    let mut last = store.put("key", "value");
    let mut grows = |what: &str, next: Revision| {
        expect_that(format_args!("{what} to have more than {last}, not {next}"), next > last);
        last = next;
    };
    let (one, two) = (subject.component("one"), subject.component("two"));
    for key in [format!("{one}a"), format!("{two}a"), "key".to_owned(), format!("{one}b")] {
        let commit = || Commit::new().set(&*key, "value".into());
        grows("a put", store.put(&key, "value"));
        grows("a put of the same value", store.put(&key, "value"));
        store.set(&key, "value");
        grows("a set of the same value", revision(&store, &key));
        grows("a commit that sets", store.commit(commit()));
        store.delete(&key);
        grows("a put after a delete", store.put(&key, "value"));
        grows("a commit that deletes", store.commit(Commit::new().delete(&*key)));
        grows("an empty commit", store.commit(Commit::new()));
        grows("a commit of checks", store.commit(Commit::new().require_absent(&*key)));
        store.set(&key, "value");
        grows("a set", revision(&store, &key));
    }
}

fn a_write_leaves_the_revisions_of_other_keys(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let written = store.put(&format!("{one}a"), "a");
    store.put(&format!("{one}b"), "b");
    store.set(&format!("{one}c"), "c");
    store.delete(&format!("{one}b"));
    store.set(&format!("{one}a2"), "");
    store.delete(&format!("{one}none"));
    expect("the revision of the first key", revision(&store, &format!("{one}a")), written);
}

fn the_revision_of_a_commit_is_that_of_its_keys(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let (a, b, c) = (format!("{one}a"), format!("{one}b"), format!("{one}c"));
    let untouched = store.put(&c, "c");
    let committed = store.commit(
        Commit::new()
            .set(&*a, "1".into())
            .set(&*b, "2".into())
            .set(&*a, "3".into())
            .require_present(&*c),
    );
    expect("the revision of a key that was written", revision(&store, &a), committed);
    expect("the revision of a key that was written", revision(&store, &b), committed);
    expect("the revision of a key that was only checked", revision(&store, &c), untouched);
}
