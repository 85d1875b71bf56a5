//! The store when the disk fails, or the process dies, at every single step.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;

use storage_core::{Budget, Commit, ComponentStorage, StorageError, StorageValue, Store, Usage};

use super::layout::TEMP_PREFIX;
use super::store::{FileOptions, FileStorage};
use storage_core::Durability;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const ENAMETOOLONG: i32 = 36;

/// What happens to the calling thread's changes to the disk.
#[derive(Debug, Clone)]
enum Plan {
    /// All succeed; they are counted.
    Count,
    /// The one with this number fails.
    Fail { at: usize, errno: i32 },
    /// Those of this kind fail.
    FailKind { operation: &'static str, errno: i32 },
    /// From this number on all fail: the process is gone.
    Die { at: usize },
    /// At the first of this kind somebody puts a copy in the place of the store.
    #[cfg(unix)]
    Replace { operation: &'static str, root: PathBuf },
}

thread_local! {
    static PLAN: RefCell<(Plan, usize)> = const { RefCell::new((Plan::Count, 0)) };
}

/// Asked before every change to the disk.
pub(crate) fn fault_point(operation: &str) -> io::Result<()> {
    PLAN.with_borrow_mut(|(plan, seen)| {
        let this = *seen;
        *seen += 1;
        match plan {
            Plan::Fail { at, errno } if *at == this => Err(io::Error::from_raw_os_error(*errno)),
            Plan::FailKind { operation: kind, errno } if *kind == operation => {
                Err(io::Error::from_raw_os_error(*errno))
            }
            Plan::Die { at } if *at <= this => Err(io::Error::from_raw_os_error(EIO)),
            #[cfg(unix)]
            Plan::Replace { operation: kind, root } if *kind == operation => {
                let moved = root.with_file_name("moved");
                std::fs::rename(&*root, &moved)?;
                let copied =
                    std::process::Command::new("cp").arg("-a").args([&moved, &*root]).status()?;
                assert!(copied.success());
                *plan = Plan::Count;
                Ok(())
            }
            _ => Ok(()),
        }
    })
}

/// Runs with a plan, and tells how many changes were tried.
fn with_plan<T>(plan: Plan, run: impl FnOnce() -> T) -> (T, usize) {
    PLAN.set((plan, 0));
    let result = run();
    let (_, seen) = PLAN.replace((Plan::Count, 0));
    (result, seen)
}

fn open(path: &Path) -> FileStorage {
    FileStorage::open(path, FileOptions::default()).unwrap()
}

const A: &str = "app/notes/home/a";
const B: &str = "app/notes/home/b";
const C: &str = "app/notes/work/c";

fn fill(storage: &FileStorage) {
    storage.set(A, "old a".into()).unwrap();
    storage.set(B, "old b".into()).unwrap();
}

type Contents = BTreeMap<String, Vec<u8>>;

/// What is stored, by key.
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

/// The contents before and after a change, and how many steps it takes.
fn before_and_after(change: Change) -> (Contents, Contents, usize) {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    fill(&storage);
    let before = contents(&storage);
    let (result, steps) = with_plan(Plan::Count, || change(&storage));
    result.unwrap();
    (before, contents(&storage), steps)
}

#[test]
fn a_process_that_dies_at_any_step_leaves_the_old_state_or_the_new() {
    for (name, change) in CHANGES {
        let (before, after, steps) = before_and_after(change);
        assert!(steps > 1, "{name} takes {steps} steps");
        for at in 0..=steps {
            let folder = tempfile::tempdir().unwrap();
            let storage = open(folder.path());
            fill(&storage);
            let (result, _) = with_plan(Plan::Die { at }, || {
                let result = change(&storage);
                drop(storage);
                result
            });
            // A reader sees the same as the writer that cleans up.
            let reader = FileStorage::open_read_only(folder.path(), FileOptions::default());
            let seen = contents(&reader.unwrap());
            let storage = open(folder.path());
            let found = contents(&storage);
            assert_eq!(seen, found, "{name}, step {at}");
            assert!(found == before || found == after, "{name}, step {at}: {found:?}");
            if result.is_ok() {
                assert_eq!(found, after, "{name}, step {at}: acknowledged");
            }
            // All of it works again, and nothing half-written stays.
            change(&storage).unwrap();
            storage.set(A, "end".into()).unwrap();
            storage.set(C, "end".into()).unwrap();
            assert_eq!(temp_files(folder.path()), Vec::<String>::new(), "{name}, step {at}");
        }
    }
}

fn temp_files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if name.starts_with(TEMP_PREFIX) || name.ends_with(".tmp") {
                    found.push(name);
                }
            }
        }
    }
    found
}

#[test]
fn an_opening_that_dies_at_any_step_can_be_repeated() {
    let (_, steps) = with_plan(Plan::Count, || open(tempfile::tempdir().unwrap().path()));
    for at in 0..=steps {
        let folder = tempfile::tempdir().unwrap();
        let _ = with_plan(Plan::Die { at }, || {
            FileStorage::open(folder.path(), FileOptions::default()).map(drop)
        });
        let storage = open(folder.path());
        fill(&storage);
        assert_eq!(contents(&storage).len(), 2, "step {at}");
    }
}

#[test]
fn after_one_failure_the_store_answers_truthfully_or_not_at_all() {
    for errno in [EIO, ENOSPC] {
        for (name, change) in CHANGES {
            let (before, after, steps) = before_and_after(change);
            for at in 0..steps {
                let context = format!("{name}, step {at}, errno {errno}");
                let folder = tempfile::tempdir().unwrap();
                let storage = open(folder.path());
                fill(&storage);
                let (result, _) = with_plan(Plan::Fail { at, errno }, || change(&storage));
                if result.is_ok() {
                    assert_eq!(contents(&storage), after, "{context}");
                    continue;
                }
                // Each key: its old value, its new value, or no answer.
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
                // Writing settles it, and the ledger is right again.
                for key in [A, B, C] {
                    storage.set(key, "settled".into()).unwrap();
                    assert_eq!(storage.get(key), Ok(Some("settled".into())), "{context}");
                }
                let home = Commit::new().set(A, "x".into()).with_budget(Budget::UNLIMITED);
                storage.commit(home).unwrap();
                let usage = storage.usage(Some("app/notes/home/")).unwrap();
                let prefix = "app/notes/home/".len() as u64;
                let expected = Usage { bytes: 2 * (prefix + 1) + 1 + 7, keys: 2 };
                assert_eq!(usage, expected, "{context}");
                drop(storage);
                assert_eq!(contents(&open(folder.path())).len(), 3, "{context}");
            }
        }
    }
}

#[test]
fn a_folder_that_was_not_synced_makes_its_key_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    fill(&storage);
    let plan = Plan::FailKind { operation: "fsync folder", errno: EIO };
    let (result, _) = with_plan(plan, || storage.set(A, "new a".into()));
    assert!(matches!(result, Err(StorageError::IoError(_))), "{result:?}");
    for result in [
        storage.get(A).map(drop),
        storage.exists(A).map(drop),
        storage.commit(Commit::new().require_present(A)).map(drop),
    ] {
        assert!(matches!(result, Err(StorageError::Unavailable { .. })), "{result:?}");
    }
    assert_eq!(storage.get(B), Ok(Some("old b".into())), "another key is not affected");
    storage.delete(A).unwrap();
    assert_eq!(storage.get(A), Ok(None));
}

#[test]
fn a_failed_fsync_of_a_file_keeps_the_old_value() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    fill(&storage);
    for errno in [EIO, ENOSPC] {
        let plan = Plan::FailKind { operation: "fsync", errno };
        let (result, _) = with_plan(plan, || storage.set(A, "new a".into()));
        assert!(matches!(result, Err(StorageError::IoError(_))), "{result:?}");
        assert_eq!(storage.get(A), Ok(Some("old a".into())));
        assert_eq!(temp_files(folder.path()), Vec::<String>::new());
    }
}

#[test]
fn a_name_that_the_file_system_refuses_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    fill(&storage);
    let rename = Plan::FailKind { operation: "rename", errno: ENAMETOOLONG };
    let (single, _) = with_plan(rename, || storage.set(A, "new a".into()));
    let name = Plan::FailKind { operation: "name", errno: ENAMETOOLONG };
    let commit = Commit::new().set(A, "new a".into()).set(B, "new b".into());
    let (several, _) = with_plan(name, || storage.commit(commit).map(drop));
    for error in [single.unwrap_err(), several.unwrap_err()] {
        assert!(error.to_string().contains("File name too long"), "{error}");
        assert_eq!(storage.get(A), Ok(Some("old a".into())));
        assert_eq!(storage.get(B), Ok(Some("old b".into())));
        assert_eq!(temp_files(folder.path()), Vec::<String>::new());
    }
    let reopened = {
        drop(storage);
        open(folder.path())
    };
    assert_eq!(contents(&reopened).len(), 2);
}

#[test]
fn a_full_disk_does_not_stop_a_delete() {
    let folder = tempfile::tempdir().unwrap();
    fill(&open(folder.path()));
    // A new process, so that not even a block of revisions is at hand. The
    // reservation overwrites its file in place, which takes no room.
    let storage = open(folder.path());
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
fn a_commit_that_failed_half_way_keeps_its_values_however_long_it_waits() {
    let commit = || Commit::new().set(A, "new a".into()).set(B, "new b".into());
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    fill(&storage);
    let (_, steps) = with_plan(Plan::Count, || storage.commit(commit()));
    for at in 0..steps {
        let folder = tempfile::tempdir().unwrap();
        let storage = open(folder.path());
        fill(&storage);
        let _ = with_plan(Plan::Fail { at, errno: EIO }, || storage.commit(commit()));
        // So many other components that this one is forgotten meanwhile.
        for number in 0..4200 {
            storage.get(&format!("x/y/{number}/k")).unwrap();
        }
        storage.set("app/notes/home/z", "z".into()).unwrap();
        drop(storage);
        let found = contents(&open(folder.path()));
        let pair = [A, B].map(|key| String::from_utf8_lossy(&found[key]).into_owned());
        let whole = pair == ["old a", "old b"] || pair == ["new a", "new b"];
        assert!(whole, "step {at}: {pair:?}");
    }
}

#[test]
fn a_key_that_is_there_is_in_every_listing_whatever_failed_before() {
    let commit = || Commit::new().set("p/q/r/1", "1".into()).set("p/q/s/1", "1".into());
    for at in 0..40 {
        let folder = tempfile::tempdir().unwrap();
        let storage = open(folder.path());
        fill(&storage);
        storage.list_components(None, 100).unwrap();
        let _ = with_plan(Plan::Fail { at, errno: EIO }, || storage.commit(commit()));
        let _ = storage.set("p/q/r/1", "2".into());
        let keys = storage.list_keys(None).unwrap();
        for key in ["p/q/r/1", "p/q/s/1"] {
            let there = matches!(storage.get(key), Ok(Some(_)));
            assert!(!there || keys.iter().any(|listed| listed == key), "step {at}: {keys:?}");
        }
    }
}

#[test]
fn a_budget_holds_beside_writes_that_fail() {
    let folder = tempfile::tempdir().unwrap();
    let options = FileOptions::default().with_durability(Durability::Os);
    let storage = FileStorage::open(folder.path(), options).unwrap();
    fill(&storage);
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
        // However little the other thread gets of a busy machine.
        while !granted && !failing.is_finished() {
            let commit = Commit::new().set(A, large.clone()).with_budget(budget);
            granted = storage.commit(commit) != Err(StorageError::QuotaExceeded);
        }
        assert!(!granted);
    });
}

#[test]
fn a_delete_is_not_done_before_an_earlier_one_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    fill(&storage);
    let plan = Plan::FailKind { operation: "fsync folder", errno: EIO };
    // Gone for everybody who looks, and back after a power cut.
    with_plan(plan.clone(), || storage.delete(A)).0.unwrap_err();
    drop(storage);
    let storage = open(folder.path());
    with_plan(plan, || storage.delete(A)).0.unwrap_err();
    storage.delete(A).unwrap();
}

#[test]
fn a_recovery_that_dies_at_any_step_can_be_repeated() {
    let change = CHANGES[3].1;
    let (before, after, steps) = before_and_after(change);
    for at in 0..=steps {
        for again in 0..12 {
            let folder = tempfile::tempdir().unwrap();
            let storage = open(folder.path());
            fill(&storage);
            let _ = with_plan(Plan::Die { at }, || change(&storage));
            drop(storage);
            let _ = with_plan(Plan::Die { at: again }, || {
                FileStorage::open(folder.path(), FileOptions::default()).map(drop)
            });
            let found = contents(&open(folder.path()));
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
        let folder = tempfile::tempdir().unwrap();
        let storage = open(folder.path());
        fill(&storage);
        let _ = with_plan(Plan::Die { at }, || change(&storage));
        drop(storage);
        let journal = folder.path().join("journal");
        let published = |entry: io::Result<std::fs::DirEntry>| {
            entry.unwrap().path().extension().is_some_and(|extension| extension == "commit")
        };
        if !std::fs::read_dir(journal).unwrap().any(published) {
            continue;
        }
        recoveries += 1;
        // If the journal's folder cannot be synced, nothing is applied.
        let seen = |root: &Path| std::fs::read(root.join("components").join(A)).unwrap();
        let untouched = seen(folder.path());
        let plan = Plan::FailKind { operation: "fsync folder", errno: EIO };
        let (result, _) = with_plan(plan, || {
            super::journal::recover(&super::layout::Layout::new(folder.path()), true)
        });
        result.unwrap_err();
        assert_eq!(seen(folder.path()), untouched, "step {at}");
    }
    assert!(recoveries > 0);
}

#[test]
fn a_snapshot_leaves_out_no_key_in_doubt() {
    for change in [CHANGES[0].1, CHANGES[2].1] {
        let folder = tempfile::tempdir().unwrap();
        let storage = open(folder.path());
        fill(&storage);
        let plan = Plan::FailKind { operation: "fsync folder", errno: EIO };
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
        let in_doubt = read("", None);
        assert!(
            matches!(&in_doubt, Err(StorageError::Unavailable { key: Some(key), .. }) if key == A),
            "{in_doubt:?}"
        );
        assert_eq!(read(B, None), Ok(1));
        assert_eq!(read("", Some(A)), Ok(1));
        // What was waiting to be settled can be.
        storage.set(A, "settled".into()).unwrap();
        assert_eq!(read("", None), Ok(2));
    }
}

#[cfg(unix)]
#[test]
fn a_store_that_is_replaced_during_an_fsync_is_not_written_to() {
    let one = || Commit::new().set(A, "new".into());
    let several = || Commit::new().set(A, "new".into()).set(C, "new".into()).delete(B);
    for commit in [one(), several()] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        let storage = open(&root);
        fill(&storage);
        let plan = Plan::Replace { operation: "fsync", root: root.clone() };
        let (written, _) = with_plan(plan, || storage.commit(commit));
        assert!(matches!(written, Err(StorageError::Unavailable { key: None, .. })), "{written:?}");
        let now = FileStorage::open_read_only(&root, FileOptions::default()).unwrap();
        assert_eq!(now.get(A), Ok(Some("old a".into())));
        assert_eq!(now.get(B), Ok(Some("old b".into())));
        assert_eq!(now.get(C), Ok(None));
    }
}
