//! Stores on a server: commands on them, and that no password is shown.

use std::process::Stdio;

use rstest::rstest;

use crate::server::{empty, server, url};
use crate::support::{Done, TestDir};

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
    let Some(server) = server() else { return };
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
        let output = dir.command(arguments).env("STORAGE_HOST_LOG", "trace").output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let shown = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!shown.contains(secret), "{arguments:?}: {shown}");
    }
    let mut command = dir.command(&["--store", "file:a", "doctor"]);
    let output = command.env("STORAGE_HOST_STORE", &closed).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("names another store") && !shown.contains(secret), "{shown}");
}

/// Two processes with eight instances each.
#[rstest]
#[case(25)]
#[ignore = "10,000 increments take minutes on a slow disk"]
#[case(625)]
fn increments_of_two_processes_are_all_counted(#[case] times: u32) {
    const INSTANCES: u32 = 8;
    const ID: &str = "app/counter/main";
    let Some(store) = url("increments") else { return };
    let dir = TestDir::new();
    let text =
        include_str!("data/increments.wat").replace("const TIMES", &format!("const {times}"));
    let component = dir.file("increments.wasm", &wat::parse_str(text).unwrap());
    let instances = INSTANCES.to_string();
    let run = ["--store", &store, "run", "--id", ID, "--instances", &instances, &component];
    let processes = [(); 2].map(|()| {
        let mut command = dir.command(&run);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for process in processes {
        let done = Done::of(process.wait_with_output().unwrap());
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    }
    let counted = dir.printed(&["--store", &store, "get", ID, "n"]);
    assert_eq!(counted, (2 * INSTANCES * times).to_string());
    empty(&store);
}
