//! `fermyon:spin/key-value`, where it differs from `wasi:keyvalue`.

use std::sync::Arc;

use rstest::rstest;
use storage_core::conformance::ReferenceStorage;
use storage_host::{Access, Budget, ComponentStorage, Grant, Limits, StorageHost};

use crate::runner::{Session, host_on, memory};

const ID: &str = "app/spin/1";

fn limited(limits: Limits) -> StorageHost {
    StorageHost::builder(Arc::new(ReferenceStorage::new())).limits(limits).build()
}

fn open(host: &StorageHost, name: &str) -> Session {
    let mut session = Session::new(host, ID);
    assert_eq!(session.call(&["spin", "open", name]), "ok");
    session
}

#[test]
fn handles_of_every_interface_fill_the_table() {
    let mut limits = Limits::default();
    limits.handles = 3;
    let host = limited(limits);
    let mut session = Session::with_open(&host, ID, "");
    assert_eq!(session.call(&["spin", "open", ""]), "store-table-full");
    let mut session = open(&host, "default");
    assert_eq!(session.say("spin set key value"), "ok");
    assert_eq!(session.say("spin get key"), "value");
}

#[rstest]
fn the_keys_are_listed_whole_or_not_at_all(
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    let mut limits = Limits::default();
    (limits.listing_keys, limits.listing_bytes) = (3, 10);
    let host = StorageHost::builder(Arc::clone(host.store())).limits(limits).build();
    let mut session = open(&host, "");
    for key in ["b", "a", "ccc"] {
        assert_eq!(session.call(&["spin", "set", key, "x"]), "ok");
    }
    assert_eq!(session.say("spin list-keys"), "a b ccc");
    assert_eq!(session.say("spin set d x"), "ok");
    let keys = "other: 4 keys of a listing are over the limit of 3";
    assert_eq!(session.say("spin list-keys"), keys);
    for call in ["delete d", "delete b", "set 1234567 x"] {
        assert_eq!(session.say(&format!("spin {call}")), "ok", "{call}");
    }
    let bytes = "other: 11 bytes of a listing are over the limit of 10";
    assert_eq!(session.say("spin list-keys"), bytes);
}

#[test]
fn a_granted_store_shows_and_changes_what_is_granted() {
    let host = memory();
    let owner = host.component(&"app/notes/home".parse().unwrap());
    owner.set("shared/a", "1".into()).unwrap();
    owner.set("secret", "s".into()).unwrap();
    let grant = |prefix: &str, access| {
        let grant = Grant { owner: owner.id().clone(), prefix: prefix.to_owned(), access };
        host.grant(&ID.parse().unwrap(), grant);
    };
    grant("shared/", Access::Read);
    let mut session = open(&host, "app/notes/home");
    assert_eq!(session.say("spin list-keys"), "shared/a");
    assert_eq!(session.say("spin get shared/a"), "1");
    assert_eq!(session.say("spin get secret"), "none");
    assert_eq!(session.say("spin exists secret"), "false");
    for call in ["set shared/a 2", "delete shared/a", "set secret 2", "delete secret"] {
        assert_eq!(session.say(&format!("spin {call}")), "access-denied", "{call}");
    }
    grant("shared/", Access::ReadWrite);
    assert_eq!(session.say("spin set shared/b 2"), "ok");
    assert_eq!(session.say("spin delete shared/a"), "ok");
    assert_eq!(owner.list_keys(None).unwrap(), ["secret", "shared/b"]);
    host.revoke(&ID.parse().unwrap(), owner.id(), "shared/");
    assert_eq!(session.say("spin get shared/b"), "access-denied");
}

#[test]
fn the_data_quota_and_limits_are_those_of_the_other_interfaces() {
    let quota = Budget { max_bytes: 10, max_keys: 2 };
    let mut limits = Limits::default();
    limits.value_bytes = 8;
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new()));
    let host = host.limits(limits).quota(quota).build();
    let mut session = Session::with_open(&host, ID, "");
    assert_eq!(session.call(&["spin", "open", "default"]), "ok");
    assert_eq!(session.say("draft2 set k 12345678"), "ok");
    assert_eq!(session.say("spin get k"), "12345678");
    let over = "other: over the quota of 10 bytes and 2 keys: delete some first";
    assert_eq!(session.say("spin set m 1"), over);
    let long = "other: 9 bytes of a value are over the limit of 8";
    assert_eq!(session.say("spin set k 123456789"), long);
    assert_eq!(session.say("spin set k 1"), "ok");
    assert_eq!(session.say("extended get-versioned k"), "1");
    let control = session.call(&["spin", "get", "\u{7}"]);
    assert!(control.starts_with("other: a key has no control characters"), "{control}");
}
