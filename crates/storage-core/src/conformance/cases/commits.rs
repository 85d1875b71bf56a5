//! `commit`: checks and writes, all or nothing.

use super::revisions::revision;
use super::{Case, Subject, case};
use crate::conformance::subject::expect;
use crate::{Commit, Revision, StorageError};

pub(super) const CASES: &[Case] = &[
    case!(a_commit_applies_all_of_its_writes needs Commits),
    case!(a_check_for_absence_fails_on_a_present_key needs Commits),
    case!(a_check_for_presence_fails_on_a_missing_key needs Commits),
    case!(a_check_of_a_value_fails_on_another_value needs Commits),
    case!(a_check_of_a_revision_fails_on_another_revision needs Commits, Revisions),
    case!(a_check_of_a_revision_fails_after_any_write needs Commits, Revisions),
    case!(a_failed_commit_changes_nothing needs Commits),
    case!(the_first_failed_check_is_reported needs Commits),
    case!(checks_see_the_state_before_the_writes needs Commits),
    case!(the_last_write_to_a_key_counts needs Commits),
    case!(an_empty_commit_succeeds needs Commits),
    case!(a_commit_of_checks_only_changes_nothing needs Commits),
    case!(a_commit_may_delete_missing_keys needs Commits),
    case!(a_commit_covers_several_components needs Commits),
    case!(a_commit_may_have_many_writes needs Commits),
    case!(listings_and_usage_follow_a_commit needs Commits),
];

fn exists(key: &str) -> StorageError {
    StorageError::AlreadyExists(key.to_owned())
}

fn not_found(key: &str) -> StorageError {
    StorageError::NotFound(key.to_owned())
}

fn conflict(key: &str) -> StorageError {
    StorageError::Conflict(key.to_owned())
}

fn a_commit_applies_all_of_its_writes(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let (a, b, c, d) = (format!("{one}a"), format!("{one}b"), format!("{one}c"), format!("{one}d"));
    store.set(&a, "old");
    store.set(&b, "old");
    store.set(&d, "old");
    store.commit(Commit::new().set(&*c, "new".into()).delete(&*b).set(&*a, "".into()));
    store.holds(&a, &b""[..]);
    store.holds(&b, None);
    store.holds(&c, &b"new"[..]);
    store.holds(&d, &b"old"[..]);
}

fn a_check_for_absence_fails_on_a_present_key(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    let create = || Commit::new().require_absent(&*key).set(&*key, "mine".into());
    store.commit(create());
    store.refuses(create(), &exists(&key));
    // An empty value is present.
    store.set(&key, "");
    store.refuses(create(), &exists(&key));
    store.delete(&key);
    store.commit(create());
    store.holds(&key, &b"mine"[..]);
}

fn a_check_for_presence_fails_on_a_missing_key(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    let update = |value: &str| Commit::new().require_present(&*key).set(&*key, value.into());
    store.refuses(update("new"), &not_found(&key));
    store.set(&key, "");
    store.commit(update("new"));
    store.holds(&key, &b"new"[..]);
    store.delete(&key);
    store.refuses(update("newer"), &not_found(&key));
}

fn a_check_of_a_value_fails_on_another_value(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    let swap = |from: &str, to: &str| {
        Commit::new().require_value(&*key, from.into()).set(&*key, to.into())
    };
    store.refuses(swap("", "x"), &conflict(&key));
    store.set(&key, "value");
    for other in ["", "valu", "value1", "Value", "valuf"] {
        store.refuses(swap(other, "x"), &conflict(&key));
    }
    store.commit(swap("value", ""));
    store.refuses(swap("value", "x"), &conflict(&key));
    store.commit(swap("", "last"));
    store.holds(&key, &b"last"[..]);
}

fn a_check_of_a_revision_fails_on_another_revision(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    let swap = |revision: Revision, to: &str| {
        Commit::new().require_revision(&*key, revision).set(&*key, to.into())
    };
    store.refuses(swap(Revision::new(0), "x"), &conflict(&key));
    store.refuses(swap(Revision::new(1), "x"), &conflict(&key));
    let first = store.put(&key, "one");
    let elsewhere = store.put("elsewhere", "x");
    store.refuses(swap(elsewhere, "x"), &conflict(&key));
    store.refuses(swap(Revision::new(first.get().wrapping_sub(1)), "x"), &conflict(&key));
    store.refuses(swap(Revision::new(u64::MAX), "x"), &conflict(&key));
    let second = store.commit(swap(first, "two"));
    store.refuses(swap(first, "x"), &conflict(&key));
    store.commit(swap(second, "three"));
    store.holds(&key, &b"three"[..]);
}

fn a_check_of_a_revision_fails_after_any_write(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    let swap = |revision| Commit::new().require_revision(&*key, revision).set(&*key, "mine".into());
    let read = store.put(&key, "A");
    store.set(&key, "A");
    store.refuses(swap(read), &conflict(&key));
    let read = revision(&store, &key);
    store.set(&key, "B");
    store.set(&key, "A");
    store.refuses(swap(read), &conflict(&key));
    let read = revision(&store, &key);
    store.delete(&key);
    store.refuses(swap(read), &conflict(&key));
    store.set(&key, "A");
    store.refuses(swap(read), &conflict(&key));
    let read = revision(&store, &key);
    store.commit(Commit::new().delete(&*key).set(&*key, "A".into()));
    store.refuses(swap(read), &conflict(&key));
}

fn a_failed_commit_changes_nothing(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let (a, b, missing) = (format!("{one}a"), format!("{one}b"), format!("{one}missing"));
    store.set(&a, "A");
    store.set(&b, "B");
    let writes = || {
        Commit::new()
            .set(&*a, "x".into())
            .delete(&*b)
            .set(&*missing, "x".into())
            .set("new", "x".into())
    };
    store.refuses(writes().require_absent(&*a), &exists(&a));
    store.refuses(writes().require_present(&*missing), &not_found(&missing));
    store.refuses(writes().require_value(&*b, "A".into()), &conflict(&b));
    // The failing check is the last one.
    let commit =
        writes().require_present(&*a).require_absent(&*missing).require_value(&*a, "A".into());
    store.refuses(commit.require_absent(&*b), &exists(&b));
}

fn the_first_failed_check_is_reported(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let (a, z) = (format!("{one}a"), format!("{one}z"));
    store.set(&a, "A");
    let bad = |commit: Commit, n| match n {
        0 => commit.require_absent(&*a),
        1 => commit.require_present(&*z),
        _ => commit.require_value(&*a, "B".into()),
    };
    let errors = [exists(&a), not_found(&z), conflict(&a)];
    for (first, error) in errors.iter().enumerate() {
        for second in 0..errors.len() {
            let commit = Commit::new().require_present(&*a).set(&*a, "x".into());
            store.refuses(bad(bad(commit, first), second), error);
        }
    }
    // Two checks of one key both count.
    let commit = Commit::new().require_present(&*a).require_value(&*a, "B".into());
    store.refuses(commit, &conflict(&a));
    // The order is that of the list, not of the keys.
    let commit = Commit::new().require_present(&*z).require_absent(&*a);
    store.refuses(commit, &not_found(&z));
}

fn checks_see_the_state_before_the_writes(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    store.commit(Commit::new().set(&*key, "one".into()).require_absent(&*key));
    store.commit(Commit::new().delete(&*key).require_present(&*key));
    store.holds(&key, None);
    store.refuses(Commit::new().set(&*key, "x".into()).require_present(&*key), &not_found(&key));
    store.set(&key, "old");
    let commit = Commit::new().set(&*key, "new".into()).require_value(&*key, "new".into());
    store.refuses(commit, &conflict(&key));
}

fn the_last_write_to_a_key_counts(subject: &Subject<'_>) {
    let store = subject.open();
    let key = subject.component("one") + "key";
    store.commit(
        Commit::new().set(&*key, "one".into()).set("b", "x".into()).set(&*key, "two".into()),
    );
    store.holds(&key, &b"two"[..]);
    store.commit(Commit::new().set(&*key, "three".into()).delete(&*key));
    store.holds(&key, None);
    store.commit(Commit::new().delete(&*key).set(&*key, "four".into()));
    store.holds(&key, &b"four"[..]);
    let commit =
        Commit::new().delete(&*key).set(&*key, "x".into()).delete(&*key).set(&*key, "five".into());
    store.commit(commit);
    store.holds(&key, &b"five"[..]);
}

fn an_empty_commit_succeeds(subject: &Subject<'_>) {
    let store = subject.open();
    let first = store.commit(Commit::new());
    store.set("key", "value");
    let before = store.contents();
    let second = store.commit(Commit::new());
    expect("whether the later empty commit has the larger revision", second > first, true);
    expect("the contents after an empty commit", store.contents(), before);
}

fn a_commit_of_checks_only_changes_nothing(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let (a, missing) = (format!("{one}a"), format!("{one}missing"));
    store.set(&a, "A");
    let before = store.contents();
    store.commit(
        Commit::new().require_present(&*a).require_value(&*a, "A".into()).require_absent(&*missing),
    );
    store.commit(Commit::new().require_absent("elsewhere/in/nowhere/key"));
    expect("the contents after a commit of checks", store.contents(), before);
    expect("list_components", store.list_components(None, 10).keys, prefix_of(&one));
    store.refuses(Commit::new().require_absent(&*a), &exists(&a));
    store.refuses(Commit::new().require_present(&*missing), &not_found(&missing));
    let key = "elsewhere/in/nowhere/key";
    store.refuses(Commit::new().require_present(key), &not_found(key));
    expect("list_components", store.list_components(None, 10).keys, prefix_of(&one));
}

fn prefix_of(component: &str) -> Vec<String> {
    if component.is_empty() { vec![] } else { vec![component.to_owned()] }
}

fn a_commit_may_delete_missing_keys(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    store.commit(
        Commit::new().delete(format!("{one}none")).delete("none").delete("no/such/component/key"),
    );
    expect("list_keys(None)", store.list_keys(None), vec![]);
    expect("list_components", store.list_components(None, 10).keys, vec![]);
    store.set(&format!("{one}a"), "A");
    store.commit(Commit::new().delete(format!("{one}none")).set(format!("{one}b"), "B".into()));
    store.holds(&format!("{one}a"), &b"A"[..]);
    store.holds(&format!("{one}b"), &b"B"[..]);
}

fn a_commit_covers_several_components(subject: &Subject<'_>) {
    let store = subject.open();
    let keys = ["z/y/x/key", "a/b/c/key", "unscoped", "m/n/o/key", "a/b/cc/key"];
    let mut all = Commit::new();
    for key in keys {
        all = all.require_absent(key).set(key, key.into());
    }
    store.commit(all.clone());
    for key in keys {
        store.holds(key, key.as_bytes());
    }
    store.refuses(all, &exists("z/y/x/key"));
    // A check in one component guards the writes in others.
    let guarded = Commit::new()
        .set("a/b/c/key", "x".into())
        .delete("unscoped")
        .set("new/in/another/key", "x".into());
    store.refuses(guarded.clone().require_absent("m/n/o/key"), &exists("m/n/o/key"));
    store.refuses(guarded.clone().require_present("q/r/s/key"), &not_found("q/r/s/key"));
    store.commit(guarded.require_present("m/n/o/key").require_absent("q/r/s/key"));
    store.holds("a/b/c/key", &b"x"[..]);
    store.holds("unscoped", None);
    store.holds("new/in/another/key", &b"x"[..]);
    // All keys can be deleted at once.
    let gone = keys
        .iter()
        .fold(Commit::new().delete("new/in/another/key"), |commit, key| commit.delete(*key));
    store.commit(gone);
    expect("list_keys(None)", store.list_keys(None), vec![]);
}

fn a_commit_may_have_many_writes(subject: &Subject<'_>) {
    let store = subject.open();
    let one = subject.component("one");
    let keys: Vec<String> = (0..200).map(|n| format!("{one}{n:03}")).collect();
    let commit = keys.iter().fold(Commit::new(), |commit, key| {
        commit.require_absent(&**key).set(&**key, key.as_str().into())
    });
    store.commit(commit);
    expect("list_keys(None)", store.list_keys(None), keys.clone());
    for (key, value) in
        keys.iter().zip(store.get_many(&keys.iter().map(String::as_str).collect::<Vec<_>>()))
    {
        expect(format_args!("get_many at {key:?}"), value, Some(key.as_str().into()));
    }
    store.commit(keys.iter().fold(Commit::new(), |commit, key| commit.delete(&**key)));
    expect("list_keys(None)", store.list_keys(None), vec![]);
}

fn listings_and_usage_follow_a_commit(subject: &Subject<'_>) {
    let store = subject.open();
    let (one, two) = (subject.component("one"), subject.component("two"));
    let (a, b, c) = (format!("{one}a"), format!("{one}b"), format!("{two}c"));
    let is = |keys: &[&String], value_bytes: u64| {
        let expected: Vec<String> = keys.iter().map(|key| (*key).clone()).collect();
        let key_bytes: usize = keys.iter().map(|key| key.len()).sum();
        expect("list_keys(None)", store.list_keys(None), expected);
        let usage = store.usage(None);
        let wanted = (key_bytes as u64 + value_bytes, keys.len() as u64);
        expect("usage(None)", (usage.bytes, usage.keys), wanted);
    };
    is(&[], 0);
    store.commit(Commit::new().set(&*a, "12".into()).set(&*c, "345".into()));
    is(&[&a, &c], 5);
    store.commit(Commit::new().delete(&*a).set(&*b, "6".into()).set(&*c, "".into()));
    is(&[&b, &c], 1);
    store.commit(Commit::new().delete(&*b).delete(&*c));
    is(&[], 0);
}
