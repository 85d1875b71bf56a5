//! `copy`: what it prints, what it refuses, and that it continues after a kill.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use rstest::rstest;
use storage_host::{ComponentStorage, Mode, Store, StoreUrl};

use crate::support::{Mount, TestDir};

pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

/// The store of a URL that is relative to the directory.
fn url_in(dir: &TestDir, url: &str) -> StoreUrl {
    let (scheme, path) = url.split_once(':').unwrap();
    format!("{scheme}:{}/{path}", dir.path().display()).parse().unwrap()
}

pub(crate) fn fill(dir: &TestDir, url: &str, contents: &Contents) {
    let store = url_in(dir, url).relaxed().open(Mode::ReadWrite).unwrap();
    for (key, value) in contents {
        store.set(key, value.clone().into()).unwrap();
    }
    store.flush().unwrap();
}

pub(crate) fn contents(dir: &TestDir, url: &str) -> Contents {
    let mut contents = Contents::new();
    let store = url_in(dir, url).open(Mode::ReadOnly).unwrap();
    store
        .read_snapshot("", None, &mut |key, value| {
            contents.insert(key.to_owned(), value.into_bytes());
            Ok(())
        })
        .unwrap();
    contents
}

pub(crate) fn sample(keys: usize) -> Contents {
    let mut sample = Contents::new();
    for number in 0..keys {
        let key = format!("app/c{}/x/key-{number:05}", number % 3);
        sample.insert(key, number.to_string().repeat(number % 30 + 1).into_bytes());
    }
    for key in ["loose", "a/b/c/../x", "a/b/c/\u{e9} *%", "A/B/C/con", "a/b"] {
        sample.insert(key.to_owned(), key.as_bytes().to_vec());
    }
    sample.insert(format!("a/b/c/{}", "long".repeat(256)), Vec::new());
    sample.insert("a/b/c/large".to_owned(), (0..=255).cycle().take(3 << 20).collect());
    sample
}

/// Every pair of the kinds that last.
#[rstest]
#[case::file_to_file("file", "file")]
#[cfg_attr(feature = "redb", case::file_to_redb("file", "redb"))]
#[cfg_attr(feature = "redb", case::redb_to_file("redb", "file"))]
#[cfg_attr(feature = "redb", case::redb_to_redb("redb", "redb"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb_to_file("rocksdb", "file"))]
#[cfg_attr(feature = "rocksdb", case::file_to_rocksdb("file", "rocksdb"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb_to_rocksdb("rocksdb", "rocksdb"))]
#[cfg_attr(all(feature = "redb", feature = "rocksdb"), case::rocksdb_to_redb("rocksdb", "redb"))]
#[cfg_attr(all(feature = "redb", feature = "rocksdb"), case::redb_to_rocksdb("redb", "rocksdb"))]
fn a_copy_completes_after_repeated_kills(#[case] from: &str, #[case] to: &str) {
    const ROUNDS: u32 = 9;
    let dir = TestDir::with_file_store();
    let sample = sample(600);
    let (from, to) = (&*format!("{from}:from"), &*format!("{to}:to"));
    fill(&dir, from, &sample);
    let before = dir.tree("from");
    let copy = |to: &str| -> Child {
        let mut command = dir.command(&["--quiet", "copy", "--from", from, "--to", to]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let begun = Instant::now();
    let whole = copy(&to.replace("to", "whole")).wait_with_output().unwrap();
    assert_eq!((whole.status.code(), &*whole.stderr), (Some(0), &b""[..]));
    let whole = begun.elapsed();

    let mut interrupted = 0;
    for round in 0..ROUNDS {
        let mut child = copy(to);
        // Where it is killed is left to chance, and nothing depends on it.
        thread::sleep(whole * round / ROUNDS);
        if round % 3 == 0 {
            // As Ctrl-C does.
            let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
            assert!(interrupt.unwrap().success() || child.try_wait().unwrap().is_some());
        } else {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "round {round}");
        interrupted += u32::from(!output.status.success());
    }
    println!("{from} to {to}: {interrupted} of {ROUNDS} interrupted");
    let done = dir.run(&["copy", "--from", from, "--to", to]);
    assert_eq!((done.code, &*done.stderr), (0, ""));
    assert!(contents(&dir, to) == sample);
    assert_eq!(dir.run(&["--store", to, "verify"]).code, 0);
    assert_eq!(dir.tree("from"), before, "the source is as it was");
}

#[test]
fn a_source_with_a_writer_is_not_copied() {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "a/b/c", "key", "value"]);
    let held = dir.hold("file:storage-data");
    // Other systems do not report the process that holds a lock.
    if cfg!(target_os = "linux") {
        dir.assert_transcript("copy_locked");
    }
    assert!(!dir.path().join("copy").exists());
    drop(held);
    // A target that is in use is left alone too.
    let held = dir.hold("file:copy");
    let done = dir.run(&["copy", "--from", "file:storage-data", "--to", "file:copy"]);
    assert_eq!(done.code, 1);
    let told = "file:copy\": the store copy is locked: ";
    assert!(done.stderr.contains(told), "{}", done.stderr);
    drop(held);
    dir.printed(&["copy", "--from", "file:storage-data", "--to", "file:copy"]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_rocksdb_store_is_copied_while_it_is_written_to() {
    let dir = TestDir::with_file_store();
    let sample = sample(300);
    fill(&dir, "rocksdb:from", &sample);
    let held = dir.hold("rocksdb:from");
    held.set("a/b/c/just now", "x".into()).unwrap();
    dir.printed(&["copy", "--from", "rocksdb:from", "--to", "file:to"]);
    let mut expected = sample;
    expected.insert("a/b/c/just now".to_owned(), b"x".to_vec());
    assert!(contents(&dir, "file:to") == expected);
}

#[test]
fn a_copy_to_a_full_disk_continues_after_an_error() {
    let dir = TestDir::with_file_store();
    let Some(_mount) = Mount::new(&dir.path().join("disk"), "size=1m") else { return };
    dir.assert_transcript("copy_full_disk");
}
