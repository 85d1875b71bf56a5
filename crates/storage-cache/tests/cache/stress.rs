//! Real threads read while writes succeed, fail and panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fastrand::Rng;
use rstest::rstest;
use storage_cache::{CacheConfig, CachedStorage};
use storage_core::conformance::{FailingStorage, Fault, Method, ReferenceStorage};
use storage_core::{Commit, ComponentStorage, StorageValue};

use crate::support::{bytes, io_error};

type Cache = CachedStorage<FailingStorage<ReferenceStorage>>;

/// A key whose value is a number that its only writer raises.
struct Register {
    key: String,
    /// The largest number of a write that succeeded.
    acknowledged: AtomicU64,
    /// The largest number that a read returned.
    seen: AtomicU64,
}

/// Every third value is too large for the small caches.
fn value(number: u64) -> StorageValue {
    let filler = if number.is_multiple_of(3) { bytes(5_000) } else { bytes(number as usize % 200) };
    [number.to_string().as_bytes(), filler.as_bytes()].concat().into()
}

fn number(value: Option<StorageValue>) -> u64 {
    let text = value.map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap());
    text.map_or(0, |text| text.trim_end_matches('x').parse().unwrap())
}

#[rstest]
#[case::roomy(1_000, 1 << 20)]
#[case::evicting(2, 4 << 10)]
#[case::tiny(1, 1024)]
fn reads_are_never_stale_and_never_go_back(
    #[case] max_entries: usize,
    #[case] max_size_bytes: usize,
) {
    const WRITES: u64 = 3_000;
    let config = CacheConfig { max_entries, ttl: None, max_size_bytes };
    let cached = CachedStorage::new(FailingStorage::new(ReferenceStorage::new()), config);
    let register = |n| Register {
        key: format!("app/stress/1/{n}"),
        acknowledged: AtomicU64::new(0),
        seen: AtomicU64::new(0),
    };
    let registers = [0, 1, 2, 3].map(register);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (cached, registers, done) = (&cached, &registers, &done);
            scope.spawn(move || {
                let mut random = Rng::with_seed(seed);
                while !done.load(Ordering::SeqCst) {
                    read(cached, &registers[random.usize(..registers.len())], &mut random);
                }
            });
        }
        let writers = registers.each_ref().map(|register| {
            let cached = &cached;
            scope.spawn(move || {
                let mut random = Rng::with_seed(7);
                (1..=WRITES).for_each(|number| write(cached, register, number, &mut random));
            })
        });
        let ended = writers.map(|writer| writer.join());
        done.store(true, Ordering::SeqCst);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    cached.inner().heal();
    for Register { key, .. } in &registers {
        let stored = cached.inner().get(key).unwrap();
        assert!(cached.try_get("", key).is_none_or(|cached| cached == stored));
        assert_eq!(cached.get(key), Ok(stored));
    }
}

/// A write in one of two ways; one in 16 fails or panics, with or without effect.
fn write(cached: &Cache, register: &Register, new: u64, random: &mut Rng) {
    if random.u8(..16) == 0 {
        // It affects the next write of any thread.
        let fault =
            if random.bool() { Fault::error(io_error()) } else { Fault::panic("on purpose") };
        let fault = fault.on(&Method::WRITES).nth(1);
        cached.inner().inject(if random.bool() { fault } else { fault.after() });
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| match random.bool() {
        true => cached.set(&register.key, value(new)),
        false => cached.commit(Commit::new().set(&*register.key, value(new))).map(drop),
    }));
    if matches!(outcome, Ok(Ok(()))) {
        register.acknowledged.fetch_max(new, Ordering::SeqCst);
    }
}

/// A read sees what was acknowledged before it began, and nothing older than what an
/// earlier read saw.
fn read(cached: &Cache, register: &Register, random: &mut Rng) {
    let key = &register.key;
    let oldest = [&register.acknowledged, &register.seen].map(|n| n.load(Ordering::SeqCst));
    let found = match random.u8(..5) {
        0 => match cached.try_get("", key) {
            Some(found) => found,
            None => return,
        },
        1 => cached.get_many(&[key]).unwrap().remove(0),
        2 => cached.get_versioned(key).unwrap().map(|found| found.value),
        3 => {
            assert!(cached.exists(key).unwrap() || oldest == [0, 0]);
            return;
        }
        _ => cached.get(key).unwrap(),
    };
    let found = number(found);
    assert!(oldest.iter().all(|oldest| found >= *oldest), "{found} after {oldest:?}");
    register.seen.fetch_max(found, Ordering::SeqCst);
    let (stats, config) = (cached.stats(), cached.config());
    assert!(stats.bytes <= config.max_size_bytes as u64, "{stats:?}");
    assert!(stats.entries <= config.max_entries as u64, "{stats:?}");
}
