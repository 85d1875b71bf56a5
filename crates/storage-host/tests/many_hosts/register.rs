//! Without a cache the histories of two hosts are linearizable.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use storage_core::conformance::SharedReference;
use storage_host::{CacheConfig, ComponentStorage, StorageHost, Store};

use crate::support::id;

/// A call on one key, from one event to another.
#[derive(Debug, Clone, Copy)]
struct Call {
    began: u64,
    ended: u64,
    operation: Operation,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Write(u64),
    Read(Option<u64>),
}

/// Whether the calls can have happened one after the other, each at one moment between its
/// beginning and its end.
fn is_linearizable(calls: &[Call]) -> bool {
    assert!(calls.len() < 64);
    search(calls, 0, None, &mut HashSet::new())
}

/// Whether the calls that are not done yet can follow in a state. `done` has one bit for each.
fn search(
    calls: &[Call],
    done: u64,
    state: Option<u64>,
    failed: &mut HashSet<(u64, Option<u64>)>,
) -> bool {
    let open = || calls.iter().enumerate().filter(|(number, _)| done >> number & 1 == 0);
    // The next call begins before any other open one has ended.
    let Some(first_end) = open().map(|(_, call)| call.ended).min() else { return true };
    if !failed.insert((done, state)) {
        return false;
    }
    open().filter(|(_, call)| call.began < first_end).any(|(number, call)| {
        let next = match call.operation {
            Operation::Write(value) => Some(value),
            Operation::Read(value) if value == state => state,
            Operation::Read(_) => return false,
        };
        search(calls, done | 1 << number, next, failed)
    })
}

#[test]
fn the_checker_accepts_and_rejects() {
    use Operation::{Read, Write};
    let call = |began, ended, operation| Call { began, ended, operation };
    let write = call(1, 4, Write(1));
    assert!(is_linearizable(&[]));
    assert!(is_linearizable(&[write, call(2, 3, Read(None)), call(2, 3, Read(Some(1)))]));
    assert!(is_linearizable(&[write, call(2, 3, Read(Some(1))), call(5, 6, Read(Some(1)))]));
    assert!(!is_linearizable(&[write, call(5, 6, Read(None))]));
    assert!(!is_linearizable(&[write, call(2, 3, Read(Some(2)))]));
    let (newer, older) = (call(2, 3, Read(Some(1))), call(5, 6, Read(None)));
    assert!(!is_linearizable(&[call(1, 9, Write(1)), newer, older]));
}

#[test]
fn two_hosts_without_a_cache_are_linearizable() {
    for round in 0..200 {
        let shared = SharedReference::new();
        assert_linearizable(round, || Arc::new(shared.connect()));
    }
}

/// Four threads call two hosts over one store without that key.
pub(crate) fn assert_linearizable(round: u64, connect: impl Fn() -> Arc<dyn Store>) {
    let hosts = [(); 2].map(|()| {
        let store: Arc<dyn Store> = connect();
        StorageHost::builder(store).cache(CacheConfig::off()).build()
    });
    let (clock, values) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(1)));
    let threads: Vec<_> = (0..4_u64)
        .map(|number| {
            let host = hosts[number as usize % 2].clone();
            let (clock, values) = (Arc::clone(&clock), Arc::clone(&values));
            thread::spawn(move || {
                let chain = host.component(&id("a/b/1"));
                let mut random = fastrand::Rng::with_seed(round * 4 + number);
                let mut calls = Vec::new();
                for _ in 0..6 {
                    let began = clock.fetch_add(1, Ordering::SeqCst);
                    let operation = if random.bool() {
                        let value = values.fetch_add(1, Ordering::SeqCst);
                        chain.set("key", value.to_string().as_str().into()).unwrap();
                        Operation::Write(value)
                    } else {
                        let found = chain.get("key").unwrap();
                        let text = found.map(|value| value.into_bytes().to_vec());
                        let text = text.map(|bytes| String::from_utf8(bytes).unwrap());
                        Operation::Read(text.map(|text| text.parse().unwrap()))
                    };
                    let ended = clock.fetch_add(1, Ordering::SeqCst);
                    calls.push(Call { began, ended, operation });
                }
                calls
            })
        })
        .collect();
    let calls: Vec<Call> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(is_linearizable(&calls), "{calls:?}");
}
