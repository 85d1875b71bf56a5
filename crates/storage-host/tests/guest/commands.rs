//! The committed guests in an embedding host.

use std::sync::Arc;
use std::time::Duration;

use storage_core::conformance::ReferenceStorage;
use storage_host::{Budget, Limits, StorageHost};

use crate::runner::{Runner, memory};

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
    // Reading and deleting still work.
    assert_eq!(probe.printed("a/b/1", &["get", "key"]), "value value\n");
    assert_eq!(probe.printed("a/b/1", &["delete", "fill/00000000"]), "deleted\n");
    assert_eq!(probe.printed("a/b/1", &["exists", "fill/00000000"]), "false\n");
    assert_eq!(probe.printed("a/b/1", &["set", "fill/0000000x", "y"]), "set\n");
    // A neighbour has its own quota.
    assert_eq!(probe.printed("a/b/2", &["fill", "4"]), "filled 4\n");
    let unlimited = Runner::new(memory(), "probe").printed("a/b/1", &["usage"]);
    assert_eq!(unlimited, format!("used-bytes 0\nquota-bytes {}\nkey-count 0\n", u64::MAX));
}

#[test]
fn handles_of_wasi_do_not_count() {
    let mut limits = Limits::default();
    limits.handles = 0;
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new())).limits(limits).build();
    // The guest opens its standard output.
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
fn a_guest_traps_once_its_host_is_shut_down() {
    for (guest, args) in [("notes", &["add", "x"][..]), ("keyvalue-main", &[]), ("extended", &[])] {
        let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
        host.shut_down(Duration::from_secs(600)).unwrap();
        let ended = Runner::new(host, guest).run("a/b/c", args);
        assert_eq!(ended.status, Err("the host is shutting down".to_owned()), "{guest}");
    }
}
