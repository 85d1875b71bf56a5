//! The cache after a write, successful or failed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rstest::rstest;
use storage_core::conformance::{Fault, Method};
use storage_core::{Commit, ComponentStorage, StorageError};

use crate::support::{LARGE, Setup, Write, assert_holds, bytes, io_error};

/// The next read shows whether the failed write took effect.
#[rstest]
fn a_failed_write_leaves_nothing_cached(
    #[values(false, true)] panics: bool,
    #[values(false, true)] took_effect: bool,
) {
    for write in Write::ALL {
        let setup = Setup::new();
        setup.cached.set("key", "old".into()).unwrap();
        let fault = if panics { Fault::panic("on purpose") } else { Fault::error(io_error()) };
        let fault = fault.on(&Method::WRITES).nth(1);
        setup.failing().inject(if took_effect { fault.after() } else { fault });
        let outcome = catch_unwind(AssertUnwindSafe(|| write.perform(&*setup.cached, "key")));
        assert_eq!(outcome.ok(), (!panics).then(|| Err(io_error())), "{write:?}");

        assert_eq!(setup.try_get("key"), None, "{write:?}");
        let stats = setup.cached.stats();
        assert_eq!((stats.entries, stats.bytes), (0, 0));
        assert_holds(&*setup.cached, "key", if took_effect { write.leaves() } else { Some("old") });
        // No lock is left behind.
        setup.cached.set("key", "later".into()).unwrap();
        assert_holds(&*setup.cached, "key", Some("later"));
    }
}

/// Otherwise a retry after a conflict would read the same value again.
#[test]
fn a_failed_commit_removes_the_keys_it_checked() {
    let setup = Setup::new();
    for key in ["checked", "written"] {
        storage_core::put(&*setup.cached, key, "old".into()).unwrap();
    }
    setup.around().set("checked", "new".into()).unwrap();
    let swap = || {
        let found = setup.cached.get_versioned("checked").unwrap().unwrap();
        let commit = Commit::new().require_revision("checked", found.revision);
        setup.cached.commit(commit.set("written", "new".into()))
    };
    assert_eq!(swap(), Err(StorageError::Conflict("checked".into())));
    assert_eq!((setup.try_get("checked"), setup.try_get("written")), (None, None));
    assert!(swap().is_ok());
    assert_holds(&*setup.cached, "checked", Some("new"));
    assert_holds(&*setup.cached, "written", Some("new"));
}

#[test]
fn a_commit_caches_the_last_write_to_each_key() {
    let setup = Setup::new();
    setup.cached.set("checked", "value".into()).unwrap();
    let commit = Commit::new().require_present("checked").set("a", "1".into()).delete("b");
    let commit = commit.set("a", "2".into()).set("b", "3".into()).delete("a");
    let revision = setup.cached.commit(commit).unwrap();
    setup.counting().reset();
    assert_holds(&*setup.cached, "a", None);
    assert_holds(&*setup.cached, "b", Some("3"));
    assert_eq!(setup.cached.get_versioned("b").unwrap().unwrap().revision, revision);
    assert_eq!(setup.try_get("checked"), Some(Some("value".into())), "only checked");
    assert_eq!(setup.counting().total(), 0);
}

#[test]
fn a_value_too_large_to_cache_replaces_the_cached_one() {
    for write in ["set", "commit"] {
        let setup = Setup::small();
        setup.cached.set("key", "old".into()).unwrap();
        match write {
            "set" => setup.cached.set("key", bytes(LARGE)).unwrap(),
            _ => drop(setup.cached.commit(Commit::new().set("key", bytes(LARGE))).unwrap()),
        }
        assert_eq!(setup.try_get("key"), None);
        assert_eq!(setup.cached.get("key"), Ok(Some(bytes(LARGE))));
        assert_eq!(setup.cached.stats().refusals, 1);
    }
}
