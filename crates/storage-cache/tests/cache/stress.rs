//! Threads that do everything at once: counts of what must never happen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rstest::rstest;
use storage_cache::{CacheConfig, CachedStorage};
use storage_core::conformance::{FailingStorage, Fault, Method, ReferenceStorage};
use storage_core::{Commit, ComponentStorage, StorageValue};

use crate::support::{bytes, io_error};

/// A key whose value is a number that its writers only ever raise.
struct Register {
    key: String,
    /// Writers take turns to choose a number, not to write it.
    next: Mutex<u64>,
    /// The largest that a write which returned has stored.
    acknowledged: AtomicU64,
    /// The largest that a read which returned has seen.
    seen: AtomicU64,
}

fn number(value: Option<StorageValue>) -> u64 {
    value.map_or(0, |value| {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        text.trim_end_matches('x').parse().unwrap()
    })
}

/// Every third is too large for the small caches.
fn numbered(number: u64) -> StorageValue {
    let filler = if number % 3 == 0 { bytes(5_000) } else { bytes(number as usize % 200) };
    [number.to_string().as_bytes(), filler.as_bytes()].concat().into()
}

/// A linear congruential generator is random enough, and the same every time.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn config(max_entries: usize, max_size_bytes: usize) -> CacheConfig {
    CacheConfig { max_entries, ttl: None, max_size_bytes }
}

/// One writer a key, so that a read can be judged: it must see what was
/// acknowledged before it began, and nothing older than an earlier read saw.
#[rstest]
#[case::roomy(config(1_000, 1 << 20))]
#[case::evicting(config(2, 4 << 10))]
#[case::tiny(config(1, 1024))]
fn no_read_is_stale_and_none_goes_back(#[case] config: CacheConfig) {
    const KEYS: u64 = 4;
    const WRITES: u64 = 3_000;
    const READERS: u64 = 4;
    let cached = CachedStorage::new(FailingStorage::new(ReferenceStorage::new()), config);
    let registers: Vec<Register> = (0..KEYS)
        .map(|n| Register {
            key: format!("app/stress/1/{n}"),
            next: Mutex::new(1),
            acknowledged: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        })
        .collect();
    let done = AtomicBool::new(false);
    let (stale, back, reads) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));

    thread::scope(|scope| {
        let writers: Vec<_> = registers
            .iter()
            .map(|register| {
                let cached = &cached;
                scope.spawn(move || {
                    let mut seed = 7;
                    for _ in 0..WRITES {
                        write(cached, register, &mut seed);
                    }
                })
            })
            .collect();
        for reader in 0..READERS {
            let (cached, registers, done) = (&cached, &registers, &done);
            let (stale, back, reads) = (&stale, &back, &reads);
            scope.spawn(move || {
                let mut seed = reader;
                while !done.load(Ordering::SeqCst) {
                    let register = &registers[random(&mut seed) as usize % registers.len()];
                    let acknowledged = register.acknowledged.load(Ordering::SeqCst);
                    let seen = register.seen.load(Ordering::SeqCst);
                    let Some(found) = read(cached, &register.key, &mut seed) else { continue };
                    reads.fetch_add(1, Ordering::Relaxed);
                    stale.fetch_add(u64::from(found < acknowledged), Ordering::Relaxed);
                    back.fetch_add(u64::from(found < seen), Ordering::Relaxed);
                    register.seen.fetch_max(found, Ordering::SeqCst);
                    let stats = cached.stats();
                    assert!(stats.bytes <= cached.config().max_size_bytes as u64);
                    assert!(stats.entries <= cached.config().max_entries as u64);
                }
            });
        }
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::SeqCst);
        for result in results {
            result.unwrap();
        }
    });

    assert_eq!((stale.into_inner(), back.into_inner()), (0, 0), "of {reads:?} reads");
    assert!(reads.into_inner() > 0);
    // In the end, what is kept is what is there.
    cached.inner().heal();
    for register in &registers {
        let truth = cached.inner().get(&register.key).unwrap();
        if let Some(at_hand) = cached.try_get("", &register.key) {
            assert_eq!(at_hand, truth);
        }
        assert_eq!(cached.get(&register.key).unwrap(), truth);
    }
}

/// Raises a register, in one of many ways; now and then one that fails, with or
/// without effect.
fn write(
    cached: &CachedStorage<FailingStorage<ReferenceStorage>>,
    register: &Register,
    seed: &mut u64,
) {
    let number = {
        let mut next = register.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        *next
    };
    let (key, value) = (register.key.as_str(), numbered(number));
    if random(seed) % 16 == 0 {
        // It strikes whoever writes next, in whichever thread.
        let fault = if random(seed) % 2 == 0 {
            Fault::error(io_error())
        } else {
            Fault::panic("on purpose")
        };
        let fault = fault.on(&Method::WRITES).nth(1);
        cached.inner().inject(if random(seed) % 2 == 0 { fault } else { fault.after() });
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| match random(seed) % 3 {
        0 => cached.set(key, value),
        1 => storage_core::put(&cached, key, value).map(drop),
        _ => cached.commit(Commit::new().set(key, value)).map(drop),
    }));
    if matches!(outcome, Ok(Ok(()))) {
        register.acknowledged.fetch_max(number, Ordering::SeqCst);
    }
}

fn read(
    cached: &CachedStorage<FailingStorage<ReferenceStorage>>,
    key: &str,
    seed: &mut u64,
) -> Option<u64> {
    Some(match random(seed) % 5 {
        0 => number(cached.try_get("", key)?),
        1 => number(cached.get_many(&[key]).unwrap().remove(0)),
        2 => number(cached.get_versioned(key).unwrap().map(|found| found.value)),
        3 => {
            // Brings in entries that answer no other question.
            cached.exists(key).unwrap();
            return None;
        }
        _ => number(cached.get(key).unwrap()),
    })
}

/// Many writers on each key: in the end the cache has what the storage has.
#[test]
fn whoever_wrote_last_is_who_is_cached() {
    const ROUNDS: u64 = 300;
    for round in 0..20 {
        let cached = CachedStorage::new(ReferenceStorage::new(), config(100, 1 << 20));
        thread::scope(|scope| {
            for writer in 0..4_u64 {
                let cached = &cached;
                scope.spawn(move || {
                    let mut seed = round * 100 + writer;
                    for n in 0..ROUNDS {
                        let key = ["a", "b"][random(&mut seed) as usize % 2];
                        let value = StorageValue::from(format!("{writer} {n}").as_str());
                        match random(&mut seed) % 4 {
                            0 => cached.set(key, value).unwrap(),
                            1 => {
                                storage_core::put(&cached, key, value).unwrap();
                            }
                            2 => cached.delete(key).unwrap(),
                            _ => {
                                let commit = Commit::new().set("a", value.clone()).set("b", value);
                                cached.commit(commit).unwrap();
                            }
                        }
                        cached.get(key).unwrap();
                    }
                });
            }
        });
        for key in ["a", "b"] {
            assert_eq!(cached.try_get("", key), Some(cached.inner().get(key).unwrap()), "{key}");
        }
    }
}
