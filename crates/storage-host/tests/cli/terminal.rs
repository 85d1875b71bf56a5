//! What a terminal shows.

use std::process::{Command, Stdio};

use crate::support::TestDir;

/// Hidden and reordering characters, a quote and a backslash.
const ODD: &str = "a\u{202e}b\u{2028}c\u{200b}d'\\";
const SHOWN: &str = r"a\u{202e}b\u{2028}c\u{200b}d'\";

/// What a shell command shows on a terminal. `None`, and prints the reason, if this
/// machine has no program that creates a terminal.
fn on_a_terminal(dir: &TestDir, command: &str) -> Option<String> {
    if !has_bash() {
        return None;
    }
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", command, "/dev/null"]);
    script.current_dir(dir.path()).stdin(Stdio::null());
    script.env_remove("STORAGE_HOST_STORE").env("TERM", "dumb").env("SHELL", "bash");
    match script.output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).replace('\r', "")),
        Err(error) => {
            println!("SKIPPED a terminal: there is no script from util-linux: {error}");
            None
        }
    }
}

/// The shell that the commands here are written for.
fn has_bash() -> bool {
    let found = Command::new("bash").arg("--version").output();
    if let Err(error) = &found {
        println!("SKIPPED a terminal: there is no bash: {error}");
    }
    found.is_ok()
}

fn program() -> String {
    format!("'{}'", env!("CARGO_BIN_EXE_storage-host"))
}

#[test]
fn hidden_characters_of_keys_are_escaped_on_a_terminal() {
    let dir = TestDir::new();
    dir.printed(&["put", "a/b/c", ODD, "v"]);
    dir.printed(&["put", "a/b/c", "last", "v"]);
    let program = program();
    let Some(shown) = on_a_terminal(&dir, &format!("{program} keys a/b/c")) else { return };
    assert_eq!(shown, format!("{SHOWN}\nlast\n"));
    // A pipe and JSON are exact.
    assert_eq!(dir.printed(&["keys", "a/b/c"]), format!("{ODD}\nlast\n"));
    let json = on_a_terminal(&dir, &format!("{program} --json keys a/b/c")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["keys"][0], ODD);
}

#[test]
fn hidden_characters_of_errors_are_escaped_on_a_terminal() {
    let dir = TestDir::new();
    dir.printed(&["put", "a/b/c", "k", "v"]);
    let program = program();
    for command in ["get a/b/c", "keys a/b/c --limit", "get a/b/c x", "components --store"] {
        // Bash creates the bytes, so that the locale has no influence.
        let odd = r"$'a\342\200\256b\342\200\250c'";
        let command = format!("{program} {command} {odd}");
        let Some(shown) = on_a_terminal(&dir, &command) else { return };
        assert!(shown.contains(r"a\u{202e}b\u{2028}c"), "{command}: {shown}");
        assert!(!shown.contains(['\u{202e}', '\u{2028}']), "{command}: {shown}");
    }
}

/// Runs the printed hint for the next page unchanged.
fn next_page(dir: &TestDir, said: &str) -> String {
    let hint = said.lines().find_map(|line| line.strip_prefix("more keys follow; continue with "));
    let command = format!("{} keys a/b/c {}", program(), hint.unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-c", &command]).current_dir(dir.path()).env_remove("STORAGE_HOST_STORE");
    String::from_utf8(bash.output().unwrap().stdout).unwrap()
}

#[test]
fn the_printed_hint_for_the_next_page_works() {
    if !has_bash() {
        return;
    }
    for key in ["--b", "-", "-5", "it's $HOME", "a b", "~", "!x", ODD] {
        let dir = TestDir::new();
        dir.printed(&["put", "a/b/c", "--", key, "v"]);
        dir.printed(&["put", "a/b/c", "\u{10fffd}", "v"]);
        let done = dir.run(&["keys", "a/b/c", "--limit", "1"]);
        assert_eq!(done.stdout, format!("{key}\n"));
        assert_eq!(next_page(&dir, &done.stderr), "\u{10fffd}\n", "{}", done.stderr);
        let command = format!("{} keys a/b/c --limit 1", program());
        let Some(shown) = on_a_terminal(&dir, &command) else { continue };
        assert_eq!(next_page(&dir, &shown), "\u{10fffd}\n", "{shown}");
        assert!(!shown.contains(['\u{202e}', '\u{2028}', '\u{200b}']), "{shown}");
    }
}
