//! Expiry of entries.

use std::time::Duration;

use rstest::rstest;
use storage_cache::CacheConfig;
use storage_core::ComponentStorage;
use storage_core::conformance::{Method, Moment};

use crate::support::{LARGE, Read, Setup, TTL, Write, assert_holds, bytes};

const INSTANT: Duration = Duration::from_nanos(1);

/// Every kind of entry, from a read or a write, against every kind of read.
#[rstest]
fn expired_entries_are_misses(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
) {
    let reads = Read::ALL.map(|read| (Some(read), None));
    let writes = Write::ALL.map(|write| (None, Some(write)));
    for origin in reads.into_iter().chain(writes) {
        let setup = Setup::new();
        let before = match origin {
            (_, Some(write)) => {
                write.perform(&*setup.cached, "key").unwrap();
                write.leaves()
            }
            (first, None) => {
                first.unwrap().perform(&*setup.cached, "key").unwrap();
                None
            }
        };
        // The entry now has what the read needs.
        assert_eq!(read.perform(&*setup.cached, "key"), Ok(read.found(before)));
        match before {
            Some(_) => setup.around().delete("key").unwrap(),
            None => setup.around().set("key", "other".into()).unwrap(),
        }
        setup.clock.advance(TTL - INSTANT);
        assert_eq!(read.perform(&*setup.cached, "key"), Ok(read.found(before)), "{origin:?}");
        setup.clock.advance(INSTANT);
        let after = if before.is_some() { None } else { Some("other") };
        assert_eq!(setup.try_get("key"), None, "{origin:?}");
        assert_eq!(read.perform(&*setup.cached, "key"), Ok(read.found(after)), "{origin:?}");
        assert_holds(&*setup.cached, "key", after);
    }
}

#[test]
fn a_hit_does_not_extend_the_ttl() {
    let setup = Setup::new();
    setup.cached.set("key", "old".into()).unwrap();
    setup.around().set("key", "new".into()).unwrap();
    for _ in 0..2 {
        setup.clock.advance(TTL / 2 - INSTANT);
        assert_eq!(setup.cached.get("key"), Ok(Some("old".into())));
    }
    setup.clock.advance(2 * INSTANT);
    assert_eq!(setup.cached.get("key"), Ok(Some("new".into())));
}

#[test]
fn without_a_ttl_entries_do_not_expire() {
    let setup = Setup::with(CacheConfig { ttl: None, ..CacheConfig::default() });
    setup.cached.set("key", "old".into()).unwrap();
    setup.around().set("key", "new".into()).unwrap();
    setup.clock.advance(Duration::from_secs(1 << 40));
    assert_eq!(setup.cached.get("key"), Ok(Some("old".into())));
}

/// Otherwise a write that bypasses the cache during a slow call would stay invisible longer.
#[test]
fn the_ttl_starts_before_the_storage_is_read() {
    let setup = Setup::new();
    let held = setup.backend().hold(&[Method::Get, Method::Set], Moment::After);
    let read = setup.start(|cached| cached.get("read"));
    let write = setup.start(|cached| cached.set("written", "old".into()));
    held.wait_for(2);
    setup.clock.advance(TTL);
    for key in ["read", "written"] {
        setup.around().set(key, "new".into()).unwrap();
    }
    // A reader that starts now must not get the value of the first one.
    let late = setup.start(|cached| cached.get("read"));
    setup.wait_for_misses(2);
    held.release();
    assert_eq!(read.finish(), Ok(None));
    write.finish().unwrap();
    assert_eq!(late.finish(), Ok(Some("new".into())));
    assert_holds(&*setup.cached, "read", Some("new"));
    assert_holds(&*setup.cached, "written", Some("new"));
}

#[test]
fn the_marker_of_a_large_value_expires() {
    let setup = Setup::small();
    setup.cached.set("key", bytes(LARGE)).unwrap();
    setup.around().delete("key").unwrap();
    assert_eq!(setup.cached.exists("key"), Ok(true));
    setup.clock.advance(TTL);
    assert_holds(&*setup.cached, "key", None);
}
