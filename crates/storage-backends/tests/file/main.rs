//! The file store: its guarantees beyond the contract of every store.
#![cfg(feature = "file")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]

mod contract;
mod damage;
mod fixture;
mod isolation;
#[cfg(unix)]
mod links;
#[cfg(target_os = "linux")]
mod long_names;
mod moved;
mod opening;
#[cfg(unix)]
mod privacy;
mod reading_only;
#[path = "../support/restored.rs"]
mod restored;
mod restoring;
mod snapshots;
#[path = "../support/mod.rs"]
mod support;
mod verifying;

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use storage_backends::{Durability, FileOptions, FileStorage};
use storage_core::{
    Budget, Commit, ComponentId, ComponentStorage, NamespacedStorage, PageRequest, StorageError,
    StorageValue, Store,
};

use support::{Place, SetWhenDropped, files_below};

fn open(path: &Path) -> FileStorage {
    FileStorage::open(path, FileOptions::default()).unwrap()
}

fn read_only(path: &Path) -> FileStorage {
    FileStorage::open_read_only(path, FileOptions::default()).unwrap()
}

#[test]
fn a_journal_file_that_a_power_cut_restores_changes_nothing() {
    let place = Place::new();
    fixture::copy_to(&place);
    let journal = files_below(&place.path().join("journal"));
    let storage = open(&place.path());
    assert!(files_below(&place.path().join("journal")).is_empty());
    // Written after the commit that set one key and deleted the other.
    storage.set("app/notes/home/by-commit", "newer".into()).unwrap();
    storage.set("app/notes/home/to-delete", "newer".into()).unwrap();
    drop(storage);
    for (path, bytes) in journal {
        fs::write(path, bytes).unwrap();
    }
    for storage in [read_only(&place.path()), open(&place.path())] {
        for key in ["app/notes/home/by-commit", "app/notes/home/to-delete"] {
            assert_eq!(storage.get(key), Ok(Some("newer".into())), "{key}");
        }
    }
}

#[test]
fn writes_without_fsync_survive_reopening() {
    let place = Place::new();
    let options = FileOptions::default().with_durability(Durability::Os);
    let storage = FileStorage::open(place.path(), options.clone()).unwrap();
    let first = storage_core::put(&storage, "a/b/c/1", "x".into()).unwrap();
    storage.commit(Commit::new().set("a/b/c/2", "y".into()).set("d/e/f/3", "z".into())).unwrap();
    storage.flush().unwrap();
    storage.delete("a/b/c/1").unwrap();
    storage.flush().unwrap();
    drop(storage);
    let storage = FileStorage::open(place.path(), options).unwrap();
    assert_eq!(storage.list_keys(None).unwrap(), ["a/b/c/2", "d/e/f/3"]);
    assert!(storage_core::put(&storage, "a/b/c/1", "x".into()).unwrap() > first);
}

#[test]
fn components_beyond_those_in_memory_keep_their_keys_and_usage() {
    let place = Place::new();
    let options =
        FileOptions::default().with_durability(Durability::Os).with_index_budget_bytes(10_000);
    let storage = FileStorage::open(place.path(), options).unwrap();
    let budget = Budget { max_bytes: 1000, max_keys: 2 };
    let prefix = |number: usize| format!("app/many/{number}/");
    for round in 0..2 {
        for number in 0..5000 {
            let key = format!("{}{round}", prefix(number));
            storage.commit(Commit::new().set(key, "x".into()).with_budget(budget)).unwrap();
        }
    }
    for number in (0..5000).step_by(97) {
        let third = Commit::new().set(format!("{}2", prefix(number)), "x".into());
        let refused = storage.commit(third.with_budget(budget));
        assert_eq!(refused, Err(StorageError::QuotaExceeded));
        let keys = [0, 1].map(|round| format!("{}{round}", prefix(number)));
        assert_eq!(storage.list_keys(Some(&prefix(number))).unwrap(), keys);
    }
    assert_eq!(storage.list_components(None, 10_000).unwrap().keys.len(), 5000);
}

#[test]
fn indexes_beyond_their_budget_are_rebuilt() {
    let place = Place::new();
    let options =
        FileOptions::default().with_durability(Durability::Os).with_index_budget_bytes(200);
    let storage = FileStorage::open(place.path(), options).unwrap();
    for component in 0..5 {
        for key in 0..10 {
            storage.set(&format!("app/notes/{component}/{key}"), "".into()).unwrap();
        }
    }
    for round in 0..3 {
        for component in 0..5 {
            let prefix = format!("app/notes/{component}/");
            let page = storage.list_page(PageRequest::new(100).with_prefix(&prefix)).unwrap();
            assert_eq!(page.keys.len(), 10 + round);
            storage.set(&format!("{prefix}new-{round}"), "".into()).unwrap();
        }
    }
}

#[test]
fn foreign_files_are_not_listed() {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set("app/notes/home/a", "".into()).unwrap();
    let directory = place.path().join("components/app/notes/home");
    for name in ["README.md", ".DS_Store", "Upper", "with space", "x%%y"] {
        fs::write(directory.join(name), "x").unwrap();
    }
    fs::create_dir(directory.join("backup")).unwrap();
    let in_journal = [place.path().join("journal/notes.txt"), place.path().join("journal/old")];
    fs::write(&in_journal[0], "x").unwrap();
    fs::create_dir(&in_journal[1]).unwrap();
    fs::create_dir_all(place.path().join("components/lost+found")).unwrap();
    fs::write(place.path().join("components/notes.txt"), "x").unwrap();
    assert_eq!(storage.list_keys(None).unwrap(), ["app/notes/home/a"]);
    assert_eq!(storage.list_components(None, 9).unwrap().keys, ["app/notes/home/"]);
    assert_eq!(read_only(&place.path()).usage(None).unwrap().keys, 1);
    drop(storage);
    assert_eq!(open(&place.path()).list_keys(None).unwrap(), ["app/notes/home/a"]);
    assert!(in_journal.iter().all(|path| path.exists()));
}

#[test]
fn concurrent_writes_of_a_component_are_listed_and_counted() {
    let place = Place::new();
    let options = FileOptions::default().with_durability(Durability::Os);
    let storage = FileStorage::open(place.path(), options).unwrap();
    let budget = Budget { max_bytes: 1_000_000, max_keys: 200 };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let storage = &storage;
            scope.spawn(move || {
                for number in 0..50 {
                    let key = format!("app/notes/home/{thread}-{number:02}");
                    storage
                        .commit(Commit::new().set(&key, "x".into()).with_budget(budget))
                        .unwrap();
                    let listed = storage.list_keys(Some(&key)).unwrap();
                    assert_eq!(listed, [key]);
                }
            });
        }
    });
    let over = Commit::new().set("app/notes/home/one-more", "x".into()).with_budget(budget);
    assert_eq!(storage.commit(over), Err(StorageError::QuotaExceeded));
    assert_eq!(storage.list_keys(None).unwrap().len(), 200);
}
