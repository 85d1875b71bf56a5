//! Stores on a server: commands on them, and that no password is shown.

use std::env;

use storage_host::{Mode, StoreUrl};

use crate::support::TestDir;

/// Names a server: `postgres://USER@HOST:PORT/DB`.
const VARIABLE: &str = "STORAGE_TEST_POSTGRES_URL";

/// The URL of an empty store that no other test uses; `None` without a server.
fn url(test: &str) -> Option<String> {
    let Ok(server) = env::var(VARIABLE) else {
        println!("SKIPPED: {VARIABLE} names no PostgreSQL server");
        return None;
    };
    // Always the same schema, because no command drops one.
    let url = format!("{server}?schema=test_cli_{test}");
    empty(&url);
    Some(url)
}

/// Deletes all keys, also those of an earlier run that failed.
fn empty(url: &str) {
    let store = url.parse::<StoreUrl>().unwrap().open(Mode::ReadWrite).unwrap();
    for key in store.list_keys(None).unwrap() {
        store.delete(&key).unwrap();
    }
}

#[test]
fn commands_work_on_a_server_and_copies_go_both_ways() {
    let (Some(from), Some(to)) = (url("from"), url("to")) else { return };
    let dir = TestDir::new();
    dir.printed(&["--store", &from, "put", "app/notes/home", "a", "value"]);
    dir.printed(&["--store", &from, "put", "app/notes/work", "b", "value"]);
    assert_eq!(dir.printed(&["--store", &from, "components"]), "app/notes/home\napp/notes/work\n");
    dir.run(&["copy", "--from", &from, "--to", "file:copy"]);
    dir.printed(&["copy", "--from", "file:copy", "--to", &to]);
    assert_eq!(dir.printed(&["--store", &to, "get", "app/notes/work", "b"]), "value");
    let verified = dir.printed(&["--store", &to, "verify"]);
    assert!(verified.starts_with("no problems found: 2 keys of 2 components"), "{verified}");
    let doctor = dir.printed(&["--store", &to, "doctor"]);
    assert!(doctor.contains("server         PostgreSQL "), "{doctor}");
    let same = dir.run(&["copy", "--from", &to, "--to", &to]);
    assert!(same.code == 2 && same.stderr.contains("are the same store"), "{}", same.stderr);
    empty(&from);
    empty(&to);
}

#[test]
fn a_missing_store_on_a_server_is_not_a_problem() {
    let Ok(server) = env::var(VARIABLE) else {
        println!("SKIPPED: {VARIABLE} names no PostgreSQL server");
        return;
    };
    let dir = TestDir::new();
    let url = format!("{server}?schema=test_cli_missing");
    let text = dir.printed(&["--store", &url, "doctor"]);
    assert!(text.contains("does not exist yet; the first write creates it"), "{text}");
    let done = dir.run(&["--store", &url, "--json", "doctor"]);
    assert!(done.stdout.contains("\"exists\":false"), "{}", done.stdout);
    assert_eq!(done.code, 0, "{}", done.stderr);
}

#[test]
fn no_password_is_shown() {
    let dir = TestDir::new();
    let secret = "hunter2";
    let closed = format!("postgres://ada:{secret}@127.0.0.1:1/apps");
    let commands: [&[&str]; 12] = [
        &["--store", &closed, "components"],
        &["--store", &closed, "--json", "components"],
        &["--store", &closed, "doctor"],
        &["--store", &closed, "--json", "doctor"],
        &["--store", &closed, "verify"],
        &["--store", &closed, "demo"],
        &["--store", &format!("{closed}?schema=NO"), "components"],
        &["--store", &format!("postgres:ada:{secret}@127.0.0.1/d"), "components"],
        &["--store", &format!("postgres://ada:{secret}@127.0.0.1/"), "--json", "components"],
        &["copy", "--from", &format!("{closed}?x=y"), "--to", "file:a"],
        &["copy", "--from", &closed, "--to", "file:a"],
        &["--config", "storage.toml", "components"],
    ];
    let manifest = format!("store = \"postgres://ada:{secret}@127.0.0.1/\"\n");
    std::fs::write(dir.path().join("storage.toml"), manifest).unwrap();
    for arguments in commands {
        let done = dir.run(arguments);
        assert_ne!(done.code, 0, "{arguments:?}");
        let shown = format!("{}{}", done.stdout, done.stderr);
        assert!(!shown.contains(secret), "{arguments:?}: {shown}");
    }
    let mut command = dir.command(&["--store", "file:a", "doctor"]);
    let output = command.env("STORAGE_HOST_STORE", &closed).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("names another store") && !shown.contains(secret), "{shown}");
}
