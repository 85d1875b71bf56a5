//! The default store, and the file store that was the default before.

use serde_json::Value;

use crate::support::TestDir;

#[test]
fn the_default_is_one_file() {
    let dir = TestDir::new();
    dir.printed(&["put", "a/b/c", "key", "value"]);
    assert!(dir.path().join("storage-data.redb").is_file());
    let named = ["--store", "redb:./storage-data.redb", "get", "a/b/c", "key"];
    assert_eq!(dir.printed(&named), "value");
}

#[test]
fn data_in_the_earlier_default_store_is_not_overlooked() {
    let dir = TestDir::new();
    dir.printed(&["--store", "file:./storage-data", "put", "a/b/c", "key", "old"]);
    let before = dir.tree("");
    let mut text = dir.transcript(&["get", "a/b/c", "key"]);
    // Neither reading nor writing may ignore that data.
    for args in [&["-q", "put", "a/b/c", "key", "new"][..], &["demo"], &["verify"], &["components"]]
    {
        let done = dir.run(args);
        assert_eq!(done.code, 1, "{args:?}");
        assert!(done.stderr.contains("add --store file:./storage-data"), "{}", done.stderr);
    }
    assert_eq!(dir.tree(""), before);
    let doctor: Value = serde_json::from_str(&dir.printed(&["--json", "doctor"])).unwrap();
    let findings = doctor["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["code"] == "earlier_default"), "{doctor}");

    let copy = ["--from", "file:./storage-data", "--to", "redb:./storage-data.redb"];
    dir.printed(&[&["copy"], &copy[..]].concat());
    for args in [&["get", "a/b/c", "key"][..], &["-q", "get", "a/b/c", "key"]] {
        text += "\n";
        text += &dir.transcript(args);
    }
    dir.assert_snapshot("earlier_default", &text);
    for store in ["file:./storage-data", "redb:./storage-data.redb"] {
        assert_eq!(dir.printed(&["--store", store, "get", "a/b/c", "key"]), "old");
    }
}
