//! Locks that do not work, and whose holder is not known.

#![cfg(target_os = "linux")]

use std::fs;
use std::process::Command;

use rstest::rstest;

use crate::support::{Done, TestDir, started_by};

/// The command below another one; `None`, with the reason, where this machine lacks
/// that or may not use it.
fn below(dir: &TestDir, program: &[&str], args: &[&str]) -> Option<Done> {
    let (name, options) = program.split_first()?;
    let works = Command::new(name).args(options).arg("true").output();
    if !works.as_ref().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED below {name}: {works:?}");
        return None;
    }
    Some(Done::of(started_by(program, &dir.command(args)).output().unwrap()))
}

/// What the command does where each request for a lock is answered so.
fn where_locks(dir: &TestDir, answer: &str, args: &[&str]) -> Option<Done> {
    let inject = format!("inject=flock:{answer}");
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", &inject];
    below(dir, &strace, args)
}

#[rstest]
#[case::file("file:data")]
#[cfg_attr(feature = "redb", case::redb("redb:data"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data"))]
fn a_store_whose_lock_does_not_work_is_not_written_to(#[case] store: &str) {
    let dir = TestDir::with_file_store();
    let put = |value: &'static str| ["--store", store, "put", "a/b/c", "key", value];
    let answers = [
        ("retval=0", "the file system grants an exclusive lock while another is held"),
        ("error=ENOLCK", "No locks available (os error 37)"),
        ("error=EOPNOTSUPP", "Operation not supported (os error 95)"),
    ];
    for there in [false, true] {
        if there {
            dir.printed(&put("value"));
        }
        for (answer, why) in answers {
            let Some(done) = where_locks(&dir, answer, &put("other")) else { return };
            assert_eq!((done.code, &*done.stdout), (1, ""), "{}", done.stderr);
            let told = format!(
                "error: cannot open the store \"{store}\": cannot lock the store data: {why}; \
                 locks do not work on this file system, and without them two writers would damage \
                 the store; keep the store on a local file system\n"
            );
            assert_eq!(done.stderr, told);
            if there {
                let done = where_locks(&dir, answer, &["--store", store, "--json", "doctor"]);
                let stdout = done.unwrap().stdout;
                let document: serde_json::Value = serde_json::from_str(&stdout).unwrap();
                let mut findings = document["findings"].as_array().unwrap().iter();
                let warned = findings.any(|finding| {
                    let text = finding["text"].as_str().unwrap();
                    text.contains(why) && text.contains("locks do not work on this file system")
                });
                assert!(warned, "{answer}: {document}");
            }
        }
        if !there {
            assert!(!store.starts_with("redb") || !dir.path().join("data").exists());
        }
    }
    assert_eq!(dir.printed(&["--store", store, "get", "a/b/c", "key"]), "value");
}

#[rstest]
#[case::file("file:data")]
#[cfg_attr(feature = "redb", case::redb("redb:data"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data"))]
fn a_process_of_another_container_is_not_named(#[case] store: &str) {
    let dir = TestDir::with_file_store();
    let put = ["--wait", "0", "--store", store, "put", "a/b/c", "key", "value"];
    dir.printed(&put);
    let held = dir.hold(store);
    let told = dir.run(&put).stderr;
    let named = format!(
        "error: cannot open the store \"{store}\": the store data is locked: process {} has it \
         open for writing; retry when that process has ended, or stop it\n",
        std::process::id()
    );
    assert_eq!(told, named);
    // With its own /proc, and with a /proc that shows the ids of another namespace.
    for unshare in
        [["unshare", "--pid", "--fork", "--mount-proc"].as_slice(), &["unshare", "--pid", "--fork"]]
    {
        let Some(done) = below(&dir, unshare, &put) else { return };
        let told = format!(
            "error: cannot open the store \"{store}\": the store data is locked: another process, \
             perhaps in another container or on another machine, has it open for writing; retry \
             when it has closed the store\n"
        );
        assert_eq!((done.code, done.stderr), (1, told));
    }
    drop(held);
    dir.printed(&put);
}

#[test]
fn a_number_in_a_lock_file_is_not_a_process() {
    let dir = TestDir::with_file_store();
    let put = ["--wait", "0", "put", "a/b/c", "key", "value"];
    dir.printed(&put);
    let _held = dir.hold("file:storage-data");
    // What a process of another container wrote: here it is another process.
    fs::write(dir.path().join("storage-data/LOCK"), "1\n").unwrap();
    let told = dir.run(&put).stderr;
    assert!(told.contains(&format!("process {} has it open", std::process::id())), "{told}");
}
