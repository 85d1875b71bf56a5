//! What the command says of itself.

use rstest::rstest;

use crate::support::Folder;

#[rstest]
#[case("help", &["--help"])]
#[case("help_short", &["-h"])]
#[case("help_nothing", &[])]
#[case("help_run", &["run", "--help"])]
#[case("help_demo", &["demo", "--help"])]
#[case("help_components", &["components", "--help"])]
#[case("help_keys", &["keys", "--help"])]
#[case("help_get", &["get", "--help"])]
#[case("help_put", &["put", "--help"])]
#[case("help_delete", &["delete", "--help"])]
#[case("help_usage", &["usage", "--help"])]
#[case("help_copy", &["copy", "--help"])]
#[case("help_verify", &["verify", "--help"])]
#[case("help_doctor", &["doctor", "--help"])]
fn help_texts(#[case] name: &str, #[case] args: &[&str]) {
    let folder = Folder::new();
    folder.assert_snapshot(name, &folder.transcript(args));
    assert!(!folder.has_store());
}

#[test]
fn the_version_is_the_crates() {
    let printed = Folder::new().printed(&["--version"]);
    assert_eq!(printed, format!("storage-host {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage() {
    let folder = Folder::new();
    let mut text = folder.transcripts(&[
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
        // The snapshot is of a build without.
        assert!(text.contains("this build has file:, redb:, rocksdb: and memory:"), "{text}");
        text = text.replace("redb:, rocksdb: and memory:", "redb: and memory:");
    }
    folder.assert_snapshot("wrong_usage", &text);
    assert!(!folder.has_store());
}

#[test]
fn a_key_too_long_is_refused_without_showing_all_of_it() {
    let folder = Folder::new();
    let key = "k".repeat(1_025);
    for args in [["get", "a/b/c", &key], ["delete", "a/b/c", &key]] {
        let done = folder.run(&args);
        assert_eq!(done.code, 2);
        assert!(done.stderr.contains("at most 1024 bytes") && done.stderr.len() < 200);
    }
    folder.printed(&["put", "a/b/c", &key[1..], "value"]);
    assert_eq!(folder.printed(&["get", "a/b/c", &key[1..]]), "value");
}
