//! The committed guests in an embedding host.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use storage_core::conformance::ReferenceStorage;
use storage_host::{Budget, ComponentStorage, Limits, StorageHost};

use crate::runner::{Runner, memory};

#[test]
fn notebooks_hold_only_their_own_notes() {
    let notes = Runner::new(memory(), "notes");
    assert_eq!(notes.printed("app/notes/home", &["add", "buy milk"]), "added note 1\n");
    assert_eq!(notes.printed("app/notes/work", &["list"]), "");
    assert_eq!(notes.printed("app/notes/work", &["add", "call", "the bank"]), "added note 1\n");
    assert_eq!(notes.printed("app/notes/home", &["list"]), "1  buy milk\n");
    assert_eq!(notes.printed("app/notes/work", &["list"]), "1  call the bank\n");
    assert_eq!(notes.printed("app/notes/wor", &["list"]), "");
    assert_eq!(notes.printed("app/notes/home", &["clear"]), "removed 1 note\n");
    assert_eq!(notes.printed("app/notes/work", &["list"]), "1  call the bank\n");
}

#[test]
fn each_id_has_its_own_counter() {
    let counter = Runner::new(memory(), "counter");
    assert_eq!(counter.printed("app/counter/001", &[]), "run 1\n");
    assert_eq!(counter.printed("app/counter/001", &[]), "run 2\n");
    assert_eq!(counter.printed("app/counter/0011", &[]), "run 1\n");
}

#[test]
fn a_component_learns_its_usage_and_quota() {
    let quota = Budget { max_bytes: 60, max_keys: 100 };
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new())).quota(quota).build();
    let probe = Runner::new(host, "probe");
    probe.printed("a/b/1", &["set", "key", "value"]);
    let usage = "used-bytes 8\nquota-bytes 60\nkey-count 1\n";
    assert_eq!(probe.printed("a/b/1", &["usage"]), usage);
    // fill/00000000 and a byte are 14; three of them and the 8 are 50.
    let ended = probe.run("a/b/1", &["fill", "10"]);
    assert_eq!(ended.status, Ok(1));
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("filled 3\n", "error: quota-exceeded\n")
    );
    // Full, and still able to read and delete.
    assert_eq!(probe.printed("a/b/1", &["get", "key"]), "value value\n");
    assert_eq!(probe.printed("a/b/1", &["delete", "fill/00000000"]), "deleted\n");
    assert_eq!(probe.printed("a/b/1", &["exists", "fill/00000000"]), "false\n");
    assert_eq!(probe.printed("a/b/1", &["set", "fill/0000000x", "y"]), "set\n");
    // A neighbour has its own.
    assert_eq!(probe.printed("a/b/2", &["fill", "4"]), "filled 4\n");
    let unlimited = Runner::new(memory(), "probe").printed("a/b/1", &["usage"]);
    assert_eq!(unlimited, format!("used-bytes 0\nquota-bytes {}\nkey-count 0\n", u64::MAX));
}

#[test]
fn writes_before_a_trap_stay() {
    let probe = Runner::new(memory(), "probe");
    let ended = probe.run("a/b/1", &["trap"]);
    assert_eq!(ended.status, Err("wasm `unreachable` instruction executed".to_owned()));
    assert_eq!(ended.stdout, "set before-trap\n");
    assert_eq!(probe.printed("a/b/1", &["get", "before-trap"]), "value written\n");
}

#[rstest]
#[case(0)]
#[case(1)]
#[case(7)]
#[case(255)]
fn a_status_reaches_the_host(#[case] status: i32) {
    let probe = Runner::new(memory(), "probe");
    assert_eq!(probe.run("a/b/1", &["exit", &status.to_string()]).status, Ok(status));
}

#[test]
fn handles_of_wasi_do_not_count() {
    let mut limits = Limits::default();
    limits.handles = 0;
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new())).limits(limits).build();
    // To print it opens its standard output.
    assert_eq!(Runner::new(host, "probe").run("a/b/1", &["exists", "key"]).status, Ok(0));
}

#[test]
fn keys_are_listed_in_the_order_of_their_bytes() {
    let probe = Runner::new(memory(), "probe");
    for key in ["b", "B", "a/2", "a/10", "\u{e9}", "%", " x "] {
        probe.printed("a/b/1", &["set", key, ""]);
    }
    assert_eq!(probe.printed("a/b/1", &["list"]), " x \n%\nB\na/10\na/2\nb\n\u{e9}\n");
    assert_eq!(probe.printed("a/b/1", &["list", "a/"]), "a/10\na/2\n");
    assert_eq!(probe.printed("a/b/2", &["list"]), "");
}

#[test]
fn a_listing_over_the_default_limit_is_an_error() {
    let host = memory();
    let chain = host.component(&"a/b/1".parse().unwrap());
    for n in 0..100_000 {
        chain.set(&format!("{n:06}"), "".into()).unwrap();
    }
    let probe = Runner::new(host, "probe");
    let listed = probe.run("a/b/1", &["list"]);
    assert_eq!(listed.status, Ok(0));
    assert_eq!(listed.stdout.lines().count(), 100_000);
    chain.set("x", "".into()).unwrap();
    let ended = probe.run("a/b/1", &["list"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (Ok(1), ""));
    assert_eq!(
        ended.stderr,
        "error: io-error: 100001 keys of a listing are over the limit of 100000\n"
    );
}

#[test]
fn a_guest_traps_once_its_host_is_shut_down() {
    for (guest, args) in [("notes", &["add", "x"][..]), ("keyvalue-main", &[]), ("extended", &[])] {
        let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
        host.shut_down(Duration::from_secs(600)).unwrap();
        let ended = Runner::new(host, guest).run("a/b/c", args);
        assert_eq!(ended.status, Err("the host is shutting down".to_owned()), "{guest}");
    }
}
