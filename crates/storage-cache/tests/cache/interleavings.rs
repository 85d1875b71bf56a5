//! Concurrent calls, each in an order that the test chooses.

use std::thread::yield_now;

use rstest::rstest;
use storage_cache::CacheConfig;
use storage_core::conformance::{Fault, Method, Moment};
use storage_core::{Commit, ComponentStorage, StorageError, StorageValue};

use crate::support::{LARGE, Read, Setup, Write, assert_holds, bytes, io_error};

const READS: [Method; 4] = [Method::Get, Method::Exists, Method::GetMany, Method::GetVersioned];

#[rstest]
fn concurrent_misses_of_one_key_read_once(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
    #[values(false, true)] expired: bool,
) {
    const READERS: u64 = 8;
    for value in [Some("value"), None] {
        let setup = Setup::new();
        if expired {
            setup.cached.set("key", "old".into()).unwrap();
            setup.clock.advance(crate::support::TTL);
            setup.around().delete("key").unwrap();
        }
        if let Some(value) = value {
            setup.around().set("key", value.into()).unwrap();
        }
        setup.counting().reset();
        let held = setup.backend().hold(&READS, Moment::After);
        let readers: Vec<_> =
            (0..READERS).map(|_| setup.start(move |cached| read.perform(cached, "key"))).collect();
        setup.wait_for_misses(READERS);
        held.wait_for(1);
        assert_eq!(held.waiting(), 1);
        assert_eq!(setup.start(|cached| cached.try_get("", "key")).finish(), None, "never waits");
        held.release();
        for reader in readers {
            assert_eq!(reader.finish(), Ok(read.found(value)));
        }
        assert_eq!(setup.counting().total(), 1);
        assert_eq!((setup.cached.stats().fills, setup.cached.stats().entries), (1, 1));
    }
}

/// The write begins and ends while the read has its result but has not returned.
#[rstest]
fn a_read_that_a_write_overtook_leaves_nothing_stale(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
) {
    for write in Write::ALL {
        let setup = Setup::new();
        if write.leaves().is_none() {
            setup.around().set("key", "old".into()).unwrap();
        }
        let held = setup.backend().hold(&READS, Moment::After);
        let reader = setup.start(move |cached| read.perform(cached, "key"));
        held.wait_for(1);
        let waiter = setup.start(move |cached| read.perform(cached, "key"));
        setup.wait_for_misses(2);
        write.perform(&*setup.cached, "key").unwrap();
        held.release();
        assert_eq!(reader.finish(), Ok(read.found(write.leaves())), "{write:?}");
        assert_eq!(waiter.finish(), Ok(read.found(write.leaves())), "{write:?}");
        assert_holds(&*setup.cached, "key", write.leaves());
    }
}

/// The same for writes that add no entry: too large, failed, panicked.
#[rstest]
fn a_read_that_an_uncached_write_overtook_leaves_nothing(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
    #[values(None, Some(Fault::error(io_error())), Some(Fault::panic("on purpose")))] fault: Option<
        Fault,
    >,
    // With room for the marker of a large value, and without.
    #[values((LARGE, 3), (1024, 600))] size: (usize, usize),
) {
    let (max_size_bytes, key_len) = size;
    let setup = Setup::with(CacheConfig { ttl: None, max_size_bytes, ..CacheConfig::default() });
    let key = "k".repeat(key_len);
    let held = setup.backend().hold(&READS, Moment::After);
    let reader = setup.start({
        let key = key.clone();
        move |cached| read.perform(cached, &key)
    });
    held.wait_for(1);
    let value = if fault.is_none() { bytes(LARGE) } else { "new".into() };
    let fails = fault.is_some();
    if let Some(fault) = fault {
        setup.failing().inject(fault.on(&[Method::Set]).after());
    }
    let write = setup.start({
        let (key, value) = (key.clone(), value.clone());
        move |cached| cached.set(&key, value)
    });
    assert_eq!(write.outcome().is_ok_and(|result| result.is_ok()), !fails);
    assert_eq!(setup.try_get(&key), None);
    held.release();
    assert_eq!(reader.finish(), Ok(read.found(Some(value.clone()))));
    assert_eq!(read.perform(&*setup.cached, &key), Ok(read.found(Some(value))));
}

/// A write has taken effect below and not returned. An earlier reader finds its value
/// below, while others still find the cached one.
#[rstest]
fn no_read_returns_an_older_value_than_an_earlier_read(
    #[values(Read::Get, Read::GetMany, Read::GetVersioned)] read: Read,
    #[values(false, true)] cleared: bool,
    #[values(false, true)] large: bool,
) {
    let setup = Setup::small();
    if large {
        setup.cached.set("key", bytes(LARGE)).unwrap();
    }
    let early = setup.backend().hold(&READS, Moment::Before);
    let first = setup.start(move |cached| read.perform(cached, "key"));
    early.wait_for(1);
    if cleared {
        setup.cached.clear();
    }
    // Invalidates the guard of the first reader, which has not read yet.
    storage_core::put(&*setup.cached, "key", "one".into()).unwrap();
    let in_progress = setup.backend().hold(&[Method::Set], Moment::After);
    let write = setup.start(|cached| cached.set("key", "two".into()));
    in_progress.wait_for(1);
    early.release();

    assert_eq!(first.finish(), Ok(read.found(Some("one"))));
    assert_eq!(read.perform(&*setup.cached, "key"), Ok(read.found(Some("one"))));
    in_progress.release();
    write.finish().unwrap();
    assert_holds(&*setup.cached, "key", Some("two"));
}

#[test]
fn exists_is_no_older_than_a_read_of_a_large_value() {
    let setup = Setup::small();
    setup.cached.set("key", bytes(LARGE)).unwrap();
    let in_progress = setup.backend().hold(&[Method::Delete], Moment::After);
    let delete = setup.start(|cached| cached.delete("key"));
    in_progress.wait_for(1);
    assert_eq!(setup.cached.get("key"), Ok(None));
    assert_eq!(setup.cached.exists("key"), Ok(false));
    in_progress.release();
    delete.finish().unwrap();
    assert_holds(&*setup.cached, "key", None);
}

#[test]
fn large_values_are_read_in_parallel() {
    let setup = Setup::small();
    setup.around().set("key", bytes(LARGE)).unwrap();
    // The first reader leaves the marker; the others have waited for it.
    let held = setup.backend().hold(&READS, Moment::After);
    let first: Vec<_> = (0..4).map(|_| setup.start(|cached| cached.get("key"))).collect();
    setup.wait_for_misses(4);
    held.release();
    let held = setup.backend().hold(&READS, Moment::Before);
    let second: Vec<_> = (0..4).map(|_| setup.start(|cached| cached.get("key"))).collect();
    held.wait_for(4);
    held.release();
    for reader in first.into_iter().chain(second) {
        assert_eq!(reader.finish(), Ok(Some(bytes(LARGE))));
    }
    assert_eq!(setup.cached.stats().refusals, 1);
}

#[rstest]
fn writes_to_one_key_are_ordered(
    #[values(Write::Delete, Write::CommitSet, Write::CommitDelete)] second: Write,
) {
    let setup = Setup::new();
    // The first write has taken effect below, but not in the cache.
    let held = setup.backend().hold(&[Method::Set], Moment::After);
    let first = setup.start(|cached| cached.set("key", "old".into()));
    held.wait_for(1);
    let second_call = setup.start(move |cached| second.perform(cached, "key"));
    second_call.must_wait();
    held.release();
    first.finish().unwrap();
    second_call.finish().unwrap();
    assert_eq!(setup.around().get("key"), Ok(second.leaves().map(StorageValue::from)));
    assert_holds(&*setup.cached, "key", second.leaves());
}

/// Otherwise its error would reveal a write that the cache does not show yet.
#[test]
fn a_commit_waits_for_writes_to_the_keys_it_checks() {
    let setup = Setup::new();
    let held = setup.backend().hold(&[Method::Set], Moment::After);
    let write = setup.start(|cached| cached.set("checked", "new".into()));
    held.wait_for(1);
    let commit = setup.start(|cached| {
        let commit = Commit::new().require_absent("checked").set("other", "1".into());
        (cached.commit(commit), cached.get("checked"))
    });
    commit.must_wait();
    held.release();
    write.finish().unwrap();
    let (result, seen) = commit.finish();
    assert_eq!(result, Err(StorageError::AlreadyExists("checked".into())));
    assert_eq!(seen, Ok(Some("new".into())));
}

/// Each call starts with keys that another one has second.
#[rstest]
fn calls_with_the_same_keys_do_not_deadlock(#[values(false, true)] writes: bool) {
    let setup = Setup::new();
    let keys: Vec<String> = (0..8).map(|n| format!("key {n}")).collect();
    let calls: Vec<_> = (0..4)
        .map(|turn| {
            let mut keys = keys.clone();
            keys.rotate_left(2 * turn);
            setup.start(move |cached| {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                for _ in 0..500 {
                    if writes {
                        let value = format!("{turn}");
                        let set = |commit: Commit, key: &&str| commit.set(*key, (*value).into());
                        cached.commit(keys.iter().fold(Commit::new(), set)).unwrap();
                    } else {
                        cached.clear();
                        assert_eq!(cached.get_many(&keys), Ok(vec![None; keys.len()]));
                    }
                }
            })
        })
        .collect();
    calls.into_iter().for_each(|call| call.finish());
    for key in &keys {
        let value = setup.around().get(key).unwrap();
        assert_eq!(setup.cached.get(key), Ok(value.clone()));
        assert_eq!(setup.try_get(key), Some(value));
    }
}

#[test]
fn get_many_reads_only_what_no_other_reader_reads() {
    let setup = Setup::new();
    for key in ["a", "b"] {
        setup.around().set(key, key.into()).unwrap();
    }
    let held = setup.backend().hold(&[Method::Get], Moment::After);
    let single = setup.start(|cached| cached.get("a"));
    held.wait_for(1);
    let batch = setup.start(|cached| cached.get_many(&["a", "b"]));
    setup.wait_for_misses(3);
    held.release();
    assert_eq!(single.finish(), Ok(Some("a".into())));
    assert_eq!(batch.finish(), Ok(vec![Some("a".into()), Some("b".into())]));
    assert_eq!(setup.counting().calls(Method::Get), 1);
    assert_eq!(setup.counting().calls(Method::GetMany), 1);
}

#[rstest]
fn after_a_failed_read_the_waiting_readers_read_again(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
    #[values(false, true)] panics: bool,
) {
    let setup = Setup::new();
    setup.around().set("key", "value".into()).unwrap();
    let fault = if panics { Fault::panic("on purpose") } else { Fault::error(io_error()) };
    setup.failing().inject(fault.on(&READS).nth(1));
    let held = setup.backend().hold(&READS, Moment::Before);
    let first = setup.start(move |cached| read.perform(cached, "key"));
    held.wait_for(1);
    let waiters: Vec<_> =
        (0..4).map(|_| setup.start(move |cached| read.perform(cached, "key"))).collect();
    setup.wait_for_misses(5);
    held.release();
    assert_eq!(first.outcome().ok(), (!panics).then(|| Err(io_error())));
    for waiter in waiters {
        assert_eq!(waiter.finish(), Ok(read.found(Some("value"))));
    }
    assert_holds(&*setup.cached, "key", Some("value"));
}

/// While the storage below fails, no reader waits for more than two of its errors.
#[test]
fn waiting_readers_fail_together() {
    const WAITERS: u64 = 16;
    // The scheduler decides how many of them wait for the second read, so it is tried
    // repeatedly. Without sharing, every attempt would make a read per waiter.
    assert!((0..50).any(|_| reads_until_all_fail(WAITERS) < WAITERS / 2));
}

fn reads_until_all_fail(waiters: u64) -> u64 {
    let setup = Setup::new();
    // After the call, so that it is counted.
    setup.failing().inject(Fault::error(io_error()).after());
    let first = setup.backend().hold(&READS, Moment::After);
    let readers: Vec<_> = (0..=waiters).map(|_| setup.start(|cached| cached.get("key"))).collect();
    setup.wait_for_misses(waiters + 1);
    let second = setup.backend().hold(&READS, Moment::Before);
    first.release();
    second.wait_for(1);
    (0..10_000).for_each(|_| yield_now());
    second.release();
    for reader in readers {
        assert_eq!(reader.finish(), Err(io_error()));
    }
    let reads = setup.counting().calls(Method::Get);
    setup.failing().heal();
    assert_eq!(setup.cached.get("key"), Ok(None), "errors are not cached");
    reads
}

/// Many times, because the scheduler decides which reader comes second.
#[test]
fn get_does_not_return_the_error_of_get_versioned() {
    for _ in 0..30 {
        let setup = Setup::new();
        setup.around().set("key", "value".into()).unwrap();
        setup.failing().inject(Fault::error(io_error()).on(&[Method::GetVersioned]));
        let first = setup.backend().hold(&[Method::GetVersioned], Moment::After);
        let versioned: Vec<_> =
            (0..4).map(|_| setup.start(|cached| cached.get_versioned("key"))).collect();
        first.wait_for(1);
        let value = setup.start(|cached| cached.get("key"));
        setup.wait_for_misses(5);
        let second = setup.backend().hold(&[Method::GetVersioned], Moment::Before);
        first.release();
        second.wait_for(1);
        (0..1_000).for_each(|_| yield_now());
        second.release();
        for versioned in versioned {
            assert_eq!(versioned.finish(), Err(io_error()));
        }
        assert_eq!(value.finish(), Ok(Some("value".into())));
    }
}

/// Both calls start before the cache is cleared.
#[test]
fn calls_that_a_clear_overtook_cache_nothing() {
    let setup = Setup::new();
    setup.around().set("read", "old".into()).unwrap();
    let held = setup.backend().hold(&[Method::Get, Method::Set], Moment::After);
    let read = setup.start(|cached| cached.get("read"));
    let write = setup.start(|cached| cached.set("written", "old".into()));
    held.wait_for(2);
    for key in ["read", "written"] {
        setup.around().set(key, "new".into()).unwrap();
    }
    setup.cached.clear();
    held.release();
    read.finish().unwrap();
    write.finish().unwrap();
    for key in ["read", "written"] {
        assert_eq!(setup.try_get(key), None);
        assert_holds(&*setup.cached, key, Some("new"));
    }
}
