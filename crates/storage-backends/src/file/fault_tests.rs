//! The store when the disk fails or the process dies at any step.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use storage_core::{
    Budget, Commit, ComponentStorage, Durability, StorageError, StorageValue, Store, Usage,
};

use super::layout::{Layout, TEMP_PREFIX};
use super::store::{FileOptions, FileStorage};
use crate::faults::{EIO, ENOSPC, Plan, with_plan};

const ENAMETOOLONG: i32 = 36;

fn open(path: &Path) -> FileStorage {
    FileStorage::open(path, FileOptions::default()).unwrap()
}

const A: &str = "app/notes/home/a";
const B: &str = "app/notes/home/b";
const C: &str = "app/notes/work/c";

/// A store with two keys, and its directory.
fn filled() -> (tempfile::TempDir, FileStorage) {
    let directory = tempfile::tempdir().unwrap();
    let storage = open(directory.path());
    storage.set(A, "old a".into()).unwrap();
    storage.set(B, "old b".into()).unwrap();
    (directory, storage)
}

type Contents = BTreeMap<String, Vec<u8>>;

/// The values by key.
fn contents(storage: &FileStorage) -> Contents {
    let keys = storage.list_keys(None).unwrap();
    keys.into_iter()
        .map(|key| {
            let value = storage.get(&key).unwrap().unwrap();
            (key, value.into_bytes())
        })
        .collect()
}

type Change = fn(&FileStorage) -> Result<(), StorageError>;

/// Every kind of write.
const CHANGES: [(&str, Change); 5] = [
    ("set", |storage| storage.set(A, "new a".into())),
    ("create in a new component", |storage| storage.set(C, "new c".into())),
    ("delete", |storage| storage.delete(A)),
    ("commit", |storage| {
        let commit = Commit::new().set(A, "new a".into()).delete(B).set(C, "new c".into());
        storage.commit(commit).map(drop)
    }),
    ("budgeted commit", |storage| {
        let budget = Budget { max_bytes: 1000, max_keys: 10 };
        let commit = Commit::new().set(A, "longer a".into()).delete(B).with_budget(budget);
        storage.commit(commit).map(drop)
    }),
];

/// The contents before and after a change, and the number of operations.
fn before_and_after(change: Change) -> (Contents, Contents, usize) {
    let (_directory, storage) = filled();
    let before = contents(&storage);
    let (result, steps) = with_plan(Plan::Count, || change(&storage));
    result.unwrap();
    (before, contents(&storage), steps)
}

#[test]
fn a_process_that_dies_leaves_the_old_or_the_new_state() {
    for (name, change) in CHANGES {
        let (before, after, steps) = before_and_after(change);
        assert!(steps > 1, "{name} takes {steps} steps");
        for at in 0..=steps {
            let (directory, storage) = filled();
            let (result, _) = with_plan(Plan::Die { at }, || {
                let result = change(&storage);
                drop(storage);
                result
            });
            // A reader sees the same as the next writer.
            let reader = FileStorage::open_read_only(directory.path(), FileOptions::default());
            let seen = contents(&reader.unwrap());
            let storage = open(directory.path());
            let found = contents(&storage);
            assert_eq!(seen, found, "{name}, step {at}");
            assert!(found == before || found == after, "{name}, step {at}: {found:?}");
            if result.is_ok() {
                assert_eq!(found, after, "{name}, step {at}: acknowledged");
            }
            // Writes work again, and no temporary file is left.
            change(&storage).unwrap();
            storage.set(A, "end".into()).unwrap();
            storage.set(C, "end".into()).unwrap();
            assert_eq!(temp_files(directory.path()), Vec::<String>::new(), "{name}, step {at}");
        }
    }
}

/// The names of temporary files anywhere in a store.
fn temp_files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                directories.push(entry.path());
            } else if name.starts_with(TEMP_PREFIX) || name.ends_with(".tmp") {
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn a_process_that_dies_while_opening_leaves_a_store_that_opens() {
    let (_, steps) = with_plan(Plan::Count, || open(tempfile::tempdir().unwrap().path()));
    for at in 0..=steps {
        let directory = tempfile::tempdir().unwrap();
        let _ = with_plan(Plan::Die { at }, || {
            FileStorage::open(directory.path(), FileOptions::default()).map(drop)
        });
        let storage = open(directory.path());
        storage.set(A, "a".into()).unwrap();
        assert_eq!(contents(&storage).len(), 1, "step {at}");
    }
}

#[test]
fn after_a_failure_a_key_has_its_old_or_new_value_or_is_unavailable() {
    for errno in [EIO, ENOSPC] {
        for (name, change) in CHANGES {
            let (before, after, steps) = before_and_after(change);
            for at in 0..steps {
                let context = format!("{name}, step {at}, errno {errno}");
                let (directory, storage) = filled();
                let (result, _) = with_plan(Plan::Fail { at, errno }, || change(&storage));
                if result.is_ok() {
                    assert_eq!(contents(&storage), after, "{context}");
                    continue;
                }
                for key in [A, B, C] {
                    match storage.get(key) {
                        Ok(found) => {
                            let found = found.map(Vec::from);
                            let old = before.get(key).cloned();
                            let new = after.get(key).cloned();
                            assert!(found == old || found == new, "{context}: {key} {found:?}");
                        }
                        Err(StorageError::Unavailable { key: Some(named), .. }) => {
                            assert_eq!(named, key, "{context}");
                        }
                        Err(other) => panic!("{context}: {other}"),
                    }
                }
                // Writing resolves the outcome, and the usage is correct.
                for key in [A, B, C] {
                    storage.set(key, "written".into()).unwrap();
                    assert_eq!(storage.get(key), Ok(Some("written".into())), "{context}");
                }
                let home = Commit::new().set(A, "x".into()).with_budget(Budget::UNLIMITED);
                storage.commit(home).unwrap();
                let usage = storage.usage(Some("app/notes/home/")).unwrap();
                let prefix = "app/notes/home/".len() as u64;
                let expected = Usage { bytes: 2 * (prefix + 1) + 1 + 7, keys: 2 };
                assert_eq!(usage, expected, "{context}");
                drop(storage);
                assert_eq!(contents(&open(directory.path())).len(), 3, "{context}");
            }
        }
    }
}

#[test]
fn a_key_in_a_directory_that_was_not_synced_is_unavailable() {
    let (_directory, storage) = filled();
    let plan = Plan::FailKind { operation: "fsync directory", errno: EIO };
    let (result, _) = with_plan(plan, || storage.set(A, "new a".into()));
    assert!(matches!(result, Err(StorageError::IoError(_))), "{result:?}");
    for result in [
        storage.get(A).map(drop),
        storage.exists(A).map(drop),
        storage.commit(Commit::new().require_present(A)).map(drop),
    ] {
        assert!(matches!(result, Err(StorageError::Unavailable { .. })), "{result:?}");
    }
    assert_eq!(storage.get(B), Ok(Some("old b".into())), "other keys are not affected");
    storage.delete(A).unwrap();
    assert_eq!(storage.get(A), Ok(None));
}

#[test]
fn a_failed_fsync_of_a_file_keeps_the_old_value() {
    let (directory, storage) = filled();
    for errno in [EIO, ENOSPC] {
        let plan = Plan::FailKind { operation: "fsync", errno };
        let (result, _) = with_plan(plan, || storage.set(A, "new a".into()));
        assert!(matches!(result, Err(StorageError::IoError(_))), "{result:?}");
        assert_eq!(storage.get(A), Ok(Some("old a".into())));
        assert_eq!(temp_files(directory.path()), Vec::<String>::new());
    }
}

#[test]
fn a_name_that_the_file_system_refuses_changes_nothing() {
    let (directory, storage) = filled();
    let rename = Plan::FailKind { operation: "rename", errno: ENAMETOOLONG };
    let (single, _) = with_plan(rename, || storage.set(A, "new a".into()));
    let name = Plan::FailKind { operation: "name", errno: ENAMETOOLONG };
    let commit = Commit::new().set(A, "new a".into()).set(B, "new b".into());
    let (several, _) = with_plan(name, || storage.commit(commit).map(drop));
    for error in [single.unwrap_err(), several.unwrap_err()] {
        assert!(error.to_string().contains("File name too long"), "{error}");
        assert_eq!(storage.get(A), Ok(Some("old a".into())));
        assert_eq!(storage.get(B), Ok(Some("old b".into())));
        assert_eq!(temp_files(directory.path()), Vec::<String>::new());
    }
    drop(storage);
    assert_eq!(contents(&open(directory.path())).len(), 2);
}

#[test]
fn a_full_disk_does_not_prevent_a_delete() {
    let (directory, storage) = filled();
    drop(storage);
    // A new process has no reserved revisions. Reserving them overwrites the file in
    // place, which needs no space.
    let storage = open(directory.path());
    let plan = Plan::FailKind { operation: "write", errno: ENOSPC };
    let ((deleted, written), _) =
        with_plan(plan, || (storage.delete(A), storage.set(B, "new b".into())));
    deleted.unwrap();
    let message = written.unwrap_err().to_string();
    assert!(message.contains("No space left on device"), "{message}");
    assert_eq!(storage.get(A), Ok(None));
    assert_eq!(storage.get(B), Ok(Some("old b".into())));
}

#[test]
fn a_commit_that_failed_is_completed_after_its_component_left_memory() {
    let commit = || Commit::new().set(A, "new a".into()).set(B, "new b".into());
    let (_directory, storage) = filled();
    let (_, steps) = with_plan(Plan::Count, || storage.commit(commit()));
    for at in 0..steps {
        let (directory, storage) = filled();
        let _ = with_plan(Plan::Fail { at, errno: EIO }, || storage.commit(commit()));
        // So many components that this one is dropped from memory.
        for number in 0..4200 {
            storage.get(&format!("x/y/{number}/k")).unwrap();
        }
        storage.set("app/notes/home/z", "z".into()).unwrap();
        drop(storage);
        let found = contents(&open(directory.path()));
        let pair = [A, B].map(|key| String::from_utf8_lossy(&found[key]).into_owned());
        let whole = pair == ["old a", "old b"] || pair == ["new a", "new b"];
        assert!(whole, "step {at}: {pair:?}");
    }
}

#[test]
fn a_key_that_exists_is_listed_after_any_failure() {
    let commit = || Commit::new().set("p/q/r/1", "1".into()).set("p/q/s/1", "1".into());
    for at in 0..40 {
        let (_directory, storage) = filled();
        storage.list_components(None, 100).unwrap();
        let _ = with_plan(Plan::Fail { at, errno: EIO }, || storage.commit(commit()));
        let _ = storage.set("p/q/r/1", "2".into());
        let keys = storage.list_keys(None).unwrap();
        for key in ["p/q/r/1", "p/q/s/1"] {
            let exists = matches!(storage.get(key), Ok(Some(_)));
            assert!(!exists || keys.iter().any(|listed| listed == key), "step {at}: {keys:?}");
        }
    }
}

#[test]
fn a_budget_holds_while_other_writes_fail() {
    let (directory, storage) = filled();
    drop(storage);
    let options = FileOptions::default().with_durability(Durability::Os);
    let storage = FileStorage::open(directory.path(), options).unwrap();
    let budget = Budget { max_bytes: 300, max_keys: 10 };
    let large = StorageValue::from(vec![b'x'; 1000]);
    let plan = Plan::FailKind { operation: "rename", errno: EIO };
    std::thread::scope(|scope| {
        let failing = scope.spawn(|| {
            for _ in 0..1000 {
                let (failed, _) = with_plan(plan.clone(), || storage.set(B, "b".into()));
                failed.unwrap_err();
            }
        });
        let mut granted = false;
        // Until the other thread is done, however slow the machine is.
        while !granted && !failing.is_finished() {
            let commit = Commit::new().set(A, large.clone()).with_budget(budget);
            granted = storage.commit(commit) != Err(StorageError::QuotaExceeded);
        }
        assert!(!granted);
    });
}

#[test]
fn a_delete_of_a_missing_key_makes_an_earlier_delete_durable() {
    let (directory, storage) = filled();
    let plan = Plan::FailKind { operation: "fsync directory", errno: EIO };
    // The key is missing, and a power cut would bring it back.
    with_plan(plan.clone(), || storage.delete(A)).0.unwrap_err();
    drop(storage);
    let storage = open(directory.path());
    with_plan(plan, || storage.delete(A)).0.unwrap_err();
    storage.delete(A).unwrap();
}

#[test]
fn a_process_that_dies_during_recovery_leaves_the_old_or_the_new_state() {
    let change = CHANGES[3].1;
    let (before, after, steps) = before_and_after(change);
    for at in 0..=steps {
        for again in 0..12 {
            let (directory, storage) = filled();
            let _ = with_plan(Plan::Die { at }, || change(&storage));
            drop(storage);
            let _ = with_plan(Plan::Die { at: again }, || {
                FileStorage::open(directory.path(), FileOptions::default()).map(drop)
            });
            let found = contents(&open(directory.path()));
            assert!(found == before || found == after, "steps {at}, {again}: {found:?}");
        }
    }
}

#[test]
fn a_journal_is_durable_before_it_is_applied() {
    let change = CHANGES[3].1;
    let (_, _, steps) = before_and_after(change);
    let mut recoveries = 0;
    for at in 0..=steps {
        let (directory, storage) = filled();
        let _ = with_plan(Plan::Die { at }, || change(&storage));
        drop(storage);
        let layout = Layout::new(directory.path());
        if super::journal::pending(&layout).unwrap().is_empty() {
            continue;
        }
        recoveries += 1;
        // If the journal directory cannot be synced, nothing is applied.
        let value = || std::fs::read(layout.key_file(A)).unwrap();
        let before = value();
        let plan = Plan::FailKind { operation: "fsync directory", errno: EIO };
        with_plan(plan, || super::journal::recover(&layout, true)).0.unwrap_err();
        assert_eq!(value(), before, "step {at}");
    }
    assert!(recoveries > 0);
}

#[test]
fn a_snapshot_with_an_indeterminate_key_fails() {
    for change in [CHANGES[0].1, CHANGES[2].1] {
        let (_directory, storage) = filled();
        let plan = Plan::FailKind { operation: "fsync directory", errno: EIO };
        with_plan(plan, || change(&storage)).0.unwrap_err();
        let read = |prefix: &str, after: Option<&str>| {
            let mut seen = 0;
            storage
                .read_snapshot(prefix, after, &mut |_, _| {
                    seen += 1;
                    Ok(())
                })
                .map(|()| seen)
        };
        let indeterminate = read("", None);
        assert!(
            matches!(&indeterminate, Err(StorageError::Unavailable { key: Some(key), .. }) if key == A),
            "{indeterminate:?}"
        );
        assert_eq!(read(B, None), Ok(1));
        assert_eq!(read("", Some(A)), Ok(1));
        storage.set(A, "written".into()).unwrap();
        assert_eq!(read("", None), Ok(2));
    }
}

#[cfg(unix)]
#[test]
fn a_store_that_is_replaced_during_an_fsync_is_not_written_to() {
    let one = || Commit::new().set(A, "new".into());
    let several = || Commit::new().set(A, "new".into()).set(C, "new".into()).delete(B);
    for commit in [one(), several()] {
        let (directory, storage) = filled();
        let root = directory.path().to_owned();
        let moved = directory.path().with_extension("moved");
        let replace = {
            let (root, moved) = (root.clone(), moved.clone());
            move || {
                if !moved.exists() {
                    std::fs::rename(&root, &moved).unwrap();
                    let mut copy = std::process::Command::new("cp");
                    assert!(copy.arg("-a").args([&moved, &root]).status().unwrap().success());
                }
            }
        };
        let plan = Plan::Before { operation: "fsync", run: Arc::new(replace) };
        let (written, _) = with_plan(plan, || storage.commit(commit));
        std::fs::remove_dir_all(moved).unwrap();
        assert!(matches!(written, Err(StorageError::Unavailable { key: None, .. })), "{written:?}");
        let now = FileStorage::open_read_only(&root, FileOptions::default()).unwrap();
        assert_eq!(now.get(A), Ok(Some("old a".into())));
        assert_eq!(now.get(B), Ok(Some("old b".into())));
        assert_eq!(now.get(C), Ok(None));
    }
}
