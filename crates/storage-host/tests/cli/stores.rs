//! Unusable stores: errors that say why, and no loss of data.

use std::fs;

use storage_host::{Mode, StoreUrl};

use crate::support::{Mount, TestDir, guest};

#[test]
fn paths_without_a_store_are_errors() {
    let dir = TestDir::with_file_store();
    dir.file("a-file", b"mine");
    fs::create_dir(dir.path().join("mine")).unwrap();
    dir.file("mine/thesis.txt", b"years of work");
    let probe = guest("probe");
    let text = dir.transcripts(&[
        &["--store", "file:a-file", "keys", "a/b/c"],
        &["--store", "file:a-file", "put", "a/b/c", "key", "value"],
        &["--store", "file:a-file", "run", "--id", "a/b/c", &probe, "list"],
        &["--store", "file:a-file/below", "put", "a/b/c", "key", "value"],
        &["--store", "file:missing", "keys", "a/b/c"],
        &["--store", "file:missing", "delete", "a/b/c", "key"],
        &["--store", "file:missing", "--json", "get", "a/b/c", "key"],
        &["--store", "file:mine", "keys", "a/b/c"],
        &["--store", "file:mine", "put", "a/b/c", "key", "value"],
        &["--store", "memory:", "keys", "a/b/c"],
        &["--store", "memory:", "delete", "a/b/c", "key"],
    ]);
    dir.assert_snapshot("store_is_none", &text);
    assert_eq!(fs::read(dir.path().join("a-file")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(dir.path().join("mine")).unwrap().count(), 1);
    assert!(!dir.path().join("missing").exists());
}

#[test]
fn a_locked_store_can_be_read_but_not_written() {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "a/b/c", "key", "value"]);
    let url = StoreUrl::from_path(dir.path().join("storage-data"));
    let held = url.open(Mode::ReadWrite).unwrap();
    let text = dir.transcripts(&[
        &["--wait", "0", "put", "a/b/c", "key", "other"],
        &["--wait", "0", "delete", "a/b/c", "key"],
        &["run", "--id", "a/b/c", &guest("probe"), "list"],
        &["demo"],
        &["--json", "--wait", "0", "put", "a/b/c", "key", "other"],
        // Reading works despite the lock.
        &["get", "a/b/c", "key"],
        &["keys", "a/b/c"],
    ]);
    // Other systems do not report the process that holds a lock.
    if cfg!(target_os = "linux") {
        dir.assert_snapshot("store_locked", &text);
        let pid = format!("process {}", std::process::id());
        let refused = dir.run(&["--wait", "0", "put", "a/b/c", "key", "other"]);
        assert!(refused.stderr.contains(&pid));
    }
    drop(held);
    dir.printed(&["put", "a/b/c", "key", "other"]);
}

#[test]
fn a_store_of_a_newer_format() {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "a/b/c", "key", "value"]);
    let path = dir.path().join("storage-data/FORMAT");
    let format = fs::read_to_string(&path).unwrap();
    assert!(format.contains("format: 1\n"), "{format}");
    fs::write(&path, format.replace("format: 1\n", "format: 2\n")).unwrap();
    let text = dir.transcripts(&[
        &["get", "a/b/c", "key"],
        &["put", "a/b/c", "key", "other"],
        &["--json", "components"],
    ]);
    dir.assert_snapshot("store_newer", &text);
    fs::write(&path, format).unwrap();
    assert_eq!(dir.printed(&["get", "a/b/c", "key"]), "value");
}

#[test]
fn a_damaged_value_is_an_error() {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "a/b/c", "key", "value"]);
    dir.printed(&["put", "a/b/c", "other", "whole"]);
    let path = dir.path().join("storage-data/components/a/b/c/key");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 6;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let probe = guest("probe");
    let text = dir.transcripts(&[
        &["get", "a/b/c", "key"],
        &["--json", "get", "a/b/c", "key"],
        &["get", "a/b/c", "other"],
        &["keys", "a/b/c"],
        &["run", "--id", "a/b/c", &probe, "get", "other"],
        // Writing it again repairs it.
        &["put", "a/b/c", "key", "new"],
        &["get", "a/b/c", "key"],
    ]);
    dir.assert_snapshot("store_flipped", &text);
}

#[test]
fn a_component_gets_errors_without_paths() {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "a/b/c", "key", "value"]);
    fs::write(dir.path().join("storage-data/components/a/b/c/key"), "damaged").unwrap();
    let probe = guest("probe");
    let done = dir.run(&["run", "--id", "a/b/c", &probe, "get", "key"]);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    // The log comes first and has the path; then the component's own line.
    let lines: Vec<&str> = done.stderr.lines().collect();
    let [log, told] = lines.as_slice() else { panic!("{}", done.stderr) };
    assert!(log.contains("ERROR") && log.contains("components/a/b/c/key"), "{log}");
    assert!(log.contains("incident=00000001"), "{log}");
    assert_eq!(*told, "error: io-error: what is stored is damaged (incident 00000001)");

    let mut silent = dir.command(&["run", "--id", "a/b/c", &probe, "get", "key"]);
    let output = silent.env("STORAGE_HOST_LOG", "off").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}

#[test]
fn a_store_on_a_read_only_file_system() {
    let dir = TestDir::with_file_store();
    let Some(mount) = Mount::new(&dir.path().join("disk"), "size=1m") else { return };
    let store = ["--store", "file:disk/store"];
    let with_store = |args: &[&'static str]| [&store, args].concat();
    dir.printed(&with_store(&["put", "a/b/c", "key", "value"]));
    mount.make_read_only();
    let text = dir.transcripts(&[
        &with_store(&["put", "a/b/c", "key", "other"]),
        &with_store(&["delete", "a/b/c", "key"]),
        &["--store", "file:disk/new", "put", "a/b/c", "key", "value"],
        &with_store(&["get", "a/b/c", "key"]),
        &with_store(&["keys", "a/b/c"]),
        &with_store(&["usage", "a/b/c"]),
    ]);
    dir.assert_snapshot("store_read_only", &text);
}

#[test]
fn a_full_disk_loses_nothing() {
    let dir = TestDir::with_file_store();
    let Some(_mount) = Mount::new(&dir.path().join("disk"), "size=256k") else { return };
    let put = |key: &str, len: usize| {
        let args = ["--store", "file:disk/store", "put", "a/b/c", key];
        dir.run_with_input(&args, &vec![b'x'; len])
    };
    assert_eq!(put("old", 1_000).code, 0);
    let done = put("large", 1_000_000);
    assert_eq!(done.code, 1);
    dir.assert_snapshot("store_full", &done.stderr);
    let get = dir.printed(&["--store", "file:disk/store", "get", "a/b/c", "old"]);
    assert_eq!(get, "x".repeat(1_000));
    assert_eq!(dir.printed(&["--store", "file:disk/store", "keys", "a/b/c"]), "old\n");

    // A component gets an error, and its key keeps the old value.
    let probe = guest("probe");
    let run = |args: &[&str]| {
        dir.run(&[&["--store", "file:disk/store", "run", "--id", "a/b/c", &probe], args].concat())
    };
    let done = run(&["set-size", "old", "1000000"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("error: io-error: storage failed (incident "), "{}", done.stderr);
    assert!(run(&["get", "old"]).stdout.len() == "value \n".len() + 1_000);
    // There is room for what is small.
    assert_eq!(put("small", 100).code, 0);
}
