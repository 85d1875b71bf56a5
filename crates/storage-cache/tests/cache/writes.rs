//! What a write leaves behind, whatever becomes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rstest::rstest;
use storage_core::conformance::{Fault, Method};
use storage_core::{Commit, ComponentStorage, StorageError};

use crate::support::{Setup, Write, assert_holds, bytes, io_error};

#[derive(Debug, Clone, Copy)]
enum Failing {
    Error,
    Panic,
}

impl Failing {
    fn fault(self) -> Fault {
        match self {
            Self::Error => Fault::error(io_error()),
            Self::Panic => Fault::panic("on purpose"),
        }
        .on(&Method::WRITES)
        .nth(1)
    }
}

/// Failed before it took effect or after, nothing is kept and the storage below
/// has the last word.
#[rstest]
fn a_write_that_failed_leaves_nothing_cached(
    #[values(Write::Set, Write::Put, Write::Delete, Write::CommitSet, Write::CommitDelete)]
    write: Write,
    #[values(Failing::Error, Failing::Panic)] failing: Failing,
    #[values(false, true)] took_effect: bool,
) {
    let setup = Setup::new();
    storage_core::put(&setup.cached, "key", "old".into()).unwrap();
    assert_eq!(setup.cached.try_get("", "key"), Some(Some("old".into())));
    let fault = failing.fault();
    setup.failing().inject(if took_effect { fault.after() } else { fault });

    let outcome = catch_unwind(AssertUnwindSafe(|| write.perform(&*setup.cached, "key")));
    match failing {
        Failing::Error => assert_eq!(outcome.unwrap(), Err(io_error())),
        Failing::Panic => assert!(outcome.is_err()),
    }
    assert_eq!(setup.cached.try_get("", "key"), None);
    let stats = setup.cached.stats();
    assert_eq!((stats.entries, stats.bytes), (0, 0));
    let expected = if took_effect { write.leaves() } else { Some("old") };
    assert_holds(&*setup.cached, "key", expected);

    // The key can be written again: no lock was left behind.
    setup.cached.set("key", "later".into()).unwrap();
    assert_holds(&*setup.cached, "key", Some("later"));
}

/// Who is told of a conflict reads again. From the cache he would get what he
/// had, again and again.
#[test]
fn a_commit_that_fails_drops_the_keys_it_checked() {
    let setup = Setup::new();
    storage_core::put(&setup.cached, "checked", "old".into()).unwrap();
    storage_core::put(&setup.cached, "written", "old".into()).unwrap();
    setup.around().set("checked", "new".into()).unwrap();
    let held = setup.cached.get_versioned("checked").unwrap().unwrap();
    let swap = |revision| {
        let commit = Commit::new().require_revision("checked", revision);
        setup.cached.commit(commit.set("written", "new".into()))
    };
    assert_eq!(swap(held.revision), Err(StorageError::Conflict("checked".into())));
    assert_eq!(setup.cached.try_get("", "checked"), None);
    assert_eq!(setup.cached.try_get("", "written"), None);
    let held = setup.cached.get_versioned("checked").unwrap().unwrap();
    assert!(swap(held.revision).is_ok());
    assert_holds(&*setup.cached, "checked", Some("new"));
    assert_holds(&*setup.cached, "written", Some("new"));
}

#[test]
fn a_commit_that_succeeds_leaves_the_keys_it_only_checked() {
    let setup = Setup::new();
    setup.cached.set("checked", "value".into()).unwrap();
    setup
        .cached
        .commit(Commit::new().require_present("checked").set("written", "1".into()))
        .unwrap();
    assert_eq!(setup.cached.try_get("", "checked"), Some(Some("value".into())));
    assert_eq!(setup.cached.try_get("", "written"), Some(Some("1".into())));
}

#[test]
fn the_last_write_of_a_commit_counts() {
    let setup = Setup::new();
    let commit = Commit::new().set("a", "1".into()).delete("b").set("a", "2".into());
    setup.cached.commit(commit.set("b", "3".into()).delete("a")).unwrap();
    assert_eq!(setup.cached.try_get("", "a"), Some(None));
    assert_eq!(setup.cached.try_get("", "b"), Some(Some("3".into())));
    assert_holds(&*setup.cached, "a", None);
    assert_holds(&*setup.cached, "b", Some("3"));
}

#[test]
fn a_commit_of_many_keys_is_seen_whole_afterwards() {
    let setup = Setup::new();
    let keys: Vec<String> = (0..200).map(|n| format!("key {n}")).collect();
    for key in &keys {
        setup.cached.set(key, "old".into()).unwrap();
    }
    let all = |commit: Commit, key: &String| commit.set(key.clone(), "new".into());
    setup.cached.commit(keys.iter().rev().fold(Commit::new(), all)).unwrap();
    setup.counting().reset();
    for key in &keys {
        assert_eq!(setup.cached.get(key), Ok(Some("new".into())));
    }
    assert_eq!(setup.counting().total(), 0);
}

#[test]
fn a_commit_of_nothing_goes_below() {
    let setup = Setup::new();
    let first = setup.cached.commit(Commit::new()).unwrap();
    assert!(setup.cached.commit(Commit::new()).unwrap() > first);
    assert_eq!(setup.counting().calls(Method::Commit), 2);
}

/// A value that is refused must not leave the one before it.
#[rstest]
fn a_value_too_large_to_keep_replaces_what_was_kept(
    #[values(Write::Set, Write::Put, Write::CommitSet)] write: Write,
) {
    let setup = Setup::with(storage_cache::CacheConfig {
        max_size_bytes: 64 << 10,
        ..storage_cache::CacheConfig::default()
    });
    setup.cached.set("key", "old".into()).unwrap();
    let large = bytes(64 << 10);
    match write {
        Write::Set => setup.cached.set("key", large.clone()).unwrap(),
        Write::Put => drop(storage_core::put(&setup.cached, "key", large.clone()).unwrap()),
        _ => drop(setup.cached.commit(Commit::new().set("key", large.clone())).unwrap()),
    }
    assert_eq!(setup.cached.try_get("", "key"), None);
    assert_eq!(setup.cached.get("key"), Ok(Some(large)));
    assert_eq!(setup.cached.stats().refusals, 1);
}
