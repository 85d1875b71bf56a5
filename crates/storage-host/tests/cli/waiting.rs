//! `--wait`: commands retry while the store is locked.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rstest::rstest;

use crate::support::{Done, TestDir, guest};

/// Longer than any machine needs, so that no outcome depends on time.
const LONG: &str = "600";

fn spawn(dir: &TestDir, args: &[&str]) -> Child {
    let mut command = dir.command(args);
    command.env("STORAGE_HOST_LOG", "info").stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Reads what a command says until it contains `text`, and returns it.
fn read_until(output: &mut impl BufRead, text: &str) -> String {
    let mut said = String::new();
    while !said.contains(text) {
        assert!(output.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    said
}

#[rstest]
#[case::file("file")]
#[cfg_attr(feature = "redb", case::redb("redb"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb"))]
fn twenty_puts_at_once_all_succeed(#[case] engine: &str) {
    let dir = TestDir::with_file_store();
    let store = &*format!("{engine}:store");
    // The first creates the store.
    let keys: Vec<String> = (0..20).map(|n| format!("key-{n:02}")).collect();
    let puts: Vec<Child> = keys
        .iter()
        .map(|key| spawn(&dir, &["--store", store, "--wait", LONG, "put", "a/b/c", key, key]))
        .collect();
    let deletes: Vec<Child> = (0..5)
        .map(|_| spawn(&dir, &["--store", store, "--wait", LONG, "delete", "a/b/d", "none"]))
        .collect();
    for put in puts {
        let done = Done::of(put.wait_with_output().unwrap());
        assert_eq!(done.code, 0, "{}", done.stderr);
    }
    for delete in deletes {
        let done = Done::of(delete.wait_with_output().unwrap());
        // Before there is a store there is nothing to delete from.
        let is_early =
            done.stderr.contains("does not exist") || done.stderr.contains("is not a store");
        assert!(done.code == 0 || is_early, "{}", done.stderr);
    }
    let listed = dir.printed(&["--store", store, "keys", "a/b/c"]);
    assert_eq!(listed.lines().collect::<Vec<_>>(), keys);
    for key in &keys {
        assert_eq!(dir.printed(&["--store", store, "get", "a/b/c", key]), *key);
    }
    assert_eq!(dir.run(&["--store", store, "verify"]).code, 0);
}

/// A command that waits for a store until this process closes it.
#[rstest]
#[case::put("file", &["put", "a/b/c", "key", "new"])]
#[case::delete("file", &["delete", "a/b/c", "key"])]
#[case::copy_from("file", &["copy", "--from", "file:store", "--to", "file:target"])]
#[case::copy_to("file", &["copy", "--from", "file:other", "--to", "file:store", "--merge"])]
#[cfg_attr(feature = "redb", case::put_redb("redb", &["put", "a/b/c", "key", "new"]))]
#[cfg_attr(feature = "redb", case::get_redb("redb", &["get", "a/b/c", "key"]))]
#[cfg_attr(feature = "redb", case::keys_redb("redb", &["keys", "a/b/c"]))]
#[cfg_attr(feature = "redb", case::usage_redb("redb", &["usage", "a/b/c"]))]
#[cfg_attr(feature = "redb", case::components_redb("redb", &["components"]))]
#[cfg_attr(feature = "redb", case::verify_redb("redb", &["verify"]))]
#[cfg_attr(feature = "rocksdb", case::put_rocksdb("rocksdb", &["put", "a/b/c", "key", "new"]))]
fn a_command_waits_until_the_store_is_free(#[case] engine: &str, #[case] args: &[&str]) {
    let dir = TestDir::with_file_store();
    let store = &*format!("{engine}:store");
    dir.run(&["--store", "file:other", "put", "a/b/d", "other", "value"]);
    dir.run(&["--store", store, "put", "a/b/c", "key", "value"]);
    let held = dir.hold(store);
    // copy has its own options for stores.
    let named: &[&str] = if args.starts_with(&["copy"]) { &[] } else { &["--store", store] };
    let mut child = spawn(&dir, &[named, &["--wait", LONG], args].concat());
    // The log shows the first attempt.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let said = read_until(&mut stderr, "waiting up to 600 s: cannot ");
    assert!(said.contains("locked: process"), "{said}");
    drop(held);
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!(done.code, 0);
}

#[test]
fn run_waits_if_it_is_asked_to() {
    let dir = TestDir::with_file_store();
    dir.run(&["put", "a/b/c", "key", "value"]);
    let held = dir.hold("file:storage-data");
    let probe = guest("probe");
    let run = ["run", "--id", "a/b/c", &*probe, "get", "key"];
    assert_eq!(dir.run(&run).code, 1, "without --wait it does not wait");
    let mut child = spawn(&dir, &[&["--wait", LONG], &run[..]].concat());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    read_until(&mut stderr, "waiting up to 600 s");
    drop(held);
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.stdout.as_str()), (0, "value value\n"));
}

#[test]
fn a_terminal_shows_the_wait() {
    let dir = TestDir::with_file_store();
    dir.run(&["put", "a/b/c", "key", "value"]);
    let held = dir.hold("file:storage-data");
    let put = dir.command(&[]);
    let program = put.get_program().to_str().unwrap();
    let line = format!("'{program}' --store file:./storage-data --wait {LONG} put a/b/c key new");
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(dir.path());
    script.stdin(Stdio::null()).stdout(Stdio::piped());
    let Ok(mut child) = script.spawn() else {
        println!("SKIPPED a terminal: there is no script");
        return;
    };
    let mut terminal = BufReader::new(child.stdout.take().unwrap());
    read_until(&mut terminal, "waiting up to ");
    drop(held);
    assert!(child.wait().unwrap().success());
    assert_eq!(dir.printed(&["get", "a/b/c", "key"]), "new");
}
