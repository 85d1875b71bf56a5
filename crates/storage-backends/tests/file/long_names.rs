//! Keys whose file names are too long for the file system.

use std::fs;
use std::path::{Path, PathBuf};

use storage_backends::{FileOptions, FileStorage};
use storage_core::{Budget, Commit, ComponentStorage, StorageError};

/// A directory with a path so long that only short names fit.
fn deep(inside: &Path) -> PathBuf {
    const BYTES: usize = 4000;
    let mut path = inside.to_owned();
    loop {
        let left = BYTES - path.as_os_str().len() - 1;
        if left <= 200 {
            path.push("d".repeat(left));
            break;
        }
        path.push("d".repeat(if left < 210 { 100 } else { 200 }));
    }
    fs::create_dir_all(&path).unwrap();
    path
}

const SHORT: &str = "a/b/c/short";

#[test]
fn a_key_with_a_name_that_is_too_long_is_missing_and_cannot_be_set() {
    let directory = tempfile::tempdir().unwrap();
    let path = deep(directory.path());
    let storage = FileStorage::open(&path, FileOptions::default()).unwrap();
    let by_key = format!("a/b/c/{}", "k".repeat(230));
    let by_component = format!("a/{}/c/key", "n".repeat(128));
    for long in [by_key.as_str(), by_component.as_str()] {
        storage.set(SHORT, "old".into()).unwrap();
        let refused = |result: Result<(), StorageError>| {
            let error = result.unwrap_err();
            let expected = "bytes in a path are over the limit of 4095";
            assert!(
                matches!(error, StorageError::LimitExceeded { limit: "bytes in a path", .. }),
                "{error}"
            );
            assert!(error.to_string().contains(expected), "{error}");
        };
        refused(storage.set(long, "value".into()));
        let budgeted = Commit::new().set(long, "value".into()).with_budget(Budget::UNLIMITED);
        refused(storage.commit(budgeted).map(drop));
        // Of several writes none happens.
        let commit = Commit::new().set(SHORT, "new".into()).set(long, "value".into());
        refused(storage.commit(commit).map(drop));
        assert_eq!(storage.get(SHORT), Ok(Some("old".into())));

        assert_eq!(storage.get(long), Ok(None));
        assert_eq!(storage.exists(long), Ok(false));
        assert_eq!(storage.delete(long), Ok(()));
        let commit = Commit::new().require_absent(long).delete(long).set(SHORT, "new".into());
        storage.commit(commit).unwrap();
        assert_eq!(storage.list_keys(Some("a/")).unwrap(), [SHORT]);
        assert_eq!(storage.list_keys(Some(long)).unwrap(), Vec::<String>::new());
        assert_eq!(storage.usage(Some(long)).unwrap().keys, 0);
    }
    drop(storage);
    // No commit is pending.
    let storage = FileStorage::open(&path, FileOptions::default()).unwrap();
    assert_eq!(storage.get(SHORT), Ok(Some("new".into())));
    let reader = FileStorage::open_read_only(&path, FileOptions::default()).unwrap();
    assert_eq!(reader.get(&by_key), Ok(None));
    assert_eq!(reader.get(&by_component), Ok(None));
}

#[test]
fn a_path_that_is_too_long_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = deep(directory.path()).join("d".repeat(150));
    for error in [
        FileStorage::open(&path, FileOptions::default()).unwrap_err(),
        FileStorage::open_read_only(&path, FileOptions::default()).unwrap_err(),
    ] {
        let expected = "bytes in a path are over the system's limit of 4095: shorten the path";
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}
