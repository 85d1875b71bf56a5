//! Which components are polled, and the thread that does it.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use storage_core::conformance::{HostConnection, Method, SharedReference};
use storage_host::{
    CacheConfig, ComponentStorage, SharedStore, StorageHost, Store, StoreProperties,
    forward_storage,
};

use crate::support::{Hosts, Kind, L, id};

const TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn only_components_that_answer_from_the_cache_are_polled() {
    let Hosts { one, clock, .. } = Hosts::new(Kind::Private);
    let polled = || {
        one.counting().reset();
        one.poll();
        one.counting().calls(Method::ComponentRevisions)
    };
    one.set("key", "value");
    let other = one.host.component(&id("a/b/other"));
    other.get("key").unwrap();
    assert_eq!(polled(), 1, "both in one call");
    assert_eq!(one.host.coherence_stats().unwrap().components, 2);
    for _ in 0..10 {
        clock.advance(L / 2);
        one.has_cached("key", "value");
        assert_eq!(polled(), 1);
    }
    assert_eq!(one.host.coherence_stats().unwrap().components, 1, "the other one is idle");
    clock.advance(4 * L);
    assert_eq!(polled(), 0);
    // It is polled again after the next read.
    one.reads("key", "value");
    assert_eq!(polled(), 1);
    drop(other);
    let stats = one.host.coherence_stats().unwrap();
    assert_eq!((stats.components, stats.last_success), (1, Some(Duration::ZERO)));
}

/// The second chain finds the entries of the first in the shared cache.
#[test]
fn entries_that_outlive_a_chain_do_not_become_stale() {
    let Hosts { one, two, clock, .. } = Hosts::new(Kind::Shared);
    let component = id("a/b/1");
    one.host.component(&component).set("key", "old".into()).unwrap();
    one.poll();
    // No chain: the notice has no effect.
    two.host.component(&component).set("key", "new".into()).unwrap();
    clock.advance(L / 2);
    let chain = one.host.component(&component);
    chain.get("other").unwrap();
    for _ in 0..3 {
        one.poll();
        clock.advance(L / 6);
    }
    assert_eq!(chain.get("key"), Ok(Some("new".into())));
}

/// With the system's clock. Waits for what must happen, however long it takes.
#[test]
fn the_thread_finds_changes_without_notices() {
    let shared = SharedReference::new();
    let connection = Arc::new(shared.connect());
    connection.hold_notices();
    let host = StorageHost::builder(connection)
        .cache(CacheConfig { ttl: None, ..CacheConfig::default() })
        .max_staleness(Duration::from_millis(100))
        .build();
    let chain = host.component(&id("a/b/1"));
    let around = shared.connect();
    for round in 0..10 {
        let value = format!("{round}");
        around.set("a/b/1/key", value.as_str().into()).unwrap();
        let start = Instant::now();
        while chain.get("key").unwrap() != Some(value.as_str().into()) {
            assert!(start.elapsed() < TIMEOUT, "the old value stays");
            thread::yield_now();
        }
    }
    let stats = host.coherence_stats().unwrap();
    assert!(stats.polls > 0 && stats.failed_polls == 0 && stats.last_success.is_some());
    assert!(host.total_cache_stats().hits > 0);
}

/// Sends a message when it is dropped.
struct Dropped {
    connection: HostConnection,
    sender: Mutex<Sender<()>>,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.sender.lock().unwrap().send(());
    }
}

#[expect(clippy::missing_trait_methods, reason = "nothing is known in memory")]
impl ComponentStorage for Dropped {
    forward_storage!(self => self.connection; get, set, delete, exists, list_keys, commit);
}

#[expect(clippy::missing_trait_methods, reason = "the others are not called")]
impl Store for Dropped {
    fn properties(&self) -> StoreProperties {
        self.connection.properties()
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        self.connection.shared()
    }
}

#[test]
fn the_thread_and_the_store_end_with_the_host() {
    let (sender, dropped) = channel();
    let connection = SharedReference::new().connect();
    let store = Arc::new(Dropped { connection, sender: Mutex::new(sender) });
    let host = StorageHost::builder(store).max_staleness(Duration::from_millis(100)).build();
    let chain = host.component(&id("a/b/1"));
    chain.get("key").unwrap();
    let start = Instant::now();
    while host.coherence_stats().unwrap().polls == 0 {
        assert!(start.elapsed() < TIMEOUT, "nothing is polled");
        thread::yield_now();
    }
    drop(host);
    assert!(dropped.try_recv().is_err(), "the chain keeps the host");
    drop(chain);
    dropped.recv_timeout(TIMEOUT).expect("the store is dropped");
}
