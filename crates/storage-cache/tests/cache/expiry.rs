//! What the time-to-live promises, with a clock that the tests drive.

use std::time::Duration;

use rstest::rstest;
use storage_cache::CacheConfig;
use storage_core::ComponentStorage;
use storage_core::conformance::{Method, Moment};

use crate::support::{Read, Setup, TTL, Write, assert_holds, bytes};

const INSTANT: Duration = Duration::from_nanos(1);

/// How an entry got into the cache.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Read(Read),
    Write(Write),
}

#[rstest]
fn an_entry_counts_until_its_time_is_over_for_every_read(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
    #[values(
        Origin::Read(Read::Get),
        Origin::Read(Read::GetMany),
        Origin::Read(Read::GetVersioned),
        Origin::Read(Read::Exists),
        Origin::Write(Write::Set),
        Origin::Write(Write::Put),
        Origin::Write(Write::Delete),
        Origin::Write(Write::CommitSet),
        Origin::Write(Write::CommitDelete)
    )]
    origin: Origin,
) {
    let setup = Setup::new();
    let before = match origin {
        Origin::Read(read) => {
            read.ask(&*setup.cached, "key").unwrap();
            None
        }
        Origin::Write(write) => {
            write.perform(&*setup.cached, "key").unwrap();
            write.leaves()
        }
    };
    // The entry itself must answer the read for this to mean anything.
    let answered = read.ask(&*setup.cached, "key").unwrap();
    assert_eq!(answered, read.answer(before));
    match before {
        Some(_) => setup.around().delete("key").unwrap(),
        None => setup.around().set("key", "new".into()).unwrap(),
    }
    setup.clock.advance(TTL - INSTANT);
    assert_eq!(read.ask(&*setup.cached, "key"), Ok(read.answer(before)), "before the end");
    setup.clock.advance(INSTANT);
    let after = if before.is_some() { None } else { Some("new") };
    assert_eq!(setup.cached.try_get("", "key"), None);
    assert_eq!(read.ask(&*setup.cached, "key"), Ok(read.answer(after)), "at the end");
    assert_holds(&*setup.cached, "key", after);
}

#[test]
fn a_hit_does_not_prolong_an_entry() {
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
fn without_a_time_to_live_an_entry_stays() {
    let setup = Setup::with(CacheConfig { ttl: None, ..CacheConfig::default() });
    setup.cached.set("key", "old".into()).unwrap();
    setup.around().set("key", "new".into()).unwrap();
    setup.clock.advance(Duration::from_secs(1 << 40));
    assert_eq!(setup.cached.get("key"), Ok(Some("old".into())));
}

/// A read that began long before a value came back tells the time of its
/// beginning: what was written around the cache meanwhile is not seen later.
#[test]
fn the_time_counts_from_before_the_storage_was_asked() {
    let setup = Setup::new();
    let held = setup.backend().hold(&[Method::Get, Method::Set], Moment::After);
    let read = setup.start(|cached| cached.get("read"));
    let write = setup.start(|cached| cached.set("written", "old".into()));
    held.wait_for(2);
    setup.clock.advance(TTL);
    for key in ["read", "written"] {
        setup.around().set(key, "new".into()).unwrap();
    }
    held.release();
    assert_eq!(read.finish(), Ok(None));
    write.finish().unwrap();
    assert_holds(&*setup.cached, "read", Some("new"));
    assert_holds(&*setup.cached, "written", Some("new"));
}

/// It waits, but takes nothing that was out of date when it came.
#[test]
fn a_reader_takes_no_answer_from_one_who_asked_too_long_ago() {
    let setup = Setup::new();
    setup.around().set("key", "old".into()).unwrap();
    let held = setup.backend().hold(&[Method::Get], Moment::After);
    let first = setup.start(|cached| cached.get("key"));
    held.wait_for(1);
    setup.around().set("key", "new".into()).unwrap();
    setup.clock.advance(TTL);
    let second = setup.start(|cached| cached.get("key"));
    setup.wait_for_misses(2);
    held.release();
    assert_eq!(first.finish(), Ok(Some("old".into())));
    assert_eq!(second.finish(), Ok(Some("new".into())));
}

#[rstest]
fn of_many_who_find_an_expired_entry_one_asks(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
) {
    const READERS: u64 = 8;
    let setup = Setup::new();
    storage_core::put(&setup.cached, "key", "old".into()).unwrap();
    setup.clock.advance(TTL);
    setup.around().set("key", "new".into()).unwrap();
    setup.counting().reset();
    let held = setup.backend().hold(&Method::ALL, Moment::Before);
    let readers: Vec<_> =
        (0..READERS).map(|_| setup.start(move |cached| read.ask(cached, "key"))).collect();
    setup.wait_for_misses(READERS);
    held.wait_for(1);
    assert_eq!(held.waiting(), 1);
    held.release();
    for reader in readers {
        assert_eq!(reader.finish(), Ok(read.answer(Some("new"))));
    }
    assert_eq!(setup.counting().total(), 1);
    let stats = setup.cached.stats();
    assert_eq!((stats.fills, stats.entries, stats.bytes), (1, 1, 3 + stats_value(read) + 48));
}

/// What a read of `new` keeps.
fn stats_value(read: Read) -> u64 {
    if matches!(read, Read::Exists) { 0 } else { 3 }
}

#[test]
fn a_large_value_is_looked_at_again_in_time() {
    let setup = Setup::with(CacheConfig {
        ttl: Some(TTL),
        max_size_bytes: 64 << 10,
        ..CacheConfig::default()
    });
    setup.cached.set("key", bytes(64 << 10)).unwrap();
    setup.around().delete("key").unwrap();
    assert_eq!(setup.cached.exists("key"), Ok(true));
    setup.clock.advance(TTL);
    assert_eq!(setup.cached.exists("key"), Ok(false));
    assert_holds(&*setup.cached, "key", None);
}
