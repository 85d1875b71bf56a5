//! A store that was restored from a copy of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use storage_core::{Commit, ComponentStorage, StorageError};

const KEY: &str = "app/notes/home/key";

/// A check against a revision that was given after the copy was made does not
/// pass for another write.
pub(crate) fn a_restored_copy_uses_new_revisions<S: ComponentStorage>(open: impl Fn(&Path) -> S) {
    let directory = tempfile::tempdir().unwrap();
    let (store, backup) = (directory.path().join("store"), directory.path().join("backup"));
    open(&store).set(KEY, "old".into()).unwrap();
    copy(&store, &backup);

    // More than one opening, so that the counter alone would be behind.
    let last = (0..3)
        .map(|_| storage_core::put(&open(&store), KEY, "lost".into()).unwrap())
        .last()
        .unwrap();

    if store.is_dir() {
        fs::remove_dir_all(&store).unwrap();
        copy(&backup, &store);
    } else {
        // The same inode: nothing in the file system tells.
        fs::write(&store, fs::read(&backup).unwrap()).unwrap();
    }
    let restored = open(&store);
    assert!(storage_core::put(&restored, KEY, "new".into()).unwrap() > last);
    let stale = Commit::new().set(KEY, "stale".into()).require_revision(KEY, last);
    assert!(matches!(restored.commit(stale), Err(StorageError::Conflict(_))));
    assert_eq!(restored.get(KEY), Ok(Some("new".into())));
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}
