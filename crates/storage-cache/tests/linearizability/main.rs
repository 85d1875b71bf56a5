//! Histories of real threads, each judged by whether a plain register for each
//! key could have had it: every call at one moment between its beginning and its
//! end.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests stand outside test functions"
)]

mod client;
mod hesitant;
mod register;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rstest::rstest;
use storage_cache::{CacheConfig, CachedStorage, ManualClock, SharedCache};
use storage_core::conformance::{
    FailingStorage, Fault, Method, Moment, ReferenceStorage, SlowStorage,
};
use storage_core::{ComponentStorage, Revision, StorageError, StorageValue};

use client::{Client, Shared};
use hesitant::Hesitant;
use register::judge;

const TTL: Duration = Duration::from_secs(60);
const THREADS: u64 = 4;
const STEPS: usize = 25;
const RUNS: u64 = 60;

type Backend = Hesitant<FailingStorage<ReferenceStorage>>;

fn backend() -> Arc<Backend> {
    Arc::new(Hesitant::new(FailingStorage::new(ReferenceStorage::new())))
}

fn roomy() -> CacheConfig {
    CacheConfig { ttl: Some(TTL), ..CacheConfig::default() }
}

/// Keeps two keys of three, and no large value.
fn tiny() -> CacheConfig {
    CacheConfig { max_entries: 2, ttl: Some(TTL), max_size_bytes: 4 << 10 }
}

/// Threads that do as they like, each through its own view of one cache, while
/// writes fail and time passes.
fn run(views: &[&dyn ComponentStorage], backend: &Backend, clock: &ManualClock, seed: u64) {
    let shared = Shared::default();
    let clients: Vec<Client<'_>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let view = views[thread as usize % views.len()];
                let mut client = Client::new(view, &shared, seed * THREADS + thread);
                scope.spawn(move || {
                    for _ in 0..STEPS {
                        if client.random(60) == 0 {
                            backend.inner.inject(fault(client.random(4)));
                        }
                        if client.random(20) == 0 {
                            clock.advance(TTL / 2);
                        }
                        client.step();
                    }
                    client
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let calls: Vec<_> = clients.iter().flat_map(|client| client.calls.iter().copied()).collect();
    judge(&calls).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    let mut known: HashMap<u64, Revision> = HashMap::new();
    for (number, revision) in clients.iter().flat_map(|client| &client.revisions) {
        assert_eq!(known.entry(*number).or_insert(*revision), revision, "of value {number}");
    }
}

/// It strikes whoever writes next, in whichever thread.
fn fault(which: u64) -> Fault {
    let fault = match which % 2 {
        0 => Fault::error(StorageError::IoError("on purpose".into())),
        _ => Fault::panic("on purpose"),
    };
    let fault = fault.on(&Method::WRITES).nth(1);
    if which < 2 { fault } else { fault.after() }
}

#[rstest]
#[case::roomy(roomy())]
#[case::evicting(tiny())]
fn a_cache_of_its_own_is_linearizable(#[case] config: CacheConfig) {
    for seed in 0..RUNS {
        let (backend, clock) = (backend(), ManualClock::new());
        let cached = CachedStorage::with_clock(&*backend, config.clone(), clock.clock());
        run(&[&cached], &backend, &clock, seed);
    }
}

#[rstest]
#[case::roomy(roomy())]
#[case::evicting(CacheConfig { max_entries: 32, max_size_bytes: 64 << 10, ..tiny() })]
fn two_views_of_a_component_in_a_shared_cache_are_linearizable(#[case] config: CacheConfig) {
    for seed in 0..RUNS {
        let (backend, clock) = (backend(), ManualClock::new());
        let shared = SharedCache::with_clock(Arc::clone(&backend), config.clone(), clock.clock());
        let [one, other] = [(); 2].map(|()| shared.component("app/notes/1".parse().unwrap()));
        run(&[&one, &other], &backend, &clock, seed);
    }
}

/// A cache as it is written without thinking of other threads: what a read has
/// found is kept, whatever was written meanwhile.
struct ReadThenKeep<S> {
    inner: S,
    kept: Mutex<HashMap<String, Option<StorageValue>>>,
}

impl<S: ComponentStorage> ComponentStorage for ReadThenKeep<S> {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        if let Some(kept) = self.kept.lock().unwrap().get(key) {
            return Ok(kept.clone());
        }
        let found = self.inner.get(key)?;
        self.kept.lock().unwrap().insert(key.to_owned(), found.clone());
        Ok(found)
    }
    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.inner.set(key, value.clone())?;
        self.kept.lock().unwrap().insert(key.to_owned(), Some(value));
        Ok(())
    }
    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.inner.delete(key)?;
        self.kept.lock().unwrap().insert(key.to_owned(), None);
        Ok(())
    }
    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.get(key)?.is_some())
    }
    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        self.inner.list_keys(prefix)
    }
}

/// A read that has its value from `below` when a write comes and goes, and then
/// another read.
fn overtaken_read(
    cached: &dyn ComponentStorage,
    below: &SlowStorage<ReferenceStorage>,
) -> Result<(), String> {
    let shared = Shared::default();
    let [mut reader, mut writer] = [0, 1].map(|seed| Client::new(cached, &shared, seed));
    thread::scope(|scope| {
        let held = below.hold(&[Method::Get], Moment::After);
        let reading = scope.spawn(|| reader.get(0));
        held.wait_for(1);
        writer.set(0);
        held.release();
        reading.join().unwrap();
    });
    writer.get(0);
    judge(&[reader.calls, writer.calls].concat())
}

/// The judge has teeth: it refuses what such a cache shows, every time.
#[test]
fn a_cache_that_keeps_what_a_write_overtook_is_not_linearizable() {
    let below = SlowStorage::new(ReferenceStorage::new());
    let thoughtless = ReadThenKeep { inner: &below, kept: Mutex::default() };
    let why = overtaken_read(&thoughtless, &below).unwrap_err();
    assert!(why.starts_with("key 0 is no register"), "{why}");

    let below = SlowStorage::new(ReferenceStorage::new());
    let cached = CachedStorage::new(&below, roomy());
    assert_eq!(overtaken_read(&cached, &below), Ok(()));
}
