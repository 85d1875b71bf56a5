//! Standard input and output that are closed, or open the other way.

use std::process::Command;

use crate::support::{Done, TestDir, guest};

/// Runs the command followed by a shell's redirection.
fn redirected(dir: &TestDir, args: &str, redirection: &str) -> Done {
    let program = env!("CARGO_BIN_EXE_storage-host");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec '{program}' {args} {redirection}")]);
    shell.current_dir(dir.path()).env_remove("STORAGE_HOST_STORE");
    Done::of(shell.output().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_or_write_only_input_stores_nothing() {
    let dir = TestDir::new();
    dir.file("file", b"content");
    for args in ["put a/b/c k", "put a/b/c k -", "put a/b/c k --base64", "put a/b/c k -- -"] {
        for (redirection, why) in [
            ("<&-", "it is closed; give the value as an argument, '' for an empty one"),
            ("0>>file", "it is open only for writing"),
            ("<.", "Is a directory (os error 21)"),
        ] {
            let done = redirected(&dir, args, redirection);
            let expected = format!("error: cannot read standard input: {why}\n");
            assert_eq!((done.code, done.stderr), (1, expected), "{args} {redirection}");
            assert!(!dir.has_store(), "{args} {redirection}");
        }
    }
    dir.printed(&["put", "a/b/c", "k", "old"]);
    assert_eq!(redirected(&dir, "put a/b/c k", "<&-").code, 1);
    assert_eq!(dir.printed(&["get", "a/b/c", "k"]), "old");
}

#[test]
fn an_empty_input_that_is_open_is_an_empty_value() {
    let dir = TestDir::new();
    for redirection in ["</dev/null", "<>/dev/null"] {
        dir.printed(&["put", "a/b/c", "k", "old"]);
        let done = redirected(&dir, "put a/b/c k", redirection);
        assert_eq!((done.code, &*done.stderr), (0, ""), "{redirection}");
        assert_eq!(dir.printed(&["get", "a/b/c", "k"]), "", "{redirection}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_lost_output_is_a_failure() {
    let dir = TestDir::new();
    dir.printed(&["put", "a/b/c", "k", "value"]);
    dir.file("file", b"content");
    dir.file("notes.wasm", &std::fs::read(guest("notes")).unwrap());
    for args in [
        "get a/b/c k",
        "keys a/b/c",
        "--json keys a/b/c",
        "components",
        "usage a/b/c",
        "verify",
        "doctor",
        "copy --from redb:storage-data.redb --to file:copy",
        "run --id a/b/c notes.wasm list",
        "--json put a/b/c k value",
        "--json delete a/b/c other",
        "--version",
        "--help",
        "get --help",
    ] {
        for (redirection, why) in [
            (">&-", "standard output is closed"),
            ("1<file", "standard output is open only for reading"),
        ] {
            let done = redirected(&dir, args, redirection);
            assert_eq!(done.code, 1, "{args} {redirection}");
            let said = format!("cannot write the output: {why}");
            assert!(done.stderr.contains(&said), "{args} {redirection}: {}", done.stderr);
        }
    }
}

#[test]
fn an_unused_closed_output_is_not_a_failure() {
    let dir = TestDir::new();
    // Nothing is printed, so nothing is lost.
    assert_eq!(redirected(&dir, "put a/b/c k value", ">&-").code, 0);
    for redirection in [">/dev/null", "1<>/dev/null"] {
        let done = redirected(&dir, "get a/b/c k", redirection);
        assert_eq!((done.code, &*done.stderr), (0, ""), "{redirection}");
    }
}
