//! Several hosts on one store, for each store on a server.
//!
//! The test program says which store: its `server` has `shared_store`, `REPORTS_CHECKS` and
//! `CUTS_WRITERS`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use storage_core::{Change, Watcher};

use super::server::{CUTS_WRITERS, REPORTS_CHECKS, shared_store};
use super::*;

const HOME: &str = "app/notes/home/";

#[derive(Default)]
struct Seen(Mutex<Vec<Change>>);

impl Watcher for Seen {
    fn changed(&self, change: &Change) {
        self.0.lock().unwrap().push(change.clone());
    }
}

impl Seen {
    fn take(&self) -> Vec<Change> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Waits a moment for a change that satisfies a condition. Others are dropped.
    fn look_for(&self, is_wanted: impl Fn(&Change) -> bool) -> Option<Change> {
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline {
            if let Some(found) = self.take().into_iter().find(|change| is_wanted(change)) {
                return Some(found);
            }
            thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

fn put(store: &impl ComponentStorage, key: &str) -> Revision {
    storage_core::put(store, key, "value".into()).unwrap()
}

#[test]
fn a_host_sees_the_writes_of_another() {
    let Some(server) = shared_store() else { return };
    let (one, other) = (server.open(), server.open());
    assert_eq!(one.store_id(), other.store_id());
    let revision = put(&one, "app/notes/home/a");
    let found = other.get_versioned("app/notes/home/a").unwrap().unwrap();
    assert_eq!((found.value, found.revision), ("value".into(), revision));
    assert!(put(&other, "app/notes/home/a") > revision);
    assert!(one.properties().shared_with_other_hosts);
}

#[test]
fn two_hosts_never_exceed_a_quota() {
    let Some(server) = shared_store() else { return };
    let hosts = [server.open(), server.open()];
    let budget = Budget { max_bytes: 1_000, max_keys: 40 };
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        for n in 0..64 {
            let (store, written) = (&hosts[n % 2], &written);
            scope.spawn(move || {
                for round in 0..4 {
                    let key = format!("{HOME}{n:02}-{round}");
                    let commit = Commit::new().set(key, "value".into()).with_budget(budget);
                    match store.commit(commit) {
                        Ok(_) => drop(written.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => assert_eq!(error, StorageError::QuotaExceeded),
                    }
                }
            });
        }
    });
    assert_eq!(written.into_inner(), 40);
    assert_eq!(hosts[0].usage(Some(HOME)).unwrap().keys, 40);
    assert_eq!(verifying::problems(&hosts[0]), []);
}

#[test]
fn single_writes_of_several_hosts_are_all_counted() {
    let Some(server) = shared_store() else { return };
    // Each has one writer, so none of them sends writes together.
    let hosts: [_; 6] = std::array::from_fn(|_| server.open());
    let budget = Budget { max_bytes: 10_000, max_keys: 100 };
    let written = AtomicU64::new(0);
    thread::scope(|scope| {
        for (n, store) in hosts.iter().enumerate() {
            let written = &written;
            scope.spawn(move || {
                for round in 0..40 {
                    let commit = Commit::new().set(format!("{HOME}{n}-{round}"), "value".into());
                    match store.commit(commit.with_budget(budget)) {
                        Ok(_) => drop(written.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => assert_eq!(error, StorageError::QuotaExceeded),
                    }
                }
            });
        }
    });
    assert_eq!(written.into_inner(), 100);
    assert_eq!(hosts[0].usage(Some(HOME)).unwrap().keys, 100);
    assert_eq!(verifying::problems(&hosts[0]), []);
}

#[test]
fn increments_of_two_hosts_are_all_counted() {
    let Some(server) = shared_store() else { return };
    let hosts = [server.open(), server.open()];
    let key = format!("{HOME}counter");
    hosts[0].set(&key, "0".into()).unwrap();
    thread::scope(|scope| {
        for n in 0..8 {
            let (store, key) = (&hosts[n % 2], &key);
            scope.spawn(move || {
                for _ in 0..25 {
                    loop {
                        let found = store.get_versioned(key).unwrap().unwrap();
                        let text = String::from_utf8(found.value.into_bytes()).unwrap();
                        let next = (text.parse::<u32>().unwrap() + 1).to_string();
                        let commit = Commit::new()
                            .require_revision(key, found.revision)
                            .set(key, next.as_str().into());
                        match store.commit(commit) {
                            Ok(_) => break,
                            Err(error) => assert!(matches!(error, StorageError::Conflict(_))),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(hosts[1].get(&key).unwrap(), Some("200".into()));
}

#[test]
fn a_host_is_told_of_its_own_commits_before_they_return() {
    let Some(server) = shared_store() else { return };
    let store = server.open();
    let seen = Arc::new(Seen::default());
    store.shared().unwrap().watch(Arc::clone(&seen) as Arc<dyn Watcher>);
    let change = |previous, revision, keys: &[&str]| Change {
        prefix: HOME.to_owned(),
        previous,
        revision,
        keys: Some(keys.iter().map(|key| format!("{HOME}{key}")).collect()),
        is_own: true,
    };
    let first = put(&store, "app/notes/home/a");
    assert_eq!(seen.take(), [change(None, first, &["a"])]);
    let commit = Commit::new().set(format!("{HOME}b"), "1".into()).delete(format!("{HOME}a"));
    let second = store.commit(commit).unwrap();
    assert_eq!(seen.take(), [change(Some(first), second, &["a", "b"])]);
    let both = Commit::new().set("unscoped", "1".into()).set(format!("{HOME}c"), "1".into());
    let third = store.commit(both).unwrap();
    let reported = seen.take();
    assert_eq!(reported[1], change(Some(second), third, &["c"]));
    assert_eq!((&*reported[0].prefix, reported[0].previous), ("", None));
    let checks = store.commit(Commit::new().require_present(format!("{HOME}b"))).unwrap();
    assert!(checks > third);
    let reported = REPORTS_CHECKS.then(|| change(Some(third), checks, &[]));
    assert_eq!(seen.take(), Vec::from_iter(reported));
    store.commit(Commit::new().require_absent(format!("{HOME}b"))).unwrap_err();
    assert_eq!(seen.take(), []);
}

#[test]
fn a_host_is_told_of_the_commits_of_another() {
    let Some(server) = shared_store() else { return };
    let (writer, reader) = (server.open(), server.open());
    let seen = Arc::new(Seen::default());
    reader.shared().unwrap().watch(Arc::clone(&seen) as Arc<dyn Watcher>);
    // Listening begins in the background, and another test may interrupt it.
    let told = |keys: &[String]| loop {
        let previous = writer.shared().unwrap().component_revisions(&[HOME]).unwrap()[0];
        let commit = keys.iter().fold(Commit::new(), |commit, key| commit.set(key, "1".into()));
        let revision = writer.commit(commit).unwrap();
        if let Some(change) = seen.look_for(|change| change.revision == revision) {
            assert_eq!((&*change.prefix, change.previous), (HOME, previous));
            assert!(!change.is_own);
            return change.keys;
        }
    };
    let keys: Vec<String> = (0..3).map(|n| format!("{HOME}{n}")).collect();
    assert_eq!(told(&keys), Some(keys));
    let many: Vec<String> = (0..2_000).map(|n| format!("{HOME}{n:04}")).collect();
    assert_eq!(told(&many), None);
}

#[test]
fn a_host_listens_again_after_its_connection_was_cut() {
    let Some(server) = shared_store() else { return };
    let (writer, reader) = (server.open(), server.open());
    let seen = Arc::new(Seen::default());
    reader.shared().unwrap().watch(Arc::clone(&seen) as Arc<dyn Watcher>);
    let hear = || loop {
        let written = storage_core::put(&writer, "app/notes/home/a", "1".into());
        if CUTS_WRITERS && written.is_err() {
            continue;
        }
        let revision = written.unwrap();
        thread::sleep(Duration::from_millis(20));
        if seen.take().iter().any(|change| change.revision == revision) {
            return;
        }
    };
    hear();
    server.cut_notices();
    hear();
}

#[test]
fn revisions_of_components_are_those_of_their_last_commits() {
    let Some(server) = shared_store() else { return };
    let (one, other) = (server.open(), server.open());
    let revisions =
        |prefixes: &[&str]| other.shared().unwrap().component_revisions(prefixes).unwrap();
    assert_eq!(revisions(&["", HOME]), [None, None]);
    put(&one, "app/notes/home/a");
    let last = put(&one, "app/notes/home/b");
    let unscoped = put(&one, "unscoped");
    assert_eq!(revisions(&["", "app/notes/work/", HOME]), [Some(unscoped), None, Some(last)]);
    one.delete("app/notes/home/b").unwrap();
    assert!(revisions(&[HOME])[0] > Some(last));
    assert_eq!(revisions(&[]), []);
}

#[test]
fn commits_at_the_same_time_keep_their_own_outcomes() {
    let Some(server) = shared_store() else { return };
    let store = server.open();
    let key = format!("{HOME}lock");
    let winners = AtomicU64::new(0);
    let revisions = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for n in 0..32 {
            let (store, key, winners, revisions) = (&store, &key, &winners, &revisions);
            scope.spawn(move || {
                for round in 0..10 {
                    let create = Commit::new().require_absent(key).set(key, "mine".into());
                    match store.commit(create) {
                        Ok(_) => drop(winners.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => {
                            assert_eq!(error, StorageError::AlreadyExists(key.clone()));
                        }
                    }
                    let own = format!("{HOME}{n}-{round}");
                    revisions.lock().unwrap().push(put(store, &own));
                    let refused = Commit::new()
                        .set(&own, "larger than the budget".into())
                        .with_budget(Budget { max_bytes: 1, max_keys: 1_000 });
                    assert_eq!(store.commit(refused), Err(StorageError::QuotaExceeded));
                }
            });
        }
    });
    assert_eq!(winners.into_inner(), 1);
    let mut revisions = revisions.into_inner().unwrap();
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len(), 320);
    assert_eq!(store.usage(Some(HOME)).unwrap().keys, 321);
    assert_eq!(verifying::problems(&store), []);
}
