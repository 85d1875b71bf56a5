//! Granted keys of another component, in both drafts of `wasi:keyvalue` and in the extended
//! interface.

use std::sync::Arc;

use rstest::rstest;
use storage_core::conformance::ReferenceStorage;
use storage_host::{
    Access, Budget, ComponentId, ComponentSettings, ComponentStorage, Grant, StorageHost,
};

use crate::runner::{Session, host_on, memory};

const OWNER: &str = "app/notes/home";
const READER: &str = "app/report/1";

fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

fn grant(host: &StorageHost, prefix: &str, access: Access) {
    let grant = Grant { owner: id(OWNER), prefix: prefix.to_owned(), access };
    host.grant(&id(READER), grant);
}

fn revoke(host: &StorageHost, prefix: &str) {
    assert!(host.revoke(&id(READER), &id(OWNER), prefix));
}

/// Gives the owner keys that begin with `shared/`, and one that does not.
fn fill(host: &StorageHost) {
    let owner = host.component(&id(OWNER));
    for (key, value) in [("shared/a", "1"), ("shared/b", "2"), ("shared/n", "5"), ("secret", "s")] {
        owner.set(key, value.into()).unwrap();
    }
}

/// The owner's keys and values.
fn owned(host: &StorageHost) -> String {
    let owner = host.component(&id(OWNER));
    let keys = owner.list_keys(None).unwrap();
    let value = |key: &String| {
        let value = owner.get(key).unwrap().unwrap();
        format!("{key}={}", std::str::from_utf8(value.as_bytes()).unwrap())
    };
    keys.iter().map(value).collect::<Vec<_>>().join(" ")
}

const UNCHANGED: &str = "secret=s shared/a=1 shared/b=2 shared/n=5";

#[rstest]
fn without_a_grant_existence_is_hidden(
    #[values("draft", "draft2", "extended", "spin")] interface: &str,
) {
    let host = memory();
    fill(&host);
    let mut session = Session::new(&host, READER);
    for name in [OWNER, "app/notes/never"] {
        assert_eq!(session.call(&[interface, "open", name]), "access-denied", "{name}");
    }
    // A grant in the other direction.
    host.grant(
        &id(OWNER),
        Grant { owner: id(READER), prefix: String::new(), access: Access::ReadWrite },
    );
    assert_eq!(session.call(&[interface, "open", OWNER]), "access-denied");
    for name in ["app/notes", "app/notes/home/", "app/notes/home/shared", "APP/NOTES/HOME x", "*"] {
        assert_eq!(session.call(&[interface, "open", name]), "no-such-store", "{name}");
    }
}

#[rstest]
fn the_id_of_a_component_opens_its_own_store(#[values("draft", "draft2", "spin")] interface: &str) {
    let host = memory();
    host.component(&id(READER)).set("mine", "here".into()).unwrap();
    let mut session = Session::new(&host, READER);
    for name in ["", "default", READER] {
        assert_eq!(session.call(&[interface, "open", name]), "ok");
        assert_eq!(session.call(&[interface, "get", "mine"]), "here");
    }
    assert_eq!(session.call(&["extended", "open", READER]), "ok");
    assert_eq!(session.say("extended get-versioned mine"), "here");
    assert_eq!(session.say("extended usage"), "8 bytes, 1 keys, no quota");
}

#[rstest]
fn a_read_grant_allows_only_reads_of_its_prefix(
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    fill(&host);
    grant(&host, "shared/", Access::Read);
    let mut session = Session::with_open(&host, READER, OWNER);
    for interface in ["draft", "draft2"] {
        let mut says = |call: &str| session.say(&format!("{interface} {call}"));
        assert_eq!(says("get shared/a"), "1");
        assert_eq!(says("get secret"), "none", "a key outside of the grant does not exist");
        assert_eq!(says("get missing"), "none");
        assert_eq!(says("exists shared/a"), "true");
        assert_eq!(says("exists secret"), "false");
        assert_eq!(says("list-keys"), "shared/a shared/b shared/n");
        assert_eq!(says("get-many shared/b secret shared/a"), "2 none 1");
        for key in ["shared/a", "shared/new", "secret", "missing"] {
            assert_eq!(says(&format!("set {key} x")), "access-denied", "{key}");
            assert_eq!(says(&format!("delete {key}")), "access-denied", "{key}");
            assert_eq!(says(&format!("increment {key} 1")), "access-denied", "{key}");
            assert_eq!(says(&format!("set-many {key} x")), "access-denied", "{key}");
            assert_eq!(says(&format!("delete-many {key}")), "access-denied", "{key}");
        }
        assert_eq!(says("increment shared/n 1"), "access-denied");
    }
    assert_eq!(session.say("draft2 cas shared/a"), "ok");
    assert_eq!(session.say("draft2 current"), "1");
    assert_eq!(session.say("draft2 swap x"), "access-denied");
    assert_eq!(session.say("draft2 cas secret"), "ok");
    assert_eq!(session.say("draft2 current"), "none");
    assert_eq!(session.say("draft2 swap x"), "access-denied");

    let mut says = |call: &str| session.say(&format!("extended {call}"));
    assert_eq!(says("get-versioned shared/b"), "2");
    assert_eq!(says("get-versioned secret"), "none");
    assert_eq!(says("list-page "), "shared/a shared/b shared/n");
    assert_eq!(says("list-page s"), "shared/a shared/b shared/n");
    assert_eq!(says("list-page shared/b"), "shared/b");
    assert_eq!(says("list-page secret"), "");
    assert_eq!(says("list-page  secret"), "shared/a shared/b shared/n");
    assert_eq!(says("list-page  shared/a"), "shared/b shared/n");
    assert_eq!(says("get-many secret shared/a"), "none 1");
    assert_eq!(says("usage"), "27 bytes, 3 keys, no quota");
    for call in [
        "create shared/new x",
        "create secret x",
        "update shared/a x",
        "update secret x",
        "commit shared/a=x",
        "commit secret=x",
        "commit shared/a",
        "commit check secret s",
        "commit check secret guess",
    ] {
        assert_eq!(says(call), "access-denied", "{call}");
    }
    // Checking a readable key is not a write.
    assert_eq!(says("commit check shared/a 1"), "ok");
    assert_eq!(says("commit check shared/a 2"), "conflict: shared/a");
    assert_eq!(owned(&host), UNCHANGED);
}

#[rstest]
fn a_write_grant_allows_only_its_prefix(
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let Some(host) = host_on(store, directory.path()) else { return };
    for interface in ["draft", "draft2"] {
        fill(&host);
        grant(&host, "shared/", Access::ReadWrite);
        let mut session = Session::with_open(&host, READER, OWNER);
        let mut says = |call: &str| session.say(&format!("{interface} {call}"));
        assert_eq!(says("set shared/a 10"), "ok");
        assert_eq!(says("increment shared/n 1"), "6");
        assert_eq!(says("set-many shared/c 3 shared/d 4"), "ok");
        assert_eq!(says("delete-many shared/b shared/d"), "ok");
        assert_eq!(owned(&host), "secret=s shared/a=10 shared/c=3 shared/n=6");
        assert_eq!(says("delete shared/c"), "ok");
        for call in ["set secret x", "delete secret", "increment secret 1", "set share x"] {
            assert_eq!(says(call), "access-denied", "{call}");
        }
        // With one key outside of the grant, none is written.
        assert_eq!(says("set-many shared/a x secret x"), "access-denied");
        assert_eq!(says("delete-many shared/a secret"), "access-denied");
        assert_eq!(owned(&host), "secret=s shared/a=10 shared/n=6");
    }

    fill(&host);
    let mut session = Session::with_open(&host, READER, OWNER);
    assert_eq!(session.say("draft2 cas shared/b"), "ok");
    assert_eq!(session.say("draft2 swap 20"), "ok");
    assert_eq!(session.say("draft2 cas shared/b"), "ok");
    host.component(&id(OWNER)).set("shared/b", "21".into()).unwrap();
    assert_eq!(session.say("draft2 swap 22"), "cas-failed");
    assert_eq!(session.say("draft2 current"), "21");
    assert_eq!(session.say("draft2 swap 22"), "ok");
    let mut says = |call: &str| session.say(&format!("extended {call}"));
    assert_eq!(says("create shared/e 5"), "ok");
    assert_eq!(says("create shared/e 6"), "already-exists: shared/e");
    assert_eq!(says("update shared/e 6"), "ok");
    assert_eq!(says("commit check shared/e 6 shared/e shared/f=7"), "ok");
    assert_eq!(says("commit shared/f=8 secret=x"), "access-denied");
    assert_eq!(says("create secret x"), "access-denied");
    assert_eq!(owned(&host), "secret=s shared/a=1 shared/b=22 shared/f=7 shared/n=5");
}

#[test]
fn open_handles_lose_a_revoked_grant() {
    let host = memory();
    fill(&host);
    grant(&host, "shared/", Access::ReadWrite);
    let mut session = Session::with_open(&host, READER, OWNER);
    assert_eq!(session.say("draft get shared/a"), "1");
    assert_eq!(session.say("draft2 cas shared/a"), "ok");
    revoke(&host, "shared/");
    for interface in ["draft", "draft2"] {
        for call in [
            "get shared/a",
            "get secret",
            "exists shared/a",
            "set shared/a x",
            "delete shared/a",
            "list-keys",
            "increment shared/n 1",
            "get-many shared/a",
            "set-many shared/a x",
            "delete-many shared/a",
        ] {
            assert_eq!(session.say(&format!("{interface} {call}")), "access-denied", "{call}");
        }
    }
    assert_eq!(session.say("draft2 current"), "access-denied");
    assert_eq!(session.say("draft2 cas shared/a"), "access-denied", "the old handle is kept");
    assert_eq!(session.say("draft2 swap x"), "access-denied");
    for call in [
        "get-versioned shared/a",
        "list-page ",
        "get-many shared/a",
        "create shared/new x",
        "update shared/a x",
        "commit shared/a=x",
        "commit check shared/a 1",
        "usage",
    ] {
        assert_eq!(session.say(&format!("extended {call}")), "access-denied", "{call}");
    }
    for interface in ["draft", "draft2", "extended"] {
        assert_eq!(session.call(&[interface, "open", OWNER]), "access-denied");
    }
    assert_eq!(owned(&host), UNCHANGED);
    // Its own store is not affected.
    assert_eq!(session.call(&["draft", "open", ""]), "ok");
    assert_eq!(session.say("draft set mine x"), "ok");

    // Granted again, it can be opened again.
    grant(&host, "shared/", Access::Read);
    assert_eq!(session.say("draft2 get shared/a"), "access-denied");
    assert_eq!(session.call(&["draft2", "open", OWNER]), "ok");
    assert_eq!(session.say("draft2 get shared/a"), "1");
}

#[test]
fn open_handles_see_changed_grants() {
    let host = memory();
    fill(&host);
    grant(&host, "shared/a", Access::Read);
    let mut session = Session::with_open(&host, READER, OWNER);
    assert_eq!(session.say("draft2 list-keys"), "shared/a");
    grant(&host, "shared/n", Access::ReadWrite);
    assert_eq!(session.say("draft2 list-keys"), "shared/a shared/n");
    assert_eq!(session.say("extended list-page "), "shared/a shared/n");
    assert_eq!(session.say("draft increment shared/n 2"), "7");
    grant(&host, "shared/n", Access::Read);
    assert_eq!(session.say("draft increment shared/n 2"), "access-denied");
    assert_eq!(session.say("draft get shared/n"), "7");
    revoke(&host, "shared/a");
    assert_eq!(session.say("draft get shared/a"), "none", "one of two grants is left");
    assert_eq!(session.say("draft list-keys"), "shared/n");
}

/// Writes count for the owner, whose quota is not exposed.
#[test]
fn the_quota_of_the_owner_applies_and_is_hidden() {
    let settings = ComponentSettings {
        quota: Some(Budget { max_bytes: 39, max_keys: 5 }),
        ..Default::default()
    };
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new()))
        .component(id(OWNER), settings)
        .build();
    fill(&host);
    grant(&host, "shared/", Access::ReadWrite);
    let mut session = Session::with_open(&host, READER, OWNER);
    let over = "other: over the quota of the store's owner";
    for draft in ["draft", "draft2"] {
        for call in ["set shared/a 1234567", "set-many shared/x 1 shared/y 2"] {
            assert_eq!(session.say(&format!("{draft} {call}")), over, "{call}");
        }
    }
    assert_eq!(session.say("draft2 cas shared/a"), "ok");
    assert_eq!(session.say("draft2 swap 1234567"), over);
    assert_eq!(session.say("extended update shared/a 1234567"), "quota-exceeded");
    assert_eq!(session.say("extended usage"), "27 bytes, 3 keys, no quota");
    assert_eq!(owned(&host), UNCHANGED);
    assert_eq!(session.say("draft delete shared/b"), "ok");
    assert_eq!(session.say("draft set shared/a 1234567"), "ok");
    // The reader's own store has no quota.
    assert_eq!(session.call(&["draft", "open", ""]), "ok");
    assert_eq!(session.call(&["draft", "set", "k", &"x".repeat(100)]), "ok");
}
