//! A store that was restored from a copy.

use super::*;

/// A check of a revision from after the copy does not pass for another write.
fn a_restored_copy_uses_new_revisions(engine: Engine) {
    let dir = StoreDir::new();
    engine.open(&dir.path()).set(KEY, "old".into()).unwrap();
    let backup = dir.copy();
    // Several openings, so that the counter alone would be behind.
    let put = |_| storage_core::put(&engine.open(&dir.path()), KEY, "lost".into()).unwrap();
    let last = (0..3).map(put).max().unwrap();

    if engine.is_directory {
        fs::remove_dir_all(dir.path()).unwrap();
    }
    // A store file keeps its inode.
    support::copy(&backup.path(), &dir.path());
    let restored = engine.open(&dir.path());
    assert!(storage_core::put(&restored, KEY, "new".into()).unwrap() > last);
    let stale = Commit::new().set(KEY, "stale".into()).require_revision(KEY, last);
    assert!(matches!(restored.commit(stale), Err(StorageError::Conflict(_))));
    assert_eq!(restored.get(KEY), Ok(Some("new".into())));
}

test_each_engine! { a_restored_copy_uses_new_revisions }
