//! What opening creates, and what it refuses.

use super::*;

#[cfg(unix)]
use std::os::unix::fs::symlink;
#[cfg(unix)]
use support::{mode, set_mode};

/// Checks that a writer and a reader refuse a file, and leave it unchanged.
fn assert_refused(dir: &StoreDir, message: &str) {
    let before = file_bytes(dir);
    for result in [
        RedbStorage::open(dir.path(), RedbOptions::default()),
        RedbStorage::open_read_only(dir.path(), RedbOptions::default()),
    ] {
        let found = result.unwrap_err().to_string();
        assert_eq!(found.replace(&*dir.path().to_string_lossy(), "STORE"), message);
    }
    assert!(file_bytes(dir) == before);
    assert_eq!(dir.names(), ["store"]);
}

#[test]
fn a_foreign_database_is_refused_and_unchanged() {
    let dir = StoreDir::new();
    let database = redb::Database::create(dir.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<&str, u64>::new("theirs")).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_refused(
        &dir,
        "storage failed: STORE is a redb database of another program, not a store; give the path of a store, or a new path",
    );
}

#[test]
fn readers_exclude_writers_but_not_each_other() {
    let dir = StoreDir::new();
    open(&dir.path()).set("a/b/c/key", "value".into()).unwrap();
    let readers = [read_only(&dir.path()), read_only(&dir.path())];
    for reader in &readers {
        assert_eq!(reader.get("a/b/c/key"), Ok(Some("value".into())));
    }
    has_no_problems(&dir);
    let writer = RedbStorage::open(dir.path(), RedbOptions::default());
    assert!(matches!(writer, Err(StorageError::Locked(_))));
    drop(readers);
    open(&dir.path());
}

#[test]
fn a_snapshot_ignores_later_writes() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    for n in 0..100 {
        storage.set(&format!("a/b/c/{n:03}"), StorageValue::new(vec![1; 1000])).unwrap();
    }
    let mut seen = 0;
    let read = storage.read_snapshot("a/b/", None, &mut |_, value| {
        // A writer does not wait.
        let commit = Commit::new().set("a/b/c/099", "new".into()).set("a/b/c/999", "new".into());
        storage.commit(commit).unwrap();
        assert_eq!(value.as_bytes(), [1; 1000]);
        seen += 1;
        Ok(())
    });
    read.unwrap();
    assert_eq!(seen, 100);
}

#[cfg(unix)]
#[test]
fn files_next_to_a_new_store_are_unchanged() {
    let dir = StoreDir::new();
    let beside = dir.at("store.redb.new");
    fs::write(dir.at("important"), "important").unwrap();
    set_mode(&dir.at("important"), 0o666);
    symlink("important", &beside).unwrap();
    open(&dir.path()).set("a/b/c/1", "x".into()).unwrap();
    assert_eq!(fs::read(dir.at("important")).unwrap(), b"important");
    assert!(beside.is_symlink());
    assert!(!dir.path().is_symlink());
    assert_eq!(mode(&dir.path()), 0o600);

    // Another store has that name.
    fs::remove_file(&beside).unwrap();
    open(&beside).set("a/b/c/1", "mine".into()).unwrap();
    fs::remove_file(dir.path()).unwrap();
    drop(open(&dir.path()));
    assert_eq!(read_only(&beside).get("a/b/c/1"), Ok(Some("mine".into())));
    assert_eq!(dir.names(), ["important", "store", "store.redb.new"]);
}

#[cfg(unix)]
#[test]
fn a_store_replaces_an_empty_file_but_not_with_its_mode() {
    let dir = with_file(b"");
    set_mode(&dir.path(), 0o666);
    open(&dir.path()).set("a/b/c/1", "x".into()).unwrap();
    assert_eq!(mode(&dir.path()), 0o600);
    assert_eq!(dir.names(), ["store"]);
}

#[cfg(unix)]
#[test]
fn a_link_to_an_empty_file_is_kept() {
    let dir = StoreDir::new();
    fs::create_dir(dir.at("disk")).unwrap();
    fs::write(dir.at("disk/real.redb"), "").unwrap();
    symlink("disk/real.redb", dir.path()).unwrap();
    open(&dir.path()).set("a/b/c/1", "x".into()).unwrap();
    assert!(dir.path().is_symlink());
    assert_eq!(fs::read_dir(dir.at("disk")).unwrap().count(), 1);
    for path in [dir.path(), dir.at("disk/real.redb")] {
        assert_eq!(read_only(&path).get("a/b/c/1"), Ok(Some("x".into())));
    }
}
