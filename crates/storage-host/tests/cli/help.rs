//! Help texts and invalid usage.

use crate::support::TestDir;

#[test]
fn help_texts() {
    let dir = TestDir::new();
    for (name, args) in [("help", &["--help"][..]), ("help_short", &["-h"]), ("help_nothing", &[])]
    {
        dir.assert_snapshot(name, &dir.transcript(args));
    }
    let mut text = String::new();
    for command in [
        "run",
        "demo",
        "components",
        "keys",
        "get",
        "put",
        "delete",
        "usage",
        "copy",
        "verify",
        "check",
        "doctor",
    ] {
        let help = dir.printed(&[command, "--help"]);
        // The options of all commands follow.
        let own = help.split("      --store <URL>").next().unwrap().trim_end();
        text += &format!("$ storage-host {command} --help\n{own}\n\n");
    }
    dir.assert_snapshot("help_commands", &text);
    assert!(!dir.has_store());
}

#[test]
fn the_version_is_that_of_the_crate() {
    let printed = TestDir::new().printed(&["--version"]);
    assert_eq!(printed, format!("storage-host {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn invalid_usage() {
    let dir = TestDir::new();
    let mut text = dir.transcripts(&[
        &["nothing"],
        &["keys"],
        &["keys", "a/b/c", "--limit", "many"],
        &["keys", "a/b/c", "--limit", "0"],
        &["keys", "a/b/c", "--what"],
        &["get", "a/b", "key"],
        &["get", "a//c", "key"],
        &["get", "a/../c", "key"],
        &["get", "a/b/c/d", "key"],
        &["get", "a/b c/d", "key"],
        &["get", "a/b/c", ""],
        &["put", "a/b/c", "", "value"],
        &["put", "a/b/c", "line\nbreak", "value"],
        &["delete", "a/b/c", "\u{7f}"],
        &["run", "notes.wasm"],
        &["run", "--id", "a/b/c"],
        &["copy", "--from", "file:d"],
        &["copy", "--from", "file:d", "--to", "./d"],
        &["copy", "--from", "file:d", "--to", "file:./d"],
        &["copy", "--from", "memory:", "--to", "file:d"],
        &["copy", "--from", "file:d", "--to", "file:d/below"],
        &["--store", "storage-data", "components"],
        &["--store", "sqlite:x", "components"],
        &["--store", "file:", "components"],
        &["--store", "file:d?durability=never", "components"],
        &["--json", "keys"],
        &["get", "--json", "a/b", "key"],
        &["--json", "get", "a/b/c", ""],
    ]);
    if cfg!(feature = "rocksdb") {
        // The snapshot is of a build without RocksDB.
        assert!(text.contains("this build has file:, redb:, rocksdb: and memory:"), "{text}");
        text = text.replace("redb:, rocksdb: and memory:", "redb: and memory:");
    }
    dir.assert_snapshot("wrong_usage", &text);
    assert!(!dir.has_store());
}

#[test]
fn long_invalid_keys_are_not_shown_whole() {
    let dir = TestDir::new();
    let key = "k".repeat(1_025);
    for args in [["get", "a/b/c", &key], ["delete", "a/b/c", &key]] {
        let done = dir.run(&args);
        assert_eq!(done.code, 2);
        assert!(done.stderr.contains("at most 1024 bytes") && done.stderr.len() < 200);
    }
    dir.printed(&["put", "a/b/c", &key[1..], "value"]);
    assert_eq!(dir.printed(&["get", "a/b/c", &key[1..]]), "value");
}
