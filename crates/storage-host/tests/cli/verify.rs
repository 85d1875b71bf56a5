//! `verify`: what it finds, and that it changes nothing.

use std::fs;

use rstest::rstest;

use crate::support::Folder;

/// Three keys of two components.
fn filled() -> Folder {
    let folder = Folder::new();
    folder.printed(&["put", "app/notes/home", "user:1", "Ada"]);
    folder.printed(&["put", "app/notes/home", "user:2", "Grace"]);
    folder.printed(&["put", "app/notes/work", "user:1", "Alan"]);
    folder
}

#[test]
fn what_it_says() {
    let folder = filled();
    let mut text = folder.transcripts(&[&["verify"], &["verify", "--json"]]);
    let home = folder.path().join("storage-data/components/app/notes/home");
    let mut bytes = fs::read(home.join("user%3a1")).unwrap();
    bytes[15] ^= 1;
    fs::write(home.join("user%3a1"), bytes).unwrap();
    fs::write(home.join("notes\n.txt"), "mine").unwrap();
    let before = folder.tree("storage-data");
    text += "\n";
    text += &folder.transcripts(&[
        &["verify"],
        &["--json", "verify"],
        &["--store", "file:missing", "verify"],
        &["--store", "memory:", "verify"],
    ]);
    folder.assert_snapshot("verify", &text);
    assert_eq!(folder.tree("storage-data"), before);
    assert!(!folder.path().join("missing").exists());
}

#[test]
fn its_json_is_json() {
    let folder = filled();
    let document = |expected| -> serde_json::Value {
        let done = folder.run(&["--json", "verify"]);
        assert_eq!(done.code, expected);
        serde_json::from_str(&done.stdout).unwrap()
    };
    let whole = document(0);
    assert_eq!(whole["problems"].as_array().unwrap().len(), 0);
    assert_eq!((&whole["key_count"], &whole["component_count"]), (&3.into(), &2.into()));
    for name in ["\"quoted\"", "b", "c"] {
        fs::write(folder.path().join("storage-data").join(name), "mine").unwrap();
    }
    let damaged = document(1);
    let problems = damaged["problems"].as_array().unwrap();
    assert_eq!((problems.len(), &damaged["problem_count"]), (3, &3.into()));
    assert!(problems[0]["place"].as_str().unwrap().ends_with("storage-data/\"quoted\""));
    assert!(problems.iter().all(|problem| problem["key"].is_null()));
}

#[rstest]
#[case::file("file:data")]
#[cfg_attr(feature = "redb", case::redb("redb:data"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data"))]
fn every_kind_of_store_is_checked(#[case] store: &str) {
    let folder = Folder::new();
    folder.printed(&["--store", store, "put", "a/b/c", "key", "a value that is long enough"]);
    let before = folder.tree("data");
    let printed = folder.printed(&["--store", store, "verify"]);
    assert_eq!(printed, "all is well: 1 key of 1 component, 36 bytes\n");
    assert_eq!(folder.tree("data"), before, "{store}");

    // The value itself, in whichever file it lies.
    for (path, mut bytes) in before {
        let value = b"a value that is long enough";
        let Some(at) = bytes.windows(value.len()).position(|some| some == value) else { continue };
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let damaged = folder.tree("data");
    let done = folder.run(&["--store", store, "verify"]);
    assert_eq!(done.code, 1, "{store}: {}", done.stdout);
    let complaint = done.stderr.contains("problem") || done.stderr.contains("corrupt");
    assert!(complaint, "{store}: {}", done.stderr);
    assert_eq!(folder.tree("data"), damaged, "{store}");
}

#[test]
fn a_store_in_use_is_checked_beside_its_writer() {
    let folder = filled();
    let url = storage_host::StoreUrl::from_path(folder.path().join("storage-data"));
    let _held = url.open(storage_host::Mode::ReadWrite).unwrap();
    let printed = folder.printed(&["verify"]);
    assert!(printed.starts_with("all is well: 3 keys of 2 components"), "{printed}");
}
