//! The conformance suite, and what it cannot know: locks, foreign files, `verify`.

use sqlite_store::SqliteStore;
use storage_core::conformance::{Feature, Implementation, run};
use storage_core::{ComponentStorage, StorageError, Store};

#[test]
fn the_contract_holds() {
    let sqlite = || {
        Implementation::persistent("sqlite", || {
            // In memory where that is possible: the suite makes thousands of commits.
            let memory = tempfile::tempdir_in("/dev/shm");
            let directory = memory.or_else(|_| tempfile::tempdir()).unwrap();
            move || SqliteStore::open(directory.path().join("store.db")).unwrap()
        })
    };
    let report = run(&sqlite());
    assert!(report.skipped.iter().all(|(_, missing)| *missing == Feature::SeveralHosts));
    run(&sqlite().namespaced());
}

#[test]
fn a_second_opening_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StorageError::Locked(_))));
    drop(store);
    SqliteStore::open(&path).unwrap();
}

#[test]
fn a_foreign_database_is_refused_and_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.db");
    rusqlite::Connection::open(&path).unwrap().execute("CREATE TABLE t (x)", []).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StorageError::Unsupported(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn verify_finds_a_wrong_usage_counter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    store.set("app/notes/home/a", "1".into()).unwrap();
    assert_eq!(store.verify(&mut |problem| panic!("{problem}")).unwrap().usage.keys, 1);
    drop(store);
    rusqlite::Connection::open(&path).unwrap().execute("UPDATE usage SET keys = 7", []).unwrap();
    let mut problems = Vec::new();
    let store = SqliteStore::open(&path).unwrap();
    store.verify(&mut |problem| problems.push(problem.to_string())).unwrap();
    assert_eq!(problems, ["database: wrong usage counters"]);
}
