//! Calls that meet, each in an order that the test chooses.

use std::sync::Arc;

use rstest::rstest;
use storage_cache::CacheConfig;
use storage_core::conformance::{Fault, Method, Moment};
use storage_core::{Commit, ComponentStorage, StorageError, StorageValue};

use crate::support::{Read, Setup, Write, assert_holds, bytes, io_error, start};

const READS: [Method; 4] = [Method::Get, Method::Exists, Method::GetMany, Method::GetVersioned];
const LARGE: usize = 64 << 10;

/// Keeps no value of `LARGE` bytes.
fn small_cache() -> Setup {
    Setup::with(CacheConfig { ttl: None, max_size_bytes: LARGE, ..CacheConfig::default() })
}

#[rstest]
#[case::present(Some("value"))]
#[case::absent(None)]
fn many_who_miss_one_key_ask_once(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
    #[case] value: Option<&str>,
) {
    const READERS: u64 = 8;
    let setup = Setup::new();
    if let Some(value) = value {
        setup.around().set("key", value.into()).unwrap();
    }
    let held = setup.backend().hold(&READS, Moment::After);
    let readers: Vec<_> =
        (0..READERS).map(|_| setup.start(move |cached| read.ask(cached, "key"))).collect();
    setup.wait_for_misses(READERS);
    held.wait_for(1);
    assert_eq!(held.waiting(), 1);
    // Whoever must not wait is not made to.
    assert_eq!(setup.start(|cached| cached.try_get("", "key")).finish(), None);
    held.release();
    for reader in readers {
        assert_eq!(reader.finish(), Ok(read.answer(value)));
    }
    assert_eq!(setup.counting().total(), 1);
}

/// The read has its answer already when the write comes and goes.
#[rstest]
fn a_read_that_a_write_overtook_leaves_nothing_stale(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
    #[values(Write::Set, Write::Put, Write::Delete, Write::CommitSet, Write::CommitDelete)]
    write: Write,
) {
    let setup = Setup::new();
    if write.leaves().is_none() {
        setup.around().set("key", "old".into()).unwrap();
    }
    let held = setup.backend().hold(&READS, Moment::After);
    let reader = setup.start(move |cached| read.ask(cached, "key"));
    held.wait_for(1);
    let waiter = setup.start(move |cached| read.ask(cached, "key"));
    setup.wait_for_misses(2);
    write.perform(&*setup.cached, "key").unwrap();
    assert_eq!(setup.at_hand("key"), Some(write.leaves().map(StorageValue::from)));
    held.release();
    // Both look again, and find what the write left.
    assert_eq!(reader.finish(), Ok(read.answer(write.leaves())));
    assert_eq!(waiter.finish(), Ok(read.answer(write.leaves())));
    assert_holds(&*setup.cached, "key", write.leaves());
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    TooLarge,
    Error,
    Panic,
}

/// The same with writes that leave nothing to insert: the fill must not come in
/// after them.
#[rstest]
fn a_read_that_such_a_write_overtook_leaves_nothing_at_all(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
    #[values(Ending::TooLarge, Ending::Error, Ending::Panic)] ending: Ending,
    // One that holds the mark of a value too large, and one that does not.
    #[values(LARGE, 1024)] max_size_bytes: usize,
) {
    let setup = Setup::with(CacheConfig { ttl: None, max_size_bytes, ..CacheConfig::default() });
    let key = "k".repeat(if max_size_bytes == LARGE { 3 } else { 600 });
    let held = setup.backend().hold(&READS, Moment::After);
    let reader = setup.start({
        let key = key.clone();
        move |cached| read.ask(cached, &key)
    });
    held.wait_for(1);
    let value = match ending {
        Ending::TooLarge => bytes(LARGE),
        _ => "new".into(),
    };
    match ending {
        Ending::TooLarge => {}
        Ending::Error => {
            setup.failing().inject(Fault::error(io_error()).on(&[Method::Set]).after())
        }
        Ending::Panic => {
            setup.failing().inject(Fault::panic("on purpose").on(&[Method::Set]).after())
        }
    }
    let outcome = setup.start({
        let (key, value) = (key.clone(), value.clone());
        move |cached| cached.set(&key, value)
    });
    match ending {
        Ending::TooLarge => assert_eq!(outcome.finish(), Ok(())),
        Ending::Error => assert_eq!(outcome.finish(), Err(io_error())),
        Ending::Panic => assert!(outcome.outcome().is_err()),
    }
    assert_eq!(setup.cached.try_get("", &key), None);
    held.release();
    let expected = match read {
        Read::Exists => crate::support::Answer::Present(true),
        _ => crate::support::Answer::Value(Some(value)),
    };
    assert_eq!(reader.finish(), Ok(expected.clone()));
    assert_eq!(read.ask(&*setup.cached, &key), Ok(expected));
}

/// A write has taken effect below and not returned. A reader who began long ago
/// meets it below, while all others still find the value before it here.
#[rstest]
fn no_read_goes_behind_an_earlier_one(
    #[values(Read::Get, Read::GetMany, Read::GetVersioned)] read: Read,
    #[values(false, true)] cleared: bool,
) {
    let setup = Setup::new();
    let early = setup.backend().hold(&READS, Moment::Before);
    let first = setup.start(move |cached| read.ask(cached, "key"));
    early.wait_for(1);
    if cleared {
        setup.cached.clear();
    }
    // The first reader's claim is void now, and its read still to come.
    storage_core::put(&setup.cached, "key", "one".into()).unwrap();
    let under_way = setup.backend().hold(&[Method::Set], Moment::After);
    let write = setup.start(|cached| cached.set("key", "two".into()));
    under_way.wait_for(1);
    early.release();

    let first = first.finish().unwrap();
    let second = read.ask(&*setup.cached, "key").unwrap();
    assert_eq!(second, read.answer(Some("one")));
    assert_eq!(first, second, "time went back");
    under_way.release();
    write.finish().unwrap();
    assert_holds(&*setup.cached, "key", Some("two"));
}

/// The same for a value that is read past the cache.
#[test]
fn no_read_past_the_cache_goes_behind_an_earlier_one() {
    let setup = small_cache();
    setup.cached.set("key", bytes(LARGE)).unwrap();
    let early = setup.backend().hold(&READS, Moment::Before);
    let first = setup.start(|cached| cached.get("key"));
    early.wait_for(1);
    setup.cached.set("key", "one".into()).unwrap();
    let under_way = setup.backend().hold(&[Method::Set], Moment::After);
    let write = setup.start(|cached| cached.set("key", "two".into()));
    under_way.wait_for(1);
    early.release();

    assert_eq!(first.finish(), Ok(Some("one".into())), "time went back");
    assert_eq!(setup.cached.get("key"), Ok(Some("one".into())));
    under_way.release();
    write.finish().unwrap();
    assert_holds(&*setup.cached, "key", Some("two"));
}

/// What is known of a value too large is no older than what was read past it.
#[test]
fn exists_does_not_go_behind_a_read_past_the_cache() {
    let setup = small_cache();
    setup.cached.set("key", bytes(LARGE)).unwrap();
    let under_way = setup.backend().hold(&[Method::Delete], Moment::After);
    let delete = setup.start(|cached| cached.delete("key"));
    under_way.wait_for(1);
    assert_eq!(setup.cached.get("key"), Ok(None));
    assert_eq!(setup.cached.exists("key"), Ok(false), "time went back");
    under_way.release();
    delete.finish().unwrap();
    assert_holds(&*setup.cached, "key", None);
}

#[test]
fn values_too_large_to_keep_are_read_side_by_side() {
    let setup = small_cache();
    setup.cached.set("key", bytes(LARGE)).unwrap();
    let held = setup.backend().hold(&READS, Moment::Before);
    let readers: Vec<_> = (0..4).map(|_| setup.start(|cached| cached.get("key"))).collect();
    held.wait_for(4);
    held.release();
    for reader in readers {
        assert_eq!(reader.finish(), Ok(Some(bytes(LARGE))));
    }
}

/// They waited for the first, whose value nobody can keep for them.
#[test]
fn who_waited_for_a_value_too_large_gets_it_all_the_same() {
    let setup = small_cache();
    setup.around().set("key", bytes(LARGE)).unwrap();
    let held = setup.backend().hold(&READS, Moment::After);
    let readers: Vec<_> = (0..4).map(|_| setup.start(|cached| cached.get("key"))).collect();
    setup.wait_for_misses(4);
    held.release();
    for reader in readers {
        assert_eq!(reader.finish(), Ok(Some(bytes(LARGE))));
    }
    assert_eq!(setup.cached.stats().refusals, 1);
}

#[rstest]
fn writes_to_one_key_do_not_overtake_each_other(
    #[values(Write::Put, Write::Delete, Write::CommitSet, Write::CommitDelete)] second: Write,
) {
    let setup = Setup::new();
    // The first has taken effect below, but has not told the cache.
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

/// Otherwise its result would tell of a write that the cache does not know.
#[test]
fn a_commit_waits_for_writes_to_the_keys_it_checks() {
    let setup = Setup::new();
    let held = setup.backend().hold(&[Method::Set], Moment::After);
    let write = setup.start(|cached| cached.set("checked", "new".into()));
    held.wait_for(1);
    let commit = setup.start(|cached| {
        let result =
            cached.commit(Commit::new().require_absent("checked").set("other", "1".into()));
        (result, cached.get("checked"))
    });
    commit.must_wait();
    held.release();
    write.finish().unwrap();
    let (result, seen) = commit.finish();
    assert_eq!(result, Err(StorageError::AlreadyExists("checked".into())));
    assert_eq!(seen, Ok(Some("new".into())));
}

/// A reader who fills while a commit that names the key is under way, before it
/// takes effect or after.
#[rstest]
#[case::before(Moment::Before, "old")]
#[case::after(Moment::After, "new")]
fn a_fill_during_a_commit_is_true_then_and_afterwards(
    #[case] moment: Moment,
    #[case] meanwhile: &str,
    #[values(true, false)] fails: bool,
) {
    let setup = Setup::new();
    for key in ["a", "b"] {
        setup.around().set(key, "old".into()).unwrap();
    }
    if fails {
        let fault = Fault::error(io_error()).on(&[Method::Commit]);
        setup.failing().inject(if moment == Moment::After { fault.after() } else { fault });
    }
    let held = setup.backend().hold(&[Method::Commit], moment);
    let commit = setup
        .start(|cached| cached.commit(Commit::new().set("a", "new".into()).set("b", "new".into())));
    held.wait_for(1);
    // Not kept away by the commit.
    assert_eq!(setup.cached.get("a"), Ok(Some(meanwhile.into())));
    assert_eq!(setup.cached.try_get("", "a"), Some(Some(meanwhile.into())));
    held.release();
    let outcome = commit.finish();
    assert_eq!(outcome.is_err(), fails);
    let expected = if fails && moment == Moment::Before { "old" } else { "new" };
    if fails {
        assert_eq!(setup.cached.try_get("", "a"), None);
    }
    assert_holds(&*setup.cached, "a", Some(expected));
    assert_holds(&*setup.cached, "b", Some(expected));
}

/// Each has one of the other's keys first.
#[test]
fn commits_of_the_same_keys_never_wait_for_each_other() {
    const ROUNDS: usize = 500;
    let setup = Setup::new();
    let keys: Vec<String> = (0..8).map(|n| format!("key {n}")).collect();
    let commits: Vec<_> = (0..4)
        .map(|turn| {
            let mut keys = keys.clone();
            keys.rotate_left(2 * turn);
            setup.start(move |cached| {
                for round in 0..ROUNDS {
                    let value = StorageValue::from(format!("{turn} {round}").as_str());
                    let all = |commit: Commit, key: &String| commit.set(key.clone(), value.clone());
                    cached.commit(keys.iter().fold(Commit::new(), all)).unwrap();
                }
            })
        })
        .collect();
    for commit in commits {
        commit.finish();
    }
    for key in &keys {
        assert_eq!(setup.cached.try_get("", key), Some(setup.around().get(key).unwrap()));
    }
}

/// Each waits for a key that the other has claimed, unless claims are never held
/// while waiting.
#[test]
fn reads_of_the_same_keys_never_wait_for_each_other() {
    let setup = Setup::new();
    let keys: Vec<String> = (0..8).map(|n| format!("key {n}")).collect();
    let readers: Vec<_> = (0..4)
        .map(|turn| {
            let mut keys = keys.clone();
            keys.rotate_left(2 * turn);
            setup.start(move |cached| {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                for _ in 0..500 {
                    cached.clear();
                    assert_eq!(cached.get_many(&keys), Ok(vec![None; keys.len()]));
                }
            })
        })
        .collect();
    for reader in readers {
        reader.finish();
    }
}

#[test]
fn a_batch_asks_for_what_nobody_else_is_reading() {
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
fn an_error_is_not_kept_and_who_waited_asks_again(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
) {
    let setup = Setup::new();
    setup.around().set("key", "value".into()).unwrap();
    setup.failing().inject(Fault::error(io_error()).on(&READS).nth(1));
    let held = setup.backend().hold(&READS, Moment::After);
    let first = setup.start(move |cached| read.ask(cached, "key"));
    held.wait_for(1);
    let waiters: Vec<_> =
        (0..4).map(|_| setup.start(move |cached| read.ask(cached, "key"))).collect();
    setup.wait_for_misses(5);
    held.release();
    assert_eq!(first.finish(), Err(io_error()));
    for waiter in waiters {
        assert_eq!(waiter.finish(), Ok(read.answer(Some("value"))));
    }
    assert_eq!(setup.counting().total(), 1);
    assert_holds(&*setup.cached, "key", Some("value"));
}

/// When the storage below is out of order, and slow to say so, nobody waits for
/// more than two of its answers.
#[test]
fn while_the_storage_below_fails_waiters_fail_together() {
    const WAITERS: u64 = 16;
    // Nobody can see whether all of them wait when the second flight is let go on;
    // on a busy machine that takes several attempts. One after another they would
    // make as many flights as there are waiters, every time.
    let together = |_| flights_of_a_failing_read(WAITERS) < WAITERS / 2;
    assert!((0..50).any(together), "each on his own");
}

fn flights_of_a_failing_read(waiters: u64) -> u64 {
    let setup = Setup::new();
    // After, so that the calls are counted.
    setup.failing().inject(Fault::error(io_error()).after());
    let first_flight = setup.backend().hold(&READS, Moment::After);
    let readers: Vec<_> = (0..=waiters).map(|_| setup.start(|cached| cached.get("key"))).collect();
    setup.wait_for_misses(waiters + 1);
    // The next flight is held up too, until all who waited for the first are in it.
    let second_flight = setup.backend().hold(&READS, Moment::Before);
    first_flight.release();
    second_flight.wait_for(1);
    (0..10_000).for_each(|_| std::thread::yield_now());
    second_flight.release();
    for reader in readers {
        assert_eq!(reader.finish(), Err(io_error()));
    }
    // Two, and one more for each who came too late for the second.
    let flights = setup.counting().calls(Method::Get);
    setup.failing().heal();
    assert_eq!(setup.cached.get("key"), Ok(None));
    flights
}

/// The errors of one question are no answer to another. Many times, because who
/// comes next after the first is left to chance.
#[test]
fn who_asks_for_a_value_is_not_told_that_a_read_with_revision_failed() {
    for _ in 0..30 {
        let setup = Setup::new();
        setup.around().set("key", "value".into()).unwrap();
        setup.failing().inject(Fault::error(io_error()).on(&[Method::GetVersioned]));
        let first = setup.backend().hold(&[Method::GetVersioned], Moment::After);
        let versioned = setup.start(|cached| cached.get_versioned("key"));
        first.wait_for(1);
        let again: Vec<_> =
            (0..3).map(|_| setup.start(|cached| cached.get_versioned("key"))).collect();
        let value = setup.start(|cached| cached.get("key"));
        setup.wait_for_misses(5);
        // Mostly another of them comes next, and is waited for again.
        let second = setup.backend().hold(&[Method::GetVersioned], Moment::Before);
        first.release();
        second.wait_for(1);
        (0..1_000).for_each(|_| std::thread::yield_now());
        second.release();
        assert_eq!(versioned.finish(), Err(io_error()));
        for again in again {
            assert_eq!(again.finish(), Err(io_error()));
        }
        assert_eq!(value.finish(), Ok(Some("value".into())));
    }
}

#[rstest]
fn a_panic_below_hangs_nobody(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
) {
    let setup = Setup::new();
    setup.around().set("key", "value".into()).unwrap();
    setup.failing().inject(Fault::panic("on purpose").on(&READS).nth(1));
    // Before: a gate after the call would not be reached by a panic.
    let held = setup.backend().hold(&READS, Moment::Before);
    let first = setup.start(move |cached| read.ask(cached, "key"));
    held.wait_for(1);
    let waiters: Vec<_> =
        (0..4).map(|_| setup.start(move |cached| read.ask(cached, "key"))).collect();
    setup.wait_for_misses(5);
    held.release();
    assert!(first.outcome().is_err());
    for waiter in waiters {
        assert_eq!(waiter.finish(), Ok(read.answer(Some("value"))));
    }
    assert_holds(&*setup.cached, "key", Some("value"));
}

/// Both began before the cache was cleared: what they bring is not kept.
#[test]
fn what_was_under_way_when_the_cache_was_cleared_is_not_kept() {
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
    assert_eq!(setup.cached.try_get("", "read"), None);
    assert_eq!(setup.cached.try_get("", "written"), None);
    assert_holds(&*setup.cached, "read", Some("new"));
    assert_holds(&*setup.cached, "written", Some("new"));
}

/// The first calls of all build the cache.
#[test]
fn a_cache_is_built_once_whoever_comes_first() {
    for _ in 0..50 {
        let setup = Setup::new();
        let barrier = Arc::new(std::sync::Barrier::new(4));
        let calls: Vec<_> = (0..4)
            .map(|n| {
                let (cached, barrier) = (Arc::clone(&setup.cached), Arc::clone(&barrier));
                start(move || {
                    barrier.wait();
                    let key = format!("key {n}");
                    cached.set(&key, "value".into()).unwrap();
                    assert_eq!(cached.get(&key), Ok(Some("value".into())));
                })
            })
            .collect();
        for call in calls {
            call.finish();
        }
        assert_eq!(setup.cached.stats().entries, 4);
        assert_eq!(setup.counting().calls(Method::Get), 0);
    }
}
