//! Copies of a store in use.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use storage_core::{Budget, StorageError};

use super::*;

#[test]
fn a_copy_is_independent() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    storage.set("app/notes/home/a", "1".into()).unwrap();
    storage.set("loose", "2".into()).unwrap();
    let last = storage.commit(set("app/notes/home/b", "3").with_budget(Budget::UNLIMITED)).unwrap();
    let before = contents(&storage);
    let target = dir.at("missing/copy");
    storage.checkpoint(&target).unwrap();
    storage.set("app/notes/home/a", "later".into()).unwrap();
    storage.delete("loose").unwrap();

    assert_sound(&target);
    assert_eq!(contents(&read_only(&target)), before);
    let copy = open(&target);
    assert_eq!(contents(&copy), before);
    assert_ne!(copy.store_id(), storage.store_id());
    assert!(storage_core::put(&copy, "app/notes/home/c", "x".into()).unwrap() > last);
    // Writes to one do not appear in the other.
    assert_eq!(storage.get("app/notes/home/c"), Ok(None));
    drop((copy, storage));
    assert_sound(&target);
    assert_sound(&dir.path());
    let entries = fs::read_dir(target.parent().unwrap()).unwrap().count();
    assert_eq!(entries, 1, "only the copy is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "the copy is its owner's alone");
    }
}

#[test]
fn a_copy_replaces_nothing() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    let target = dir.at("taken");
    fs::write(&target, "text").unwrap();
    assert!(matches!(storage.checkpoint(&target), Err(StorageError::IoError(_))));
    assert_eq!(fs::read(&target).unwrap(), b"text");
    assert!(matches!(storage.checkpoint(&dir.path()), Err(StorageError::IoError(_))));
    let reader = read_only(&dir.path());
    assert_eq!(reader.checkpoint(&dir.at("other")), Err(StorageError::ReadOnly));
}

#[test]
fn a_copy_during_writes_is_a_snapshot() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    let keys = ["app/notes/one/k", "app/notes/two/k", "loose"];
    let commit = |number: u32| {
        let text = number.to_string();
        let commit =
            keys.iter().fold(Commit::new(), |commit, key| commit.set(*key, text.as_str().into()));
        storage.commit(commit).unwrap();
        let budgeted = set(&format!("app/notes/one/{}", number % 30), &text);
        storage.commit(budgeted.with_budget(Budget::UNLIMITED)).unwrap();
    };
    commit(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                commit(number);
                if done.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        let _end = SetWhenDropped(&done);
        for number in 0..8 {
            let target = dir.at(&format!("copy-{number}"));
            storage.checkpoint(&target).unwrap();
            assert_sound(&target);
            let copy = read_only(&target);
            let values: Vec<_> = keys.iter().map(|key| copy.get(key).unwrap()).collect();
            assert!(values.iter().all(|value| *value == values[0]), "{number}");
        }
    });
}
