//! `doctor`: what it reports, and that it changes nothing.

use std::fs;

use rstest::rstest;
use serde_json::Value;

use crate::support::{Mount, TestDir};

/// Replaces what differs between machines.
fn assert_transcript(dir: &TestDir, name: &str) {
    let mut settings = insta::Settings::clone_current();
    for (row, shown) in [
        ("wasmtime      ", "[VERSION]"),
        ("redb          ", "[VERSION]"),
        ("rocksdb       ", "[VERSION]"),
        ("stores        ", "[STORES]"),
        ("cache         ", "[CACHE]"),
        ("file system   ", "[FILE SYSTEM]"),
        ("free          ", "[FREE]"),
    ] {
        settings.add_filter(&format!("{row} .*"), format!("{row} {shown}"));
    }
    // Properties of this machine are not tested.
    settings.add_filter(r"\n(redb|rocksdb) +\[VERSION\]", "");
    settings.add_filter(r"(?m)^warning: (the file system|only [^;]+; without).*\n", "");
    settings.add_filter("no problems found\n", "");
    settings.add_filter(r"id [0-9a-f]{32}", "id [ID]");
    settings.add_filter(r"[0-9.]+ (B|[KM]iB) in", "[SIZE] in");
    settings.bind(|| dir.assert_transcript(name));
}

fn json(dir: &TestDir, args: &[&str]) -> (Value, i32) {
    let done = dir.run(&[&["--json", "doctor"], args].concat());
    (serde_json::from_str(&done.stdout).unwrap(), done.code)
}

/// The codes of the findings, without those of this machine.
fn codes(document: &Value) -> Vec<&str> {
    let findings = document["findings"].as_array().unwrap().iter();
    let codes = findings.map(|finding| finding["code"].as_str().unwrap());
    codes.filter(|code| !["file_system", "disk_space", "free_files"].contains(code)).collect()
}

#[test]
fn each_kind_of_path_is_reported() {
    assert_transcript(&TestDir::new(), "doctor");
}

#[rstest]
#[case::file("file:data")]
#[cfg_attr(feature = "redb", case::redb("redb:data"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data"))]
fn a_store_in_use_is_not_a_problem(#[case] store: &str) {
    let dir = TestDir::new();
    dir.printed(&["--store", store, "put", "a/b/c", "key", "value"]);
    let look = || json(&dir, &["--store", store]);
    let (document, code) = look();
    assert_eq!((code, document["store"]["id"].as_str().unwrap().len()), (0, 32));
    assert!(document["store"]["locked"].is_null());
    let held = dir.hold(store);
    let (document, code) = look();
    assert_eq!(code, 0);
    let locked = document["store"]["locked"].as_str().unwrap();
    let pid = format!("process {} has it open", std::process::id());
    assert!(!cfg!(target_os = "linux") || locked.contains(&pid), "{locked}");
    assert!(codes(&document).iter().all(|code| *code == "open_files"), "{document}");
    drop(held);
    assert!(look().0["store"]["locked"].is_null());
}

#[test]
fn problems_of_the_file_system_are_reported() {
    let dir = TestDir::new();
    let Some(mount) = Mount::new(&dir.path().join("disk"), "size=1m,nr_inodes=50") else {
        return;
    };
    // A store that does not exist yet: its future directory counts.
    dir.assert_transcript("doctor_disk");
    dir.printed(&["--store", "file:disk/store", "put", "a/b/c", "key", "value"]);
    mount.make_read_only();
    dir.assert_transcript("doctor_read_only");
}

#[cfg(unix)]
#[rstest]
#[case::of_the_user("cache")]
#[case::of_this_program("cache/storage-host")]
#[case::of_its_components("cache/storage-host/compiled")]
fn a_cache_directory_that_is_a_dangling_link_is_reported(#[case] link: &str) {
    let dir = TestDir::new();
    let link = dir.path().join(link);
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let target = dir.path().join("elsewhere");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let look = || {
        let mut command = dir.command(&["--json", "doctor", "--store", "file:data"]);
        command.env("XDG_CACHE_HOME", dir.path().join("cache"));
        let output = command.output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{document}");
        document
    };
    let document = look();
    assert_eq!(codes(&document), ["no_cache"]);
    let text = format!("{} is a link to a directory that does not exist", link.display());
    assert!(document.to_string().contains(&text), "{document}");
    fs::create_dir(&target).unwrap();
    assert_eq!(codes(&look()), Vec::<&str>::new());
}
