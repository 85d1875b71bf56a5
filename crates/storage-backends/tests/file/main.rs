//! The file store: its guarantees beyond the contract of every store.
#![cfg(feature = "file")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]

mod damage;
mod isolation;
#[cfg(unix)]
mod links;
#[cfg(target_os = "linux")]
mod long_names;
mod moved;
mod opening;
#[cfg(unix)]
mod privacy;
mod restoring;
mod snapshots;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of other stores")]
mod support;
mod verifying;

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use storage_backends::{Durability, FileOptions, FileStorage};
use storage_core::{
    Budget, Commit, ComponentId, ComponentStorage, NamespacedStorage, StorageError, StorageValue,
    Store,
};

use support::{StoreDir, contents, files_below};

fn open(path: &Path) -> FileStorage {
    FileStorage::open(path, FileOptions::default()).unwrap()
}

fn read_only(path: &Path) -> FileStorage {
    FileStorage::open_read_only(path, FileOptions::default()).unwrap()
}

/// The results of opening a store to write and to read it.
fn opened_both_ways(path: &Path) -> [Result<FileStorage, StorageError>; 2] {
    let options = FileOptions::default;
    [FileStorage::open(path, options()), FileStorage::open_read_only(path, options())]
}

#[test]
fn a_journal_file_that_a_power_cut_restores_changes_nothing() {
    let dir = StoreDir::fixture("file-format-1");
    let journal = files_below(&dir.path().join("journal"));
    let storage = open(&dir.path());
    assert!(files_below(&dir.path().join("journal")).is_empty());
    // Recovery keeps the revision of the commit.
    let committed = storage.get_versioned("app/notes/home/by-commit").unwrap().unwrap();
    let later = storage_core::put(&storage, "app/notes/home/later", "x".into()).unwrap();
    assert!(later > committed.revision);
    // Written after the commit that set one key and deleted the other.
    storage.set("app/notes/home/by-commit", "newer".into()).unwrap();
    storage.set("app/notes/home/to-delete", "newer".into()).unwrap();
    drop(storage);
    for (path, bytes) in journal {
        fs::write(path, bytes).unwrap();
    }
    for storage in [read_only(&dir.path()), open(&dir.path())] {
        for key in ["app/notes/home/by-commit", "app/notes/home/to-delete"] {
            assert_eq!(storage.get(key), Ok(Some("newer".into())), "{key}");
        }
    }
}

#[test]
fn components_beyond_those_in_memory_keep_their_keys_and_usage() {
    let dir = StoreDir::new();
    let options =
        FileOptions::default().with_durability(Durability::Os).with_index_budget_bytes(10_000);
    let storage = FileStorage::open(dir.path(), options).unwrap();
    let budget = Budget { max_bytes: 1000, max_keys: 2 };
    let prefix = |number: usize| format!("app/many/{number}/");
    for round in 0..2 {
        for number in 0..1500 {
            let key = format!("{}{round}", prefix(number));
            storage.commit(Commit::new().set(key, "x".into()).with_budget(budget)).unwrap();
        }
    }
    for number in (0..1500).step_by(97) {
        let third = Commit::new().set(format!("{}2", prefix(number)), "x".into());
        let refused = storage.commit(third.with_budget(budget));
        assert_eq!(refused, Err(StorageError::QuotaExceeded));
        let keys = [0, 1].map(|round| format!("{}{round}", prefix(number)));
        assert_eq!(storage.list_keys(Some(&prefix(number))).unwrap(), keys);
    }
    assert_eq!(storage.list_components(None, 10_000).unwrap().keys.len(), 1500);
}

#[test]
fn foreign_files_are_not_listed() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    storage.set("app/notes/home/a", "".into()).unwrap();
    let directory = dir.path().join("components/app/notes/home");
    for name in ["README.md", ".DS_Store", "Upper", "with space", "x%%y"] {
        fs::write(directory.join(name), "x").unwrap();
    }
    fs::create_dir(directory.join("backup")).unwrap();
    // macOS creates such files, and people use such names.
    let in_journal = ["._0000000000000008.commit", "notes.commit", "notes.tmp", ".nfs0000.tmp"]
        .map(|name| dir.path().join("journal").join(name));
    in_journal.iter().for_each(|path| fs::write(path, "x").unwrap());
    fs::create_dir(dir.path().join("journal/old")).unwrap();
    fs::create_dir_all(dir.path().join("components/lost+found")).unwrap();
    fs::write(dir.path().join("components/notes.txt"), "x").unwrap();
    assert_eq!(storage.list_keys(None).unwrap(), ["app/notes/home/a"]);
    assert_eq!(storage.list_components(None, 9).unwrap().keys, ["app/notes/home/"]);
    assert_eq!(read_only(&dir.path()).usage(None).unwrap().keys, 1);
    drop(storage);
    assert_eq!(open(&dir.path()).list_keys(None).unwrap(), ["app/notes/home/a"]);
    assert!(in_journal.iter().all(|path| path.exists()));
}
