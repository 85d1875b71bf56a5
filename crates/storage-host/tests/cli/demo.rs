//! `demo`: what it shows, that it continues, and that its checks can fail.

use std::fs;
use std::process::Stdio;

use crate::support::TestDir;

#[test]
fn a_second_demo_continues_with_the_data_of_the_first() {
    let dir = TestDir::new();
    let first = dir.printed(&["demo"]);
    dir.assert_snapshot("demo_first", &first);
    let second = dir.printed(&["demo"]);
    dir.assert_snapshot("demo_second", &second);
    assert!(!first.contains('\u{1b}'), "colours are for terminals only");

    // Its suggestions work.
    let suggested: Vec<Vec<String>> = second
        .lines()
        .filter_map(|line| line.trim().strip_prefix(env!("CARGO_BIN_EXE_storage-host")))
        .map(|args| args.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(suggested.len(), 5);
    let mut text = String::new();
    // The last one is a demo on another store.
    for args in &suggested[..4] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        text += &dir.transcript(&args);
        text += "\n";
    }
    dir.assert_snapshot("demo_suggested", &text);
}

#[test]
fn suggestions_repeat_how_the_program_was_called() {
    let dir = TestDir::new();
    let mut by_cargo = dir.command(&["demo"]);
    let output = by_cargo.env("CARGO_PKG_NAME", "storage-host").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("\n  cargo run --quiet -- components\n"), "{shown}");
    // The store of the environment need not be named.
    let mut elsewhere = dir.command(&["demo"]);
    let output = elsewhere.env("STORAGE_HOST_STORE", "file:other").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let suggested = format!("\n  {} components\n", env!("CARGO_BIN_EXE_storage-host"));
    assert!(shown.contains(&suggested), "{shown}");
}

#[test]
fn json_lists_the_claims() {
    let dir = TestDir::new();
    let text = dir.printed(&["--json", "demo", "--store", "file:my data?durability=os"]);
    dir.assert_snapshot("demo_json", &text);
    assert!(!dir.has_store());
    let shown = dir.printed(&["demo", "--store", "file:my data?durability=os"]);
    assert!(shown.contains("--store 'file:my data?durability=os' components"), "{shown}");
}

#[test]
fn a_failed_check_exits_with_1() {
    let dir = TestDir::with_file_store();
    dir.printed(&["demo"]);
    // A file that is not a key.
    fs::write(dir.path().join("storage-data/components/app/notes/home/NOTHING"), "").unwrap();
    let done = dir.run(&["demo"]);
    assert_eq!(done.code, 1);
    assert!(
        done.stdout.contains("FAILED app/notes/home has 2 keys in 2 files: found 3 files in "),
        "{}",
        done.stdout
    );
    assert_eq!(done.stderr, "error: 1 of 7 checks failed\n");
    let done = dir.run(&["--json", "demo"]);
    assert_eq!(done.code, 1);
    assert!(done.stdout.contains("\"holds\":false") && done.stdout.contains("\"all_hold\":false"));
}

#[test]
fn a_closed_output_does_not_skip_checks() {
    let dir = TestDir::with_file_store();
    for expected in [0, 1] {
        let mut demo = dir.command(&["demo"]);
        let mut child = demo.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(expected));
        // A file that is not a key, for the second round.
        fs::write(dir.path().join("storage-data/components/app/notes/home/NOTHING"), "").unwrap();
    }
}

#[test]
fn unusable_stores_are_errors() {
    let dir = TestDir::new();
    dir.printed(&["put", "app/counter/001", "runs", "many"]);
    dir.file("a-file", b"");
    let text = dir.transcripts(&[
        &["demo", "--store", "memory:"],
        &["demo", "--store", "file:a-file"],
        &["demo"],
    ]);
    dir.assert_snapshot("demo_cannot", &text);
}

#[test]
fn every_persistent_store_works() {
    let stores = [
        ("file:d", cfg!(feature = "file")),
        ("redb:d", cfg!(feature = "redb")),
        ("rocksdb:d", cfg!(feature = "rocksdb")),
    ];
    for (store, _) in stores.iter().filter(|(_, compiled_in)| *compiled_in) {
        let dir = TestDir::new();
        for runs in ["0 to 2", "2 to 4"] {
            let shown = dir.printed(&["--store", store, "demo"]);
            assert!(shown.contains(&format!("counted from {runs}")), "{shown}");
            assert!(!shown.contains("FAILED"), "{shown}");
        }
    }
}
