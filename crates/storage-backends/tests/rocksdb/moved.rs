//! A store whose path is taken by another one, or leads elsewhere.

#![cfg(unix)]

use std::process::Command;

use storage_core::{Budget, StorageError, Store};

use super::*;

/// This very test in another process, which writes to the store at the path.
const CHILD: &str = "STORAGE_TEST_ROCKSDB_SECOND";

/// Has another process write to the store: RocksDB itself keeps one process from
/// opening a path twice.
fn write_in_another_process(test: &str, place: &Place) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(CHILD, place.path())
        .status();
    assert!(status.unwrap().success());
}

fn is_child() -> bool {
    let Some(path) = std::env::var_os(CHILD) else { return false };
    open(Path::new(&path)).set("a/b/c/1", "second".into()).unwrap();
    true
}

fn refused<T: std::fmt::Debug>(result: Result<T, StorageError>, place: &Place) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { key: None, .. }), "{error:?}");
    error.to_string().replace(&*place.path().to_string_lossy(), "STORE")
}

fn away(place: &Place) -> PathBuf {
    place.path().with_extension("old")
}

/// What a store is written by: one key, several, and those that are counted.
fn writes(storage: &RocksDbStorage) -> [Result<(), StorageError>; 5] {
    let several = || Commit::new().set("a/b/c/1", "first".into()).set("d/e/f/2", "first".into());
    let budget = Budget { max_bytes: 1_000, max_keys: 10 };
    let counted = Commit::new().set("x/y/z/1", "first".into()).with_budget(budget);
    [
        storage.set("a/b/c/1", "first".into()),
        storage.delete("a/b/c/2"),
        storage.commit(several()).map(drop),
        storage.commit(several().require_value("a/b/c/1", "old".into())).map(drop),
        storage.commit(counted).map(drop),
    ]
}

#[test]
fn a_replaced_store_is_not_written_to() {
    if is_child() {
        return;
    }
    for options in [small(), unsynced()] {
        let place = Place::new();
        let first = RocksDbStorage::open(place.path(), options.clone()).unwrap();
        first.set("a/b/c/1", "old".into()).unwrap();
        first.flush().unwrap();
        fs::rename(place.path(), away(&place)).unwrap();
        copy_files(&away(&place), &place.path());
        write_in_another_process("moved::a_replaced_store_is_not_written_to", &place);
        let before = place.tree();
        for result in writes(&first) {
            insta::allow_duplicates! {
                insta::assert_snapshot!(refused(result, &place), @"the store is unavailable: the store at STORE was moved or replaced while it was open; nothing was written; restart this process to use what is there now");
            }
        }
        let copy = first.checkpoint(&place.path().with_extension("copy"));
        refused(copy, &place);
        assert_eq!(place.tree(), before);
        // Nothing is in doubt.
        assert_eq!(first.get("a/b/c/1"), Ok(Some("old".into())));
        let second = read_only(&place.path());
        assert_eq!(second.get("a/b/c/1"), Ok(Some("second".into())));
        drop(second);

        // Back in its place it goes on.
        fs::remove_dir_all(place.path()).unwrap();
        fs::rename(away(&place), place.path()).unwrap();
        writes(&first).into_iter().take(3).for_each(|result| result.unwrap());
        first.flush().unwrap();
        drop(first);
        assert_eq!(read_only(&place.path()).get("d/e/f/2"), Ok(Some("first".into())));
        assert_sound(&place.path());
    }
}

/// RocksDB removes files that it does not know when it closes.
#[test]
fn closing_a_moved_store_changes_no_other_store() {
    if is_child() {
        return;
    }
    for options in [small(), unsynced()] {
        let place = Place::new();
        let first = RocksDbStorage::open(place.path(), options.clone()).unwrap();
        first.set("a/b/c/1", "acknowledged".into()).unwrap();
        fs::rename(place.path(), away(&place)).unwrap();
        write_in_another_process("moved::closing_a_moved_store_changes_no_other_store", &place);
        // Files of an older and a newer state, as RocksDB names them.
        for name in ["000001.sst", "000002.log", "OPTIONS-000001", "900000.sst"] {
            let path = place.path().join(name);
            if !path.exists() {
                fs::write(path, "somebody else's").unwrap();
            }
        }
        let before = place.tree();
        drop(first);
        let after = place.tree();
        let changed: Vec<&PathBuf> = before
            .keys()
            .chain(after.keys())
            .filter(|path| before.get(*path) != after.get(*path))
            .collect();
        assert!(changed.is_empty(), "{changed:?}");
        // What it had acknowledged is in what was moved.
        let moved = read_only(&away(&place));
        assert_eq!(moved.get("a/b/c/1"), Ok(Some("acknowledged".into())));
        drop(moved);
        assert_eq!(open(&away(&place)).get("a/b/c/1"), Ok(Some("acknowledged".into())));
    }
}

#[test]
fn flushing_a_moved_unsynced_store_is_an_error() {
    let place = Place::new();
    let storage = RocksDbStorage::open(place.path(), unsynced()).unwrap();
    storage.set("a/b/c/1", "acknowledged".into()).unwrap();
    fs::rename(place.path(), away(&place)).unwrap();
    insta::assert_snapshot!(refused(storage.flush(), &place), @"the store is unavailable: the store at STORE was moved or replaced while it was open; earlier writes are in the store that was opened; restart this process to use what is there now");
    fs::rename(away(&place), place.path()).unwrap();
    storage.flush().unwrap();
}

mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_dangling_link_is_an_error_with_its_target() {
        let place = Place::new();
        let target = place.path().with_file_name("unmounted").join("store");
        symlink(&target, place.path()).unwrap();
        let told = [
            RocksDbStorage::open(place.path(), small()).map(drop),
            RocksDbStorage::open_read_only(place.path(), small()).map(drop),
            RocksDbStorage::verify(place.path(), &mut |_| {}).map(drop),
            RocksDbStorage::open(place.path().join("below"), small()).map(drop),
        ];
        let expected = format!(
            "{} is a symbolic link to {}, which does not exist; ",
            place.path().display(),
            target.display()
        );
        for result in told {
            let Err(StorageError::IoError(detail)) = result else { panic!("{result:?}") };
            assert!(detail.contains(&expected), "{detail}");
        }
        assert!(place.path().is_symlink() && !target.exists());
    }

    #[test]
    fn a_linked_lock_file_is_refused() {
        let place = Place::new();
        drop(open(&place.path()));
        let important = place.path().with_file_name("important");
        fs::write(&important, "important").unwrap();
        fs::remove_file(place.path().join("WRITER")).unwrap();
        symlink(&important, place.path().join("WRITER")).unwrap();
        let result = RocksDbStorage::open(place.path(), small());
        let Err(StorageError::IoError(detail)) = result else { panic!("{result:?}") };
        assert!(detail.contains("it is a symbolic link"), "{detail}");
        assert_eq!(fs::read(&important).unwrap(), b"important");
    }
}
