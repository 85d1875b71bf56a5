//! A process that is killed: what it had acknowledged stays.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use rstest::rstest;

use crate::support::{TestDir, guest};

#[test]
fn every_acknowledged_note_survives_a_kill() {
    const ROUNDS: u32 = 60;
    let dir = TestDir::new();
    let notes = guest("notes");
    let add = |text: &str| {
        let args = ["run", "--id", "app/notes/home", &notes, "add", text];
        let mut command = dir.command(&args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let begun = Instant::now();
    assert!(add("whole").wait_with_output().unwrap().status.success());
    let whole = begun.elapsed();

    let mut acknowledged = vec!["whole".to_owned()];
    for round in 0..ROUNDS {
        let text = format!("round {round}");
        let mut child = add(&text);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        if round % 2 == 0 {
            // Killed as soon as the note is acknowledged.
            stdout.read_line(&mut said).unwrap();
        } else {
            // Killed at any point between its start and its end, or after that. No
            // result depends on the point.
            thread::sleep(whole * round * 2 / ROUNDS);
        }
        child.kill().unwrap();
        stdout.read_to_string(&mut said).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        if said.starts_with("added note") {
            acknowledged.push(text);
        }
    }
    assert!(acknowledged.len() > ROUNDS as usize / 2, "{acknowledged:?}");

    let listed = dir.printed(&["run", "--id", "app/notes/home", &notes, "list"]);
    let texts: Vec<&str> = listed.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    for text in &acknowledged {
        let times = texts.iter().filter(|listed| *listed == text).count();
        assert_eq!(times, 1, "{text:?} of {acknowledged:?} in {texts:?}");
    }
    // Each note is a key, and no half of one is left.
    let keys = dir.printed(&["keys", "app/notes/home"]);
    assert_eq!(keys.lines().count(), texts.len());
}

/// What such a process leaves first is the file with its lock.
#[rstest]
#[case::file("file:data", "LOCK")]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data", "WRITER"))]
fn an_import_completes_the_creation_of_a_killed_process(#[case] store: &str, #[case] lock: &str) {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "a/b/c", "key", "value"]);
    dir.printed(&["export", "-o", "archive.ndjson"]);
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data").join(lock), "").unwrap();
    dir.printed(&["--store", store, "import", "archive.ndjson"]);
    assert_eq!(dir.printed(&["--store", store, "get", "a/b/c", "key"]), "value");
}
