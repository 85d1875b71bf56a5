//! Caches of a store whose path leads to another store.

#![cfg(unix)]

use super::*;

#[track_caller]
fn assert_moved<T: std::fmt::Debug>(result: Result<T, StorageError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { key: None, .. }), "{error:?}");
}

#[test]
fn the_index_of_another_store_is_not_kept() {
    let dir = StoreDir::new();
    let first = open(&dir.path());
    first.set("a/b/c/1", "old".into()).unwrap();
    fs::rename(dir.path(), dir.at("away")).unwrap();
    support::copy(&dir.at("away"), &dir.path());
    let second = open(&dir.path());
    second.set("the/other/one/1", "second".into()).unwrap();
    let budget = Budget { max_bytes: 1_000, max_keys: 1 };
    let counted = Commit::new().set("the/other/one/1", "first".into()).with_budget(budget);
    assert_moved(first.list_keys(Some("the/other/one/")));
    assert_moved(first.list_components(None, 9));
    assert_moved(first.usage(Some("the/other/one/")));
    assert_moved(first.commit(counted.clone()));
    drop(second);

    fs::remove_dir_all(dir.path()).unwrap();
    fs::rename(dir.at("away"), dir.path()).unwrap();
    assert_eq!(first.list_keys(Some("the/other/one/")), Ok(Vec::new()));
    first.commit(counted).unwrap();
    assert_eq!(first.usage(Some("the/other/one/")).unwrap().keys, 1);
}
