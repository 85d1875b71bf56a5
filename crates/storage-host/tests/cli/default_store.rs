//! The default store, and the file store that was the default before.

use serde_json::Value;

use crate::support::Folder;

#[test]
fn the_default_is_one_file() {
    let folder = Folder::new();
    folder.printed(&["put", "a/b/c", "key", "value"]);
    assert!(folder.path().join("storage-data.redb").is_file());
    let named = ["--store", "redb:./storage-data.redb", "get", "a/b/c", "key"];
    assert_eq!(folder.printed(&named), "value");
}

#[test]
fn data_in_the_earlier_default_store_is_not_overlooked() {
    let folder = Folder::new();
    folder.printed(&["--store", "file:./storage-data", "put", "a/b/c", "key", "old"]);
    let before = folder.tree("");
    let mut text = folder.transcript(&["get", "a/b/c", "key"]);
    // Neither reading nor writing may ignore that data.
    for args in [&["-q", "put", "a/b/c", "key", "new"][..], &["demo"], &["verify"], &["components"]]
    {
        let done = folder.run(args);
        assert_eq!(done.code, 1, "{args:?}");
        assert!(done.stderr.contains("add --store file:./storage-data"), "{}", done.stderr);
    }
    assert_eq!(folder.tree(""), before);
    let doctor: Value = serde_json::from_str(&folder.printed(&["--json", "doctor"])).unwrap();
    let findings = doctor["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["code"] == "earlier_default"), "{doctor}");

    let copy = ["--from", "file:./storage-data", "--to", "redb:./storage-data.redb"];
    folder.printed(&[&["copy"], &copy[..]].concat());
    for args in [&["get", "a/b/c", "key"][..], &["-q", "get", "a/b/c", "key"]] {
        text += "\n";
        text += &folder.transcript(args);
    }
    folder.assert_snapshot("earlier_default", &text);
    for store in ["file:./storage-data", "redb:./storage-data.redb"] {
        assert_eq!(folder.printed(&["--store", store, "get", "a/b/c", "key"]), "old");
    }
}
