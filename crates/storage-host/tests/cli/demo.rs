//! `demo`: what it shows, that it goes on, and that it notices what is wrong.

use std::fs;
use std::process::Stdio;

use crate::support::Folder;

#[test]
fn it_works_from_any_folder_and_goes_on_from_what_is_there() {
    let folder = Folder::new();
    let first = folder.printed(&["demo"]);
    folder.assert_snapshot("demo_first", &first);
    let second = folder.printed(&["demo"]);
    folder.assert_snapshot("demo_second", &second);
    assert!(!first.contains('\u{1b}'), "no colours but on a terminal");

    // What it suggests can be typed.
    let suggested: Vec<Vec<String>> = second
        .lines()
        .filter_map(|line| line.trim().strip_prefix(env!("CARGO_BIN_EXE_storage-host")))
        .map(|args| args.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(suggested.len(), 4);
    let mut text = String::new();
    for args in suggested {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        text += &folder.transcript(&args);
        text += "\n";
    }
    folder.assert_snapshot("demo_suggested", &text);
}

#[test]
fn what_it_suggests_is_what_was_typed() {
    let folder = Folder::new();
    let mut by_cargo = folder.command(&["demo"]);
    let output = by_cargo.env("CARGO_PKG_NAME", "storage-host").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("\n  cargo run --quiet -- components\n"), "{shown}");
    // A store that the environment names need not be named again.
    let mut elsewhere = folder.command(&["demo"]);
    let output = elsewhere.env("STORAGE_HOST_STORE", "file:other").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let suggested = format!("\n  {} components\n", env!("CARGO_BIN_EXE_storage-host"));
    assert!(shown.contains(&suggested), "{shown}");
}

#[test]
fn in_json_it_gives_its_claims() {
    let folder = Folder::new();
    let text = folder.printed(&["--json", "demo", "--store", "file:my data?durability=os"]);
    folder.assert_snapshot("demo_json", &text);
    assert!(!folder.has_store());
    let shown = folder.printed(&["demo", "--store", "file:my data?durability=os"]);
    assert!(shown.contains("--store 'file:my data?durability=os' components"), "{shown}");
}

#[test]
fn a_claim_that_is_false_is_shown_and_ends_with_1() {
    let folder = Folder::new();
    folder.printed(&["demo"]);
    // A file that is no key's.
    fs::write(folder.path().join("storage-data/components/app/notes/home/NOTHING"), "").unwrap();
    let done = folder.run(&["demo"]);
    assert_eq!(done.code, 1);
    assert!(
        done.stdout.contains("NOT SO app/notes/home has 2 keys and a file for each: found"),
        "{}",
        done.stdout
    );
    assert_eq!(done.stderr, "error: 1 of 7 claims do not hold\n");
    let done = folder.run(&["--json", "demo"]);
    assert_eq!(done.code, 1);
    assert!(done.stdout.contains("\"holds\":false") && done.stdout.contains("\"all_hold\":false"));
}

#[test]
fn what_nobody_reads_is_checked_all_the_same() {
    let folder = Folder::new();
    for expected in [0, 1] {
        let mut demo = folder.command(&["demo"]);
        let mut child = demo.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(expected));
        // A file that is no key's, for the second time.
        fs::write(folder.path().join("storage-data/components/app/notes/home/NOTHING"), "")
            .unwrap();
    }
}

#[test]
fn it_says_what_keeps_it_from_working() {
    let folder = Folder::new();
    folder.printed(&["put", "app/counter/001", "runs", "many"]);
    folder.file("a-file", b"");
    let text = folder.transcripts(&[
        &["demo", "--store", "memory:"],
        &["demo", "--store", "file:a-file"],
        &["demo"],
    ]);
    folder.assert_snapshot("demo_cannot", &text);
}

#[test]
fn it_works_on_every_store_that_lasts() {
    let stores = [
        ("file:d", cfg!(feature = "file")),
        ("redb:d", cfg!(feature = "redb")),
        ("rocksdb:d", cfg!(feature = "rocksdb")),
    ];
    for (store, _) in stores.iter().filter(|(_, compiled_in)| *compiled_in) {
        let folder = Folder::new();
        for runs in ["0 to 2", "2 to 4"] {
            let shown = folder.printed(&["--store", store, "demo"]);
            assert!(shown.contains(&format!("counting from {runs}")), "{shown}");
            assert!(!shown.contains("NOT SO"), "{shown}");
        }
    }
}
