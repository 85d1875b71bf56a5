//! `verify`: what it reports, and that it changes nothing.

use std::fs;

use rstest::rstest;

use crate::support::TestDir;

#[rstest]
#[case::file("file:data")]
#[cfg_attr(feature = "redb", case::redb("redb:data"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data"))]
fn damage_is_found_in_every_kind_of_store(#[case] store: &str) {
    let dir = TestDir::with_file_store();
    dir.printed(&["--store", store, "put", "a/b/c", "key", "a value that is long enough"]);
    let before = dir.tree("data");
    let printed = dir.printed(&["--store", store, "verify"]);
    assert_eq!(printed, "no problems found: 1 key of 1 component, 36 bytes\n");
    assert_eq!(dir.tree("data"), before, "{store}");

    // Damage the value in whichever file holds it.
    for (path, mut bytes) in before {
        let value = b"a value that is long enough";
        let Some(at) = bytes.windows(value.len()).position(|some| some == value) else { continue };
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let damaged = dir.tree("data");
    let done = dir.run(&["--store", store, "verify"]);
    assert_eq!(done.code, 1, "{store}: {}", done.stdout);
    let complaint = done.stderr.contains("problem") || done.stderr.contains("corrupt");
    assert!(complaint, "{store}: {}", done.stderr);
    assert_eq!(dir.tree("data"), damaged, "{store}");
}

#[test]
fn a_store_in_use_can_be_verified() {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "a/b/c", "key", "value"]);
    let _held = dir.hold("file:storage-data");
    let printed = dir.printed(&["verify"]);
    assert!(printed.starts_with("no problems found: 1 key of 1 component"), "{printed}");
}
