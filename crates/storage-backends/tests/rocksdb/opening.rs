//! What opening creates, and what it refuses.

use storage_core::StorageError;

use super::*;

fn refusal(result: Result<RocksDbStorage, StorageError>, dir: &StoreDir) -> String {
    let message = result.unwrap_err().to_string();
    message.replace(&*dir.path().to_string_lossy(), "STORE")
}

fn both(dir: &StoreDir) -> String {
    [
        refusal(RocksDbStorage::open(dir.path(), small()), dir),
        refusal(RocksDbStorage::open_read_only(dir.path(), small()), dir),
    ]
    .join("\n")
}

#[test]
fn a_foreign_database_is_refused_and_unchanged() {
    let dir = StoreDir::new();
    let mut options = ::rocksdb::Options::default();
    options.create_if_missing(true);
    let database = ::rocksdb::DB::open(&options, dir.path()).unwrap();
    database.put("key", "value").unwrap();
    drop(database);
    let before = dir.tree();
    insta::assert_snapshot!(both(&dir), @r"
    storage failed: STORE is a RocksDB database of another program, not a store
    storage failed: STORE is a RocksDB database of another program, not a store
    ");
    assert_eq!(dir.tree(), before);
}

#[test]
fn another_format_with_other_column_families_is_refused_with_its_version() {
    let dir = StoreDir::new();
    drop(open(&dir.path()));
    raw(&dir.path(), |database| {
        let meta = database.cf_handle("meta").unwrap();
        database.put_cf(meta, "format", "7").unwrap();
        database.create_cf("more", &::rocksdb::Options::default()).unwrap();
    });
    assert_eq!(both(&dir).matches("has format 7, but this program reads format 1").count(), 2);
}

#[test]
fn another_rocksdb_program_is_excluded() {
    let dir = StoreDir::new();
    drop(open(&dir.path()));
    raw(&dir.path(), |_| {
        let result = RocksDbStorage::open(dir.path(), small());
        assert!(matches!(result, Err(StorageError::Locked(_))), "{result:?}");
    });
    open(&dir.path());
}

#[test]
fn an_incomplete_store_is_created_again() {
    let whole = StoreDir::new();
    drop(open(&whole.path()));
    let files: Vec<PathBuf> = whole.tree().into_keys().collect();
    // The process may have been killed at any step.
    for lost in 0..=files.len() {
        let dir = whole.copy();
        for file in &files[..lost] {
            fs::remove_file(dir.path().join(file.file_name().unwrap())).unwrap();
        }
        fs::write(dir.path().join("CREATING"), "").unwrap();
        let result = RocksDbStorage::open_read_only(dir.path(), small());
        assert!(refusal(result, &dir).contains("STORE is not a store"));
        let storage = open(&dir.path());
        storage.set("a/b/c/d", "value".into()).unwrap();
        drop(storage);
        assert_sound(&dir.path());
        assert!(!dir.path().join("CREATING").exists());
    }
}

#[test]
fn a_database_without_current_is_not_replaced() {
    let dir = StoreDir::new();
    open(&dir.path()).set("a/b/c/d", "value".into()).unwrap();
    fs::remove_file(dir.path().join("CURRENT")).unwrap();
    let before = dir.tree();
    for result in [
        RocksDbStorage::open(dir.path(), small()),
        RocksDbStorage::open_read_only(dir.path(), small()),
    ] {
        assert!(matches!(result, Err(StorageError::Corrupt { .. })), "{result:?}");
    }
    assert_eq!(dir.tree(), before);
}

#[test]
fn closing_leaves_no_log_to_replay() {
    for options in [small(), unsynced()] {
        let dir = StoreDir::new();
        let storage = RocksDbStorage::open(dir.path(), options).unwrap();
        storage.set("a/b/c/d", "value".into()).unwrap();
        drop(storage);
        let logs: usize = dir
            .tree()
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|ending| ending == "log"))
            .map(|(_, bytes)| bytes.len())
            .sum();
        assert_eq!(logs, 0);
        assert!(!dir.path().join("UNSYNCED").exists());
    }
}

/// RocksDB removes files that it does not know when it closes.
#[cfg(unix)]
#[test]
fn closing_a_moved_store_changes_no_other_store() {
    let other = StoreDir::new();
    open(&other.path()).set("a/b/c/1", "second".into()).unwrap();
    for options in [small(), unsynced()] {
        let dir = StoreDir::new();
        let first = RocksDbStorage::open(dir.path(), options.clone()).unwrap();
        first.set("a/b/c/1", "acknowledged".into()).unwrap();
        fs::rename(dir.path(), dir.at("away")).unwrap();
        support::copy(&other.path(), &dir.path());
        // Files of an older and a newer state, as RocksDB names them.
        for name in ["000001.sst", "000002.log", "OPTIONS-000001", "900000.sst"] {
            let path = dir.path().join(name);
            if !path.exists() {
                fs::write(path, "foreign").unwrap();
            }
        }
        let before = dir.tree();
        let copied = first.checkpoint(&dir.at("copy"));
        assert!(matches!(copied, Err(StorageError::Unavailable { key: None, .. })), "{copied:?}");
        drop(first);
        assert!(dir.tree() == before);
        assert_eq!(open(&dir.at("away")).get("a/b/c/1"), Ok(Some("acknowledged".into())));
    }
}
