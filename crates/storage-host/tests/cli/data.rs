//! Reading and writing keys from outside.

use std::io::Read;
use std::process::Stdio;

use storage_host::{ComponentStorage, Mode, StorageHost, StoreUrl};

use crate::support::TestDir;

/// The file store in a directory, for tests that fill it.
fn store_in(dir: &TestDir) -> StoreUrl {
    let path = dir.path().join("storage-data");
    format!("file:{}?durability=os", path.display()).parse().unwrap()
}

#[test]
fn values_exist_until_they_are_deleted() {
    let dir = TestDir::with_file_store();
    let text = dir.transcripts(&[
        &["put", "app/notes/home", "user:1", "Ada"],
        &["put", "app/notes/home", "user:2", "-5"],
        &["put", "app/notes/home", "empty", ""],
        &["put", "app/notes/work", "user:1", "Grace"],
        &["components"],
        &["keys", "app/notes/home"],
        &["keys", "app/notes/home", "--prefix", "user:"],
        &["keys", "app/notes/hom"],
        &["get", "app/notes/home", "user:1"],
        &["get", "app/notes/home", "user:2"],
        &["get", "app/notes/home", "empty"],
        &["get", "app/notes/work", "user:2"],
        &["usage", "app/notes/home"],
        &["usage", "app/notes/unknown"],
        &["delete", "app/notes/work", "user:1"],
        &["delete", "app/notes/work", "user:1"],
        &["get", "app/notes/work", "user:1"],
        &["components"],
    ]);
    dir.assert_snapshot("data_text", &text);
}

#[test]
fn json_for_programs() {
    let dir = TestDir::with_file_store();
    dir.run_with_input(&["put", "app/notes/home", "binary"], &[0, 159, 146, 150]);
    let text = dir.transcripts(&[
        &["--json", "put", "app/notes/home", "text", "a \"quoted\" text"],
        &["--json", "get", "app/notes/home", "text"],
        &["--json", "get", "app/notes/home", "binary"],
        &["keys", "app/notes/home", "--json"],
        &["keys", "app/notes/home", "--json", "--limit", "1"],
        &["keys", "app/notes/unknown", "--json"],
        &["components", "--json"],
        &["usage", "app/notes/home", "--json"],
        &["usage", "app/notes/unknown", "--json"],
        &["delete", "app/notes/home", "text", "--json"],
        &["get", "app/notes/home", "text", "--json"],
    ]);
    dir.assert_snapshot("data_json", &text);
}

#[test]
fn values_are_copied_byte_for_byte() {
    let dir = TestDir::with_file_store();
    let all: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    for args in [&["put", "a/b/c", "key"][..], &["put", "a/b/c", "key", "-"]] {
        let done = dir.run_with_input(args, &all);
        assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""));
        let got = dir.run(&["get", "a/b/c", "key"]);
        assert!(got.code == 0 && got.bytes == all);
        dir.printed(&["delete", "a/b/c", "key"]);
    }
    let done = dir.run_with_input(&["put", "a/b/c", "key"], b"");
    assert_eq!(done.code, 0);
    assert_eq!(dir.printed(&["get", "a/b/c", "key"]), "");
}

#[test]
fn json_values_can_be_stored_again() {
    let dir = TestDir::with_file_store();
    let all: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    dir.run_with_input(&["put", "a/b/c", "key"], &all);
    let json = dir.printed(&["--json", "get", "a/b/c", "key"]);
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    let base64 = document["value_base64"].as_str().unwrap();
    let done = dir.run_with_input(&["put", "a/b/c", "back", "--base64"], base64.as_bytes());
    assert_eq!((done.code, &*done.stderr), (0, ""));
    assert!(dir.run(&["get", "a/b/c", "back"]).bytes == all);
    dir.printed(&["put", "a/b/c", "back", "--base64", "AJ+S\nlg==\n"]);
    assert_eq!(dir.run(&["get", "a/b/c", "back"]).bytes, [0, 159, 146, 150]);
}

#[test]
fn invalid_base64_stores_nothing() {
    let dir = TestDir::with_file_store();
    for wrong in ["AJ+Slg", "value", "AJ-Slg==", "\u{e9}"] {
        for stored in [false, true] {
            let argument = dir.run(&["put", "a/b/c", "key", wrong, "--base64"]);
            let input = dir.run_with_input(&["put", "a/b/c", "key", "--base64"], wrong.as_bytes());
            for done in [argument, input] {
                assert_eq!(done.code, 2);
                assert!(done.stderr.contains("is not valid base64"), "{}", done.stderr);
            }
            match stored {
                false => assert!(!dir.has_store()),
                true => assert_eq!(dir.printed(&["get", "a/b/c", "key"]), "old"),
            }
            dir.printed(&["put", "a/b/c", "key", "old"]);
        }
        std::fs::remove_dir_all(dir.path().join("storage-data")).unwrap();
    }
    // The limit is of the value, not of its text.
    let most = "AAAA".repeat((1 << 20) / 3) + "AA==";
    assert_eq!(dir.run_with_input(&["put", "a/b/c", "k", "--base64"], most.as_bytes()).code, 0);
    let more = "AAAA".repeat((1 << 20) / 3 + 1);
    assert_eq!(dir.run_with_input(&["put", "a/b/c", "k", "--base64"], more.as_bytes()).code, 1);
}

#[test]
fn a_value_may_be_a_hyphen_or_begin_with_one() {
    let dir = TestDir::with_file_store();
    for value in ["-", "--", "--json", "-x", "--value", ""] {
        for args in [
            &["put", "a/b/c", "key", "--value", value][..],
            &["put", "a/b/c", "key", &format!("--value={value}")],
        ] {
            dir.printed(args);
            assert_eq!(dir.printed(&["get", "a/b/c", "key"]), value, "{args:?}");
        }
    }
    let done = dir.run_with_input(&["put", "a/b/c", "key", "--", "-"], b"input");
    assert_eq!(done.code, 0);
    assert_eq!(dir.printed(&["get", "a/b/c", "key"]), "input");
}

#[test]
fn a_key_may_begin_with_a_hyphen() {
    let dir = TestDir::with_file_store();
    for key in ["-", "--", "--b", "-5", "--json"] {
        dir.printed(&["put", "a/b/c", "--", key, "v"]);
        assert_eq!(dir.printed(&["get", "a/b/c", "--", key]), "v");
        assert_eq!(dir.printed(&["keys", "a/b/c", "--prefix", key]), format!("{key}\n"));
        assert_eq!(dir.printed(&["keys", "a/b/c", "--after", key]), "");
        assert_eq!(dir.printed(&["keys", "a/b/c", &format!("--after={key}")]), "");
        dir.printed(&["delete", "a/b/c", "--", key]);
    }
}

#[test]
fn a_value_over_the_limit_changes_nothing() {
    let dir = TestDir::with_file_store();
    let long = vec![b'x'; (1 << 20) + 1];
    let done = dir.run_with_input(&["put", "a/b/c", "key"], &long);
    assert_eq!(done.code, 1);
    assert_eq!(done.stderr, "error: 1048577 bytes of a value are over the limit of 1048576\n");
    assert!(!dir.has_store(), "not even a store is made");

    dir.printed(&["put", "a/b/c", "key", "old"]);
    assert_eq!(dir.run_with_input(&["put", "a/b/c", "key"], &long).code, 1);
    assert_eq!(dir.printed(&["get", "a/b/c", "key"]), "old");
}

#[test]
fn a_long_listing_comes_in_pages() {
    let dir = TestDir::with_file_store();
    let store = store_in(&dir);
    {
        let host = StorageHost::new(store.open(Mode::ReadWrite).unwrap());
        let chain = host.component(&"a/b/c".parse().unwrap());
        for n in 0..2_500 {
            chain.set(&format!("{n:05}"), "".into()).unwrap();
        }
    }
    let first = dir.run(&["keys", "a/b/c"]);
    assert_eq!(first.stdout.lines().count(), 1_000);
    assert_eq!(first.stderr, "more keys follow; continue with --after=00999\n");
    let second = dir.run(&["keys", "a/b/c", "--after", "00999", "--limit", "1500"]);
    assert_eq!(second.stdout.lines().count(), 1_500);
    assert_eq!(second.stdout.lines().last(), Some("02499"));
    assert_eq!(second.stderr, "", "that was the end");
    let all = dir.run(&["keys", "a/b/c", "--limit", "1000000"]);
    assert_eq!((all.stdout.lines().count(), all.stderr.as_str()), (2_500, ""));
    assert_eq!(dir.printed(&["keys", "a/b/c", "--after", "zzz"]), "");
    let prefixed = dir.printed(&["keys", "a/b/c", "--prefix", "01", "--after", "01997"]);
    assert_eq!(prefixed, "01998\n01999\n");
}

#[test]
fn invalid_ids_are_not_listed() {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "app/notes/home", "k", "v"]);
    // A name that only a person can create: its line break looks like one more component.
    let odd = dir.path().join("storage-data/components/app/notes/home%0aevil");
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("k"), "").unwrap();
    let done = dir.run(&["components"]);
    assert_eq!((done.code, &*done.stdout), (0, "app/notes/home\n"));
    assert_eq!(done.stderr, "1 component not listed, because the id is invalid\n");
}

#[test]
fn many_components_are_all_listed() {
    let dir = TestDir::with_file_store();
    let store = store_in(&dir);
    {
        let backend = store.open(Mode::ReadWrite).unwrap();
        for n in 0..2_500 {
            backend.set(&format!("a/b/{n:05}/key"), "".into()).unwrap();
        }
    }
    let listed = dir.printed(&["components"]);
    let expected: Vec<String> = (0..2_500).map(|n| format!("a/b/{n:05}")).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_closed_output_is_success() {
    let dir = TestDir::with_file_store();
    // More than a pipe holds.
    dir.run_with_input(&["put", "a/b/c", "key"], &vec![b'x'; 1 << 20]);
    let mut command = dir.command(&["get", "a/b/c", "key"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut start = [0; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut start).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure() {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "a/b/c", "key", "value"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else {
        println!("SKIPPED a full output: there is no /dev/full");
        return;
    };
    let output = dir.command(&["get", "a/b/c", "key"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("error: cannot write the output: "), "{stderr}");
}

#[test]
fn the_store_is_chosen_by_option_or_environment() {
    let dir = TestDir::with_file_store();
    dir.printed(&["--store", "file:one", "put", "a/b/c", "key", "1"]);
    dir.printed(&["put", "a/b/c", "key", "2", "--store", "file:two?durability=os"]);
    assert_eq!(dir.printed(&["--store", "file:one", "get", "a/b/c", "key"]), "1");
    let from_environment = |args: &[&str]| {
        let mut command = dir.command(args);
        let output = command.env("STORAGE_HOST_STORE", "file:two").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(from_environment(&["get", "a/b/c", "key"]), "2");
    assert_eq!(from_environment(&["--store", "file:one", "get", "a/b/c", "key"]), "1");
    let absolute = format!("file://{}", dir.path().join("two").display());
    assert_eq!(dir.printed(&["--store", &absolute, "get", "a/b/c", "key"]), "2");
    assert!(!dir.has_store());
}

#[test]
fn reading_creates_and_changes_nothing() {
    let dir = TestDir::with_file_store();
    for args in [
        &["components"][..],
        &["keys", "a/b/c"],
        &["get", "a/b/c", "k"],
        &["usage", "a/b/c"],
        &["delete", "a/b/c", "k"],
    ] {
        let done = dir.run(args);
        assert_eq!(done.code, 1, "{args:?}");
        assert!(done.stderr.contains("does not exist"), "{args:?}: {}", done.stderr);
        assert!(!dir.has_store(), "{args:?}");
    }
}
