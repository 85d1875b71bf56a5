//! Unusable stores: errors that say why, and no loss of data.

use crate::support::{Mount, TestDir};

#[test]
fn a_locked_store_can_be_read_but_not_written() {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "a/b/c", "key", "value"]);
    let held = dir.hold("file:storage-data");
    // Other systems do not report the process that holds a lock.
    if cfg!(target_os = "linux") {
        dir.assert_transcript("store_locked");
        let pid = format!("process {}", std::process::id());
        let refused = dir.run(&["--wait", "0", "put", "a/b/c", "key", "other"]);
        assert!(refused.stderr.contains(&pid));
    }
    drop(held);
    dir.printed(&["put", "a/b/c", "key", "other"]);
}

#[test]
fn a_store_on_a_read_only_file_system() {
    let dir = TestDir::with_file_store();
    let Some(mount) = Mount::new(&dir.path().join("disk"), "size=1m") else { return };
    dir.printed(&["--store", "file:disk/store", "put", "a/b/c", "key", "value"]);
    mount.make_read_only();
    dir.assert_transcript("store_read_only");
}

#[test]
fn a_full_disk_loses_nothing() {
    let dir = TestDir::with_file_store();
    let Some(_mount) = Mount::new(&dir.path().join("storage-data"), "size=256k") else { return };
    dir.assert_transcript("store_full");
}
