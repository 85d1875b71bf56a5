//! What a store that several hosts use tells each of them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Case, Subject, case};
use crate::conformance::subject::{Opened, expect, expect_that, succeed};
use crate::{Change, Commit, Revision, SharedStore, StorageError, Watcher};

pub(super) const CASES: &[Case] = &[
    case!(several_hosts_see_the_same_keys needs SeveralHosts),
    case!(a_commit_is_reported_to_its_host_before_it_returns needs SeveralHosts),
    case!(a_commit_over_components_is_reported_for_each needs SeveralHosts),
    case!(a_change_follows_that_of_another_host needs SeveralHosts),
    case!(a_failed_commit_is_not_reported needs SeveralHosts),
    case!(a_change_of_one_key_names_it needs SeveralHosts),
    case!(component_revisions_are_those_of_the_last_changes needs SeveralHosts),
    case!(component_revisions_include_commits_of_other_hosts needs SeveralHosts),
    case!(changes_of_other_hosts_arrive needs SeveralHosts),
    case!(the_last_watcher_replaces_the_others needs SeveralHosts),
];

/// How long a change of another host may take before it counts as lost.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How many changes in a row may be lost.
const MAX_LOST: usize = 30;

/// Keeps every change.
#[derive(Default)]
struct Changes {
    all: Mutex<Vec<Change>>,
    arrived: Condvar,
}

impl Changes {
    fn lock(&self) -> MutexGuard<'_, Vec<Change>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The changes of this host since the last call.
    fn take_own(&self) -> Vec<Change> {
        self.lock().extract_if(.., |change| change.is_own).collect()
    }

    /// Waits for a change of another host with this revision.
    fn wait_for(&self, revision: Revision) -> Option<Change> {
        let is_it = |change: &&Change| !change.is_own && change.revision == revision;
        let waited = self.arrived.wait_timeout_while(self.lock(), TIMEOUT, |all| {
            !all.iter().any(|change| is_it(&change))
        });
        let (all, _) = waited.unwrap_or_else(PoisonError::into_inner);
        all.iter().find(is_it).cloned()
    }
}

impl Watcher for Changes {
    fn changed(&self, change: &Change) {
        self.lock().push(change.clone());
        self.arrived.notify_all();
    }
}

impl Opened {
    #[expect(clippy::panic, reason = "a case reports by panicking, as a test does")]
    fn shared(&self) -> &dyn SharedStore {
        self.store().shared().unwrap_or_else(|| panic!("expected shared() to be Some, found None"))
    }

    fn watched(&self) -> Arc<Changes> {
        let changes = Arc::new(Changes::default());
        self.shared().watch(changes.clone());
        changes
    }

    #[track_caller]
    fn component_revisions(&self, prefixes: &[&str]) -> Vec<Option<Revision>> {
        succeed("component_revisions", self.shared().component_revisions(prefixes))
    }

    fn revision_of(&self, key: &str) -> Option<Revision> {
        self.get_versioned(key).map(|found| found.revision)
    }
}

fn several_hosts_see_the_same_keys(subject: &Subject<'_>) {
    let (one, two) = (subject.open(), subject.open());
    let is_shared = one.store().properties().shared_with_other_hosts;
    expect("the property shared_with_other_hosts", is_shared, true);
    one.set("a/b/c/key", "one");
    two.holds("a/b/c/key", &b"one"[..]);
    two.delete("a/b/c/key");
    one.holds("a/b/c/key", None);
}

fn a_commit_is_reported_to_its_host_before_it_returns(subject: &Subject<'_>) {
    let store = subject.open();
    let changes = store.watched();
    let (prefix, key) = ("a/b/c/", "a/b/c/key");
    let mut previous = None;
    for round in 0..3 {
        let mut check = |what: &str, revision: Option<Revision>| {
            let own = changes.take_own();
            let [change] = &own[..] else {
                return expect_that(format!("one change after {what}, not {own:?}"), false);
            };
            expect(format!("the prefix of the change by {what}"), &*change.prefix, prefix);
            expect(format!("what {what} followed in round {round}"), change.previous, previous);
            expect_that(
                format!("the revision of {what} to be {revision:?}, not {}", change.revision),
                revision.is_none_or(|revision| revision == change.revision)
                    && Some(change.revision) > previous,
            );
            previous = Some(change.revision);
        };
        store.set(key, "value");
        check("set", store.revision_of(key));
        let revision = store.commit(Commit::new().set(key, "1".into()).set("a/b/c/2", "2".into()));
        check("commit", Some(revision));
        store.delete(key);
        check("delete", None);
    }
}

fn a_commit_over_components_is_reported_for_each(subject: &Subject<'_>) {
    let store = subject.open();
    let changes = store.watched();
    let commit = Commit::new().set("a/b/c/1", "x".into()).delete("a/b/c/2");
    let revision = store.commit(commit.set("d/e/f/1", "x".into()).set("unscoped", "x".into()));
    let mut own = changes.take_own();
    own.sort_by(|a, b| a.prefix.cmp(&b.prefix));
    let prefixes: Vec<&str> = own.iter().map(|change| &*change.prefix).collect();
    expect("the prefixes of the changes", prefixes, vec!["", "a/b/c/", "d/e/f/"]);
    for change in &own {
        expect(format!("the revision of {change:?}"), change.revision, revision);
        expect(format!("what {change:?} followed"), change.previous, None);
        if let Some(keys) = &change.keys {
            let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            keys.sort_unstable();
            let expected = match &*change.prefix {
                "" => vec!["unscoped"],
                "d/e/f/" => vec!["d/e/f/1"],
                _ => vec!["a/b/c/1", "a/b/c/2"],
            };
            expect("the keys of the change", keys, expected);
        }
    }
}

fn a_change_follows_that_of_another_host(subject: &Subject<'_>) {
    let (one, two) = (subject.open(), subject.open());
    let changes = one.watched();
    let first = one.put("a/b/c/1", "x");
    let other = two.put("a/b/c/2", "x");
    let last = one.put("a/b/c/1", "y");
    let links: Vec<_> =
        changes.take_own().iter().map(|change| (change.previous, change.revision)).collect();
    expect("the revisions of its changes", links, vec![(None, first), (Some(other), last)]);
}

fn a_failed_commit_is_not_reported(subject: &Subject<'_>) {
    let store = subject.open();
    store.set("a/b/c/key", "value");
    let changes = store.watched();
    let before = store.component_revisions(&["a/b/c/"]);
    let create = Commit::new().require_absent("a/b/c/key").set("a/b/c/key", "other".into());
    store.refuses(create, &StorageError::AlreadyExists("a/b/c/key".into()));
    expect("the changes of this host", changes.take_own(), vec![]);
    expect("component_revisions", store.component_revisions(&["a/b/c/"]), before);
}

fn a_change_of_one_key_names_it(subject: &Subject<'_>) {
    let (one, two) = (subject.open(), subject.open());
    let (own, foreign) = (one.watched(), two.watched());
    let keys = || Some(vec!["a/b/c/key".to_owned()]);
    // A change may be lost, such as one that is made before the store listens.
    let of_foreign = (0..MAX_LOST).find_map(|_| {
        let revision = one.put("a/b/c/key", "value");
        let of_own = own.take_own().pop().map(|change| change.keys);
        expect("the keys of the change on its host", of_own, Some(keys()));
        foreign.wait_for(revision).map(|change| change.keys)
    });
    expect("the keys of the change on another host", of_foreign, Some(keys()));
}

fn component_revisions_are_those_of_the_last_changes(subject: &Subject<'_>) {
    let store = subject.open();
    let changes = store.watched();
    expect("component_revisions of nothing", store.component_revisions(&[]), vec![]);
    let prefixes = ["x/y/z/", "a/b/c/", "", "a/b/cc/", "a/b/c/"];
    expect("component_revisions", store.component_revisions(&prefixes), vec![None; 5]);
    let mut last = [None; 5];
    let mut check = |what: &str| {
        for change in changes.take_own() {
            for (prefix, last) in prefixes.iter().zip(&mut last) {
                if *prefix == change.prefix {
                    *last = Some(change.revision);
                }
            }
        }
        let found = store.component_revisions(&prefixes);
        expect(format!("component_revisions after {what}"), found, last.to_vec());
    };
    store.set("a/b/c/key", "value");
    check("set");
    store.set("unscoped", "value");
    check("set of an unscoped key");
    store.set("a/b/d/key", "value");
    check("set in another component");
    let commit = Commit::new().set("a/b/c/key", "x".into()).set("a/b/cc/key", "x".into());
    store.commit(commit);
    check("commit");
    store.commit(Commit::new().require_present("a/b/c/key"));
    check("a commit of checks only");
    store.delete("a/b/c/key");
    check("delete");
    store.delete("a/b/c/key");
    check("delete of a missing key");
    expect("component_revisions", store.component_revisions(&["no/such/one/"]), vec![None]);
}

fn component_revisions_include_commits_of_other_hosts(subject: &Subject<'_>) {
    let hosts = [subject.open(), subject.open()];
    for round in 0..20 {
        for (writer, reader) in [(0, 1), (1, 0)] {
            let (Some(writer), Some(reader)) = (hosts.get(writer), hosts.get(reader)) else {
                return;
            };
            let revision = writer.put("a/b/c/key", format!("{round}").as_str());
            let found = reader.component_revisions(&["a/b/c/"]);
            expect("component_revisions on another host", found, vec![Some(revision)]);
        }
    }
}

fn changes_of_other_hosts_arrive(subject: &Subject<'_>) {
    let (one, two) = (subject.open(), subject.open());
    let changes = one.watched();
    let mut previous = None;
    for key in ["a/b/c/1", "a/b/c/2", "a/b/c/1"] {
        // A change may be lost, such as one that is made before the store listens.
        let mut arrived = None;
        for _ in 0..MAX_LOST {
            let revision = two.put(key, "value");
            let expected = Change {
                prefix: "a/b/c/".to_owned(),
                previous: previous.replace(revision),
                revision,
                keys: Some(vec![key.to_owned()]),
                is_own: false,
            };
            arrived = changes.wait_for(revision).map(|change| (change, expected));
            if arrived.is_some() {
                break;
            }
        }
        let (change, expected) = arrived.unzip();
        expect_that("a change of another host arrives", change.is_some());
        expect("the change of another host", change, expected);
    }
}

fn the_last_watcher_replaces_the_others(subject: &Subject<'_>) {
    let store = subject.open();
    let (first, last) = (store.watched(), store.watched());
    store.set("a/b/c/key", "value");
    expect("the changes that the first watcher got", first.take_own().len(), 0);
    expect("the changes that the last watcher got", last.take_own().len(), 1);
}
