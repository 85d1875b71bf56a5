//! The store when the disk fails or is full, or the process dies, at any step.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::{
    Budget, Commit, ComponentStorage, Durability, ProblemKind, StorageError, StorageValue, Store,
};

use super::options::RedbOptions;
use super::store::RedbStorage;
use crate::faults::{EIO, ENOSPC, Plan, with_plan};

/// Without a cache, so that each read reads the file.
fn options() -> RedbOptions {
    RedbOptions::default().with_cache_bytes(0).with_check_up_to_bytes(0)
}

fn open(path: &Path) -> RedbStorage {
    RedbStorage::open(path, options()).unwrap()
}

struct TestStore(tempfile::TempDir);

impl TestStore {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store.redb")
    }

    fn has_no_problems(&self) {
        let mut problems = Vec::new();
        RedbStorage::verify(self.path(), &mut |problem| problems.push(problem)).unwrap();
        // The tests create files with the mode of the umask.
        problems.retain(|problem| problem.kind == ProblemKind::Damage);
        assert!(problems.is_empty(), "{problems:?}");
    }
}

const A: &str = "app/notes/home/a";
const B: &str = "app/notes/home/b";
const C: &str = "app/notes/home/c";

fn fill(storage: &RedbStorage) {
    let budget = Budget::UNLIMITED;
    for (key, value) in [(A, "old a"), (B, "old b")] {
        storage.commit(Commit::new().set(key, value.into()).with_budget(budget)).unwrap();
    }
    for n in 0..20 {
        let value = StorageValue::new(vec![n; 300]);
        storage.set(&format!("app/notes/work/{n:03}"), value).unwrap();
    }
}

fn filled_store() -> (TestStore, RedbStorage) {
    let test_store = TestStore::new();
    let storage = open(&test_store.path());
    fill(&storage);
    (test_store, storage)
}

/// Filled and flushed, with a long interval between flushes.
fn filled_relaxed(options: RedbOptions) -> (TestStore, RedbStorage) {
    let test_store = TestStore::new();
    let relaxed = options.with_durability(Durability::Relaxed);
    let storage = RedbStorage::open(test_store.path(), relaxed).unwrap();
    fill(&storage);
    storage.flush().unwrap();
    (test_store, storage)
}

type Contents = BTreeMap<String, Vec<u8>>;

/// The values by key.
fn contents(storage: &RedbStorage) -> Contents {
    let keys = storage.list_keys(None).unwrap();
    let value = |key: &String| storage.get(key).unwrap().unwrap().into_bytes();
    keys.iter().map(|key| (key.clone(), value(key))).collect()
}

/// A write or a read.
type Operation = fn(&RedbStorage) -> Result<(), StorageError>;

fn large() -> StorageValue {
    StorageValue::new(vec![7; 100_000])
}

const OPERATIONS: [(&str, Operation); 5] = [
    ("new", |storage| storage.set(C, "new c".into())),
    ("overwrite", |storage| storage.set(A, "new a".into())),
    ("delete", |storage| storage.delete(A)),
    // The file grows.
    ("large", |storage| storage.set(C, large())),
    ("several", |storage| {
        let commit = Commit::new().set(A, "new a".into()).delete(B).set(C, large());
        storage.commit(commit.with_budget(Budget::UNLIMITED)).map(drop)
    }),
];

/// The content and the file of a filled store.
fn filled() -> (Contents, Vec<u8>) {
    let (test_store, storage) = filled_store();
    let before = contents(&storage);
    drop(storage);
    (before, std::fs::read(test_store.path()).unwrap())
}

/// An open store with this file. If `used`, it has committed since it was opened.
fn copy_of(file: &[u8], used: bool) -> (TestStore, RedbStorage) {
    let test_store = TestStore::new();
    std::fs::write(test_store.path(), file).unwrap();
    // A cache reduces the number of steps. After an error the engine is opened again, with
    // an empty cache.
    let cached = options().with_cache_bytes(1 << 20);
    let storage = RedbStorage::open(test_store.path(), cached).unwrap();
    if used {
        storage.set("app/notes/work/000", StorageValue::new(vec![0; 300])).unwrap();
    }
    (test_store, storage)
}

#[test]
fn an_error_at_any_step_leaves_the_old_or_new_state() {
    let (before, file) = filled();
    for (name, operation) in OPERATIONS {
        let (_test_store, storage) = copy_of(&file, true);
        operation(&storage).unwrap();
        let after = contents(&storage);
        for errno in [EIO, ENOSPC] {
            let mut failed = 0;
            for at in 0.. {
                let (test_store, storage) = copy_of(&file, true);
                let revision =
                    storage.get_versioned("app/notes/work/000").unwrap().unwrap().revision;
                let context = format!("{name}, {errno} at step {at}");
                let (result, steps) = with_plan(Plan::Fail { at, errno }, || operation(&storage));
                let here = contents(&storage);
                match &result {
                    Ok(()) => assert!(here == after, "{context}"),
                    Err(StorageError::IoError(_)) => {
                        assert!(here == before || here == after, "{context}");
                    }
                    Err(other) => panic!("{context}: {other:?}"),
                }
                failed += u32::from(result.is_err());
                // The next write succeeds, or the store must be reopened.
                let next = storage_core::put(
                    &storage,
                    "app/notes/work/000",
                    StorageValue::new(vec![0; 300]),
                );
                let next = match next {
                    Ok(revision) => Some(revision),
                    Err(StorageError::Unavailable { .. }) => None,
                    Err(other) => panic!("{context}: {other:?}"),
                };
                drop(storage);
                let again = open(&test_store.path());
                let then = contents(&again);
                assert!(then == after || result.is_err() && then == before, "{context}");
                assert!(
                    here == before || then == after,
                    "{context}: a value that was read is gone"
                );
                let last = storage_core::put(&again, A, "x".into()).unwrap();
                assert!(last > revision && Some(last) > next, "{context}");
                drop(again);
                test_store.has_no_problems();
                if at >= steps {
                    break;
                }
            }
            assert!(failed > 2, "{name}: no step failed");
        }
    }
}

#[test]
fn a_death_at_any_step_leaves_the_old_or_new_state() {
    let (before, file) = filled();
    for ((name, operation), used) in
        OPERATIONS.into_iter().flat_map(|one| [(one, true), (one, false)])
    {
        let (_test_store, storage) = copy_of(&file, true);
        operation(&storage).unwrap();
        let after = contents(&storage);
        for at in 0.. {
            let (test_store, storage) = copy_of(&file, used);
            let (result, steps) = with_plan(Plan::Die { at }, || {
                let result = operation(&storage);
                drop(storage);
                result
            });
            let context = format!("{name}, death at step {at}, {used}");
            let reader = RedbStorage::open_read_only(test_store.path(), options()).unwrap();
            let read = contents(&reader);
            drop(reader);
            let again = open(&test_store.path());
            let then = contents(&again);
            assert!(read == then, "{context}");
            assert!(then == after || result.is_err() && then == before, "{context}");
            drop(again);
            test_store.has_no_problems();
            if at >= steps {
                break;
            }
        }
    }
}

#[test]
fn a_death_during_creation_leaves_no_partial_store() {
    let test_store = TestStore::new();
    let create = |test_store: &TestStore| RedbStorage::open(test_store.path(), options()).map(drop);
    let (created, steps) = with_plan(Plan::Count, || create(&test_store));
    created.unwrap();
    for at in 0..steps {
        let test_store = TestStore::new();
        // Twice: the second creation finds what the first left.
        for round in 0..2 {
            let (created, _) = with_plan(Plan::Die { at: at + round }, || create(&test_store));
            match (created, RedbStorage::open_read_only(test_store.path(), options())) {
                (_, Ok(reader)) => assert_eq!(reader.list_keys(None).unwrap().len(), 0),
                (Err(_), Err(StorageError::IoError(why))) => {
                    assert!(why.contains("does not exist"), "{at}: {why}");
                }
                other => panic!("{at}: {other:?}"),
            }
        }
        let storage = open(&test_store.path());
        storage.set(A, "a".into()).unwrap();
        drop(storage);
        test_store.has_no_problems();
        assert_eq!(std::fs::read_dir(test_store.0.path()).unwrap().count(), 1, "{at}");
    }
}

#[test]
fn a_store_whose_name_is_not_durable_is_not_opened() {
    for missing in ["store.redb", "directory/store.redb"] {
        let test_store = TestStore::new();
        let path = test_store.0.path().join(missing);
        let fails = Plan::FailKind { operation: "sync directory", errno: EIO };
        let (created, _) = with_plan(fails.clone(), || RedbStorage::open(&path, options()));
        assert!(matches!(created, Err(StorageError::IoError(_))), "{created:?}");
        drop(RedbStorage::open(&path, options()).unwrap());
        // The process that created it may have been killed before the sync.
        let (opened, _) = with_plan(fails, || RedbStorage::open(&path, options()));
        assert!(matches!(opened, Err(StorageError::IoError(_))), "{opened:?}");
    }
}

#[test]
fn a_store_whose_last_commit_may_not_be_durable_is_not_opened() {
    let (test_store, storage) = filled_store();
    let expected = contents(&storage);
    drop(storage);
    // A process that was killed before its fsync leaves no trace, so every opening syncs.
    let plan = Plan::FailKind { operation: "sync", errno: EIO };
    let (opened, _) = with_plan(plan, || RedbStorage::open(test_store.path(), options()));
    let error = opened.err().unwrap();
    assert!(matches!(&error, StorageError::IoError(text) if text.contains("fsync")), "{error}");
    assert_eq!(contents(&open(&test_store.path())), expected);
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    for operation in ["write", "set_len"] {
        let (test_store, storage) = filled_store();
        let before = contents(&storage);
        let full = Plan::FailKind { operation, errno: ENOSPC };
        with_plan(full, || {
            for _ in 0..3 {
                let mut writes = vec![
                    storage.set(C, large()),
                    storage.commit(Commit::new().set(C, large()).delete(A)).map(drop),
                ];
                // A delete does not make the file longer.
                writes.extend((operation == "write").then(|| storage.delete(A)));
                for result in writes {
                    let Err(StorageError::IoError(why)) = result else { panic!("{result:?}") };
                    assert!(why.contains("No space left on device"), "{why}");
                }
                assert_eq!(contents(&storage), before);
                assert_eq!(storage.usage(Some("app/notes/home/")).unwrap().keys, 2);
            }
        });
        storage.delete(A).unwrap();
        storage.set(C, "c".into()).unwrap();
        let mut after = before.clone();
        after.remove(A);
        after.insert(C.into(), b"c".to_vec());
        assert_eq!(contents(&storage), after);
        drop(storage);
        assert_eq!(contents(&open(&test_store.path())), after);
        test_store.has_no_problems();
    }
}

/// Reads a snapshot, and runs `happens` after its first key.
fn snapshot_while(
    storage: &RedbStorage,
    happens: impl FnOnce(),
) -> (Contents, Result<(), StorageError>) {
    let mut seen = Contents::new();
    let mut happens = Some(happens);
    let read = storage.read_snapshot("", None, &mut |key, value| {
        if let Some(happens) = happens.take() {
            happens();
        }
        seen.insert(key.to_owned(), value.into_bytes());
        Ok(())
    });
    (seen, read)
}

fn overwrite_everything(storage: &RedbStorage) {
    for round in 0..5 {
        for n in 0..20 {
            let value = StorageValue::new(vec![round; 3000]);
            storage.set(&format!("app/notes/work/{n:03}"), value).unwrap();
        }
    }
}

#[test]
fn a_snapshot_sees_its_state_or_an_error() {
    let full = Plan::FailKind { operation: "write", errno: ENOSPC };
    for begins_on_a_full_disk in [false, true] {
        let (_test_store, storage) = filled_store();
        overwrite_everything(&storage);
        let before = contents(&storage);
        let fill_up = || with_plan(full.clone(), || storage.set(C, large())).0.unwrap_err();
        if begins_on_a_full_disk {
            fill_up();
        }
        let (seen, read) = snapshot_while(&storage, || {
            if !begins_on_a_full_disk {
                fill_up();
            }
            overwrite_everything(&storage);
            storage.set(A, "new a".into()).unwrap();
        });
        assert!(seen.len() < before.len() && seen.iter().all(|(key, value)| before[key] == *value));
        assert!(matches!(read, Err(StorageError::Unavailable { .. })), "{read:?}");
        assert_eq!(storage.get(A), Ok(Some("new a".into())));
    }
}

#[test]
fn after_a_failed_sync_writes_are_refused_until_reopening() {
    for operation in ["sync", "write header"] {
        let (test_store, storage) = filled_store();
        let before = contents(&storage);
        let ((), _) = with_plan(Plan::FailKind { operation, errno: EIO }, || {
            let result = storage.set(A, "new a".into());
            let Err(StorageError::IoError(why)) = result else { panic!("{result:?}") };
            assert!(why.contains("may or may not have taken effect"), "{why}");
        });
        for result in [storage.set(A, "new a".into()), storage.delete(B), storage.flush()] {
            if let Err(error) = result {
                assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
            }
        }
        assert!(matches!(storage.set(A, "x".into()), Err(StorageError::Unavailable { .. })));
        assert_eq!(contents(&storage), before, "a write that may be lost is not visible");
        drop(storage);
        let again = open(&test_store.path());
        assert_eq!(contents(&again), before, "the header was restored");
        again.set(A, "new a".into()).unwrap();
        drop(again);
        test_store.has_no_problems();
    }
}

#[test]
fn an_unreadable_page_affects_only_its_reads() {
    let (test_store, storage) = filled_store();
    let before = contents(&storage);
    let (result, _) = with_plan(Plan::FailKind { operation: "read", errno: EIO }, || {
        [storage.get(A).map(drop), storage.list_keys(None).map(drop), storage.delete(A)]
    });
    for result in result {
        assert!(
            matches!(result, Err(StorageError::IoError(_) | StorageError::Unavailable { .. })),
            "{result:?}"
        );
    }
    assert_eq!(contents(&storage), before);
    storage.delete(A).unwrap();
    drop(storage);
    assert_eq!(open(&test_store.path()).get(A), Ok(None));
}

#[test]
fn a_relaxed_store_loses_nothing_to_a_full_disk_while_it_is_open() {
    // With a cache, so that only a flush finds the full disk.
    let (test_store, storage) = filled_relaxed(RedbOptions::default());
    let full = Plan::FailKind { operation: "write", errno: ENOSPC };
    let (expected, _) = with_plan(full, || {
        // Acknowledged before the full disk is found.
        storage.commit(Commit::new().set(A, "new a".into()).set(C, large())).unwrap();
        let expected = contents(&storage);
        let flushed = storage.flush();
        assert!(matches!(flushed, Err(StorageError::IoError(_))), "{flushed:?}");
        for result in [storage.set(B, "new b".into()), storage.delete(A)] {
            let Err(StorageError::IoError(why)) = result else { panic!("{result:?}") };
            assert!(why.contains("No space left on device"), "{why}");
        }
        assert_eq!(contents(&storage), expected);
        expected
    });
    storage.flush().unwrap();
    // Now it is durable: a copy of the file has it.
    let copy = TestStore::new();
    std::fs::copy(test_store.path(), copy.path()).unwrap();
    assert_eq!(contents(&open(&copy.path())), expected);
    storage.delete(A).unwrap();
    drop(storage);
    assert_eq!(open(&test_store.path()).usage(None).unwrap().keys, 22);
    test_store.has_no_problems();
}

#[test]
fn closing_on_a_full_disk_keeps_the_last_durable_state() {
    let (test_store, storage) = filled_relaxed(options());
    let before = contents(&storage);
    with_plan(Plan::FailKind { operation: "write", errno: ENOSPC }, || {
        storage.set(C, large()).unwrap();
        storage.flush().unwrap_err();
        drop(storage);
    });
    let again = open(&test_store.path());
    assert_eq!(contents(&again), before);
    drop(again);
    test_store.has_no_problems();
}

#[test]
fn lost_writes_are_reported_once() {
    let (test_store, storage) = filled_relaxed(RedbOptions::default());
    let before = contents(&storage);
    with_plan(Plan::FailKind { operation: "write", errno: EIO }, || {
        storage.set(A, "new a".into()).unwrap();
        assert!(matches!(storage.flush(), Err(StorageError::IoError(_))));
    });
    assert_eq!(contents(&storage), before);
    storage.set(B, "new b".into()).unwrap();
    storage.flush().unwrap();
    drop(storage);
    let again = open(&test_store.path());
    assert_eq!(again.get(A), Ok(Some("old a".into())));
    assert_eq!(again.get(B), Ok(Some("new b".into())));
}

#[test]
fn a_reader_continues_after_an_unreadable_page() {
    let (before, file) = filled();
    let test_store = TestStore::new();
    std::fs::write(test_store.path(), file).unwrap();
    let reader = RedbStorage::open_read_only(test_store.path(), options()).unwrap();
    for _ in 0..2 {
        let (result, _) =
            with_plan(Plan::FailKind { operation: "read", errno: EIO }, || reader.get(A));
        assert!(result.is_err(), "{result:?}");
        assert_eq!(contents(&reader), before);
    }
}

#[test]
fn a_panicked_engine_is_not_used_again() {
    let (before, file) = filled();
    let reads: Operation = |storage| storage.get(A).map(drop);
    let writes: Operation = |storage| storage.set(A, "new a".into());
    for (operation, call) in [("read", reads), ("write", writes), ("sync", writes)] {
        let test_store = TestStore::new();
        std::fs::write(test_store.path(), &file).unwrap();
        let storage = open(&test_store.path());
        let panic = Arc::new(|| panic!("a damaged page"));
        let (result, _) = with_plan(Plan::Before { operation, run: panic }, || call(&storage));
        let expected = match result {
            // A write may have happened.
            Err(StorageError::Unavailable { detail, .. }) if operation != "read" => detail,
            Err(StorageError::Corrupt { key: None, detail }) => detail,
            other => panic!("{operation}: {other:?}"),
        };
        assert!(expected.contains("the engine panicked"), "{expected}");
        for result in [reads(&storage), writes(&storage), storage.list_keys(None).map(drop)] {
            assert!(matches!(result, Err(StorageError::Corrupt { key: None, .. })), "{result:?}");
        }
        drop(storage);
        let again = open(&test_store.path());
        let then = contents(&again);
        assert!(then == before || operation != "read" && then[A] == b"new a");
        writes(&again).unwrap();
        drop(again);
        test_store.has_no_problems();
    }
}

/// A store most of whose values were deleted, and its contents.
fn sparse() -> (Contents, Vec<u8>) {
    let (test_store, storage) = filled_store();
    for n in 0..10 {
        storage.set(&format!("app/old/1/{n:03}"), StorageValue::new(vec![n; 30_000])).unwrap();
    }
    for n in 0..8 {
        storage.delete(&format!("app/old/1/{n:03}")).unwrap();
    }
    let before = contents(&storage);
    drop(storage);
    (before, std::fs::read(test_store.path()).unwrap())
}

#[test]
fn compacting_returns_space_and_keeps_every_value() {
    let (before, file) = sparse();
    let (test_store, storage) = copy_of(&file, false);
    let compacted = storage.compact().unwrap();
    assert_eq!(compacted.bytes_before, file.len() as u64);
    assert!(compacted.returned() > file.len() as u64 / 3, "{compacted:?} of {}", file.len());
    assert_eq!(std::fs::metadata(test_store.path()).unwrap().len(), compacted.bytes_after);
    assert!(contents(&storage) == before);
    storage.set(A, "new a".into()).unwrap();
    drop(storage);
    let again = RedbStorage::open_read_only(test_store.path(), options()).unwrap();
    assert_eq!(again.get(A), Ok(Some("new a".into())));
    assert_eq!(again.compact(), Err(StorageError::ReadOnly));
    drop(again);
    test_store.has_no_problems();
}

#[test]
fn an_error_or_a_death_at_any_step_of_compacting_loses_nothing() {
    let (before, file) = sparse();
    let plans: [fn(usize) -> Plan; 3] = [
        |at| Plan::Fail { at, errno: EIO },
        |at| Plan::Fail { at, errno: ENOSPC },
        |at| Plan::Die { at },
    ];
    for (number, plan) in plans.into_iter().enumerate() {
        let mut failed = 0;
        for at in 0.. {
            let (test_store, storage) = copy_of(&file, true);
            let context = format!("plan {number} at step {at}");
            let mut storage = Some(storage);
            let (result, steps) = with_plan(plan(at), || {
                let result = storage.as_ref().unwrap().compact();
                // A dead process writes nothing when it closes the store.
                drop(storage.take_if(|_| number == 2));
                result
            });
            assert!(storage.is_none_or(|storage| contents(&storage) == before), "{context}");
            assert!(matches!(result, Ok(_) | Err(StorageError::IoError(_))), "{context}");
            failed += u32::from(result.is_err());
            let again = open(&test_store.path());
            assert!(contents(&again) == before, "{context}");
            drop(again);
            test_store.has_no_problems();
            if at >= steps {
                break;
            }
        }
        assert!(failed > 5, "plan {number}: {failed} steps failed");
    }
}

#[test]
fn a_full_disk_fails_compacting_and_keeps_writes_that_are_not_durable_yet() {
    let (test_store, storage) = filled_relaxed(RedbOptions::default());
    storage.set(A, "new a".into()).unwrap();
    let full = Plan::FailKind { operation: "write", errno: ENOSPC };
    let (result, _) = with_plan(full, || storage.compact());
    assert!(matches!(result, Err(StorageError::IoError(_))), "{result:?}");
    assert_eq!(storage.get(A), Ok(Some("new a".into())));
    storage.set(B, "new b".into()).unwrap();
    storage.flush().unwrap();
    storage.compact().unwrap();
    drop(storage);
    let again = open(&test_store.path());
    assert_eq!(again.get(A), Ok(Some("new a".into())));
    assert_eq!(again.get(B), Ok(Some("new b".into())));
    drop(again);
    test_store.has_no_problems();
}

#[test]
fn a_disk_that_fills_up_fails_compacting_a_relaxed_store() {
    let (before, file) = sparse();
    let mut failed = 0;
    for at in (0..).step_by(5) {
        let test_store = TestStore::new();
        std::fs::write(test_store.path(), &file).unwrap();
        let relaxed = options().with_durability(Durability::Relaxed);
        let storage = RedbStorage::open(test_store.path(), relaxed).unwrap();
        let (result, steps) = with_plan(Plan::FillUp { at }, || storage.compact());
        failed += u32::from(result.is_err());
        if let Ok(compacted) = result {
            // Nothing of it is only in memory.
            let len = std::fs::metadata(test_store.path()).unwrap().len();
            assert_eq!(len, compacted.bytes_after, "{at}");
        }
        assert!(contents(&storage) == before, "{at}");
        drop(storage);
        assert!(contents(&open(&test_store.path())) == before, "{at}");
        test_store.has_no_problems();
        if at >= steps {
            break;
        }
    }
    assert!(failed > 5, "{failed} steps failed");
}

#[test]
fn a_snapshot_in_progress_prevents_compacting() {
    let (_test_store, storage) = filled_store();
    let mut tried = None;
    let read = storage.read_snapshot("", None, &mut |_, _| {
        tried.get_or_insert_with(|| storage.compact());
        Ok(())
    });
    assert_eq!(read, Ok(()));
    assert!(matches!(tried, Some(Err(StorageError::Unavailable { .. }))), "{tried:?}");
    storage.compact().unwrap();
}
