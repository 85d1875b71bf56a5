//! Rate limits, on a clock that the test moves.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use storage_core::conformance::{CountingStorage, ReferenceStorage};
use storage_host::{
    Access, Commit, ComponentId, ComponentSettings, ComponentStorage, Grant, ManualClock,
    PageRequest, RateLimit, StorageError, StorageHost,
};

const SECOND: Duration = Duration::from_secs(1);

fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

fn limited(rate: RateLimit) -> ComponentSettings {
    ComponentSettings { rate, ..ComponentSettings::default() }
}

fn operations(per_second: u64) -> RateLimit {
    RateLimit::new(Some(per_second), None, SECOND).unwrap()
}

fn bytes(per_second: u64) -> RateLimit {
    RateLimit::new(None, Some(per_second), SECOND).unwrap()
}

type Backend = Arc<CountingStorage<ReferenceStorage>>;

/// A host in which `app/limited/1` has a rate.
fn host(rate: RateLimit) -> (StorageHost, ManualClock, Backend) {
    let clock = ManualClock::new();
    let backend = Arc::new(CountingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::builder(backend.clone())
        .clock(clock.clock())
        .component(id("app/limited/1"), limited(rate))
        .build();
    (host, clock, backend)
}

fn too_many(max: u64) -> StorageError {
    StorageError::LimitExceeded { limit: "operations per second", max, actual: max + 1 }
}

#[test]
fn the_number_of_calls_is_exact_and_a_refused_one_changes_nothing() {
    let (host, clock, backend) = host(operations(10));
    let chain = host.component(&id("app/limited/1"));
    for n in 0..10 {
        chain.set(&format!("{n}"), "value".into()).unwrap();
    }
    backend.reset();
    assert_eq!(chain.set("more", "".into()), Err(too_many(10)));
    assert_eq!(chain.delete("1"), Err(too_many(10)));
    assert_eq!(chain.get("1"), Err(too_many(10)), "also what is cached");
    assert_eq!(chain.exists("1"), Err(too_many(10)));
    assert_eq!(chain.try_get("", "1"), None);
    assert_eq!(chain.get_versioned("1"), Err(too_many(10)));
    assert_eq!(chain.get_many(&["1"]), Err(too_many(10)));
    assert_eq!(chain.list_keys(None), Err(too_many(10)));
    assert_eq!(chain.list_page(PageRequest::new(1)), Err(too_many(10)));
    assert_eq!(chain.usage(None), Err(too_many(10)));
    assert_eq!(chain.component_usage(), Err(too_many(10)));
    assert_eq!(chain.commit(Commit::new().delete("1")), Err(too_many(10)));
    assert_eq!(backend.total(), 0);
    assert_eq!(chain.retry_after(), SECOND / 10);
    // The operator is not limited.
    assert_eq!(host.usage(&id("app/limited/1")).unwrap().key_count, 10);

    clock.advance(SECOND / 10);
    assert_eq!(chain.retry_after(), Duration::ZERO);
    assert_eq!(chain.get("1"), Ok(Some("value".into())));
    assert_eq!(chain.get("1"), Err(too_many(10)));
    let mut made = 0;
    for _ in 0..100 {
        clock.advance(Duration::from_millis(37));
        made += (0..5).filter(|_| chain.exists("1").is_ok()).count();
    }
    assert_eq!(made, 37);
}

#[test]
fn instances_and_threads_share_the_rate() {
    let (host, clock, _) = host(operations(1_000));
    for round in 1..=3 {
        let made: usize = thread::scope(|scope| {
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let chain = host.component(&id("app/limited/1"));
                        (0..1_000).filter(|_| chain.get("key").is_ok()).count()
                    })
                })
                .collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).sum()
        });
        assert_eq!(made, 1_000, "round {round}");
        clock.advance(SECOND);
    }
}

#[test]
fn a_component_that_ends_and_starts_again_has_no_more() {
    let (host, clock, _) = host(operations(5));
    let calls = |times| {
        (0..times).filter(|_| host.component(&id("app/limited/1")).get("key").is_ok()).count()
    };
    assert_eq!(calls(20), 5, "each call with a chain of its own");
    clock.advance(SECOND / 5);
    assert_eq!(calls(20), 1);
    clock.advance(SECOND);
    assert_eq!(calls(20), 5);
    assert_eq!(host.component(&id("app/limited/2")).get("key"), Ok(None), "another component");
}

#[test]
fn batches_count_for_each_key() {
    let (host, clock, _) = host(operations(10));
    let chain = host.component(&id("app/limited/1"));
    chain.get_many(&["1", "2", "3", "4"]).unwrap();
    let writes = (0..5).fold(Commit::new(), |commit, n| commit.delete(n.to_string()));
    chain.commit(writes.clone().require_absent("x")).unwrap();
    chain.get_many(&[]).unwrap();
    assert_eq!(chain.get("1"), Err(too_many(10)));
    // More than the burst is possible, and later calls wait for it.
    clock.advance(SECOND);
    let many: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    chain.get_many(&many).unwrap();
    assert_eq!(chain.retry_after(), SECOND * 16 / 10);
    clock.advance(chain.retry_after());
    chain.commit(writes).unwrap();
}

#[test]
fn bytes_count_in_and_out() {
    let (host, clock, _) = host(bytes(100));
    let chain = host.component(&id("app/limited/1"));
    let refused = StorageError::LimitExceeded { limit: "bytes per second", max: 100, actual: 101 };
    chain.set("key", "1234567890".repeat(9).as_str().into()).unwrap(); // 93
    chain.exists("key").unwrap(); // 96
    chain.get("key").unwrap(); // 189
    assert_eq!(chain.exists("key"), Err(refused.clone()));
    assert_eq!(chain.retry_after(), SECOND * 90 / 100);
    clock.advance(SECOND * 10);
    assert!(chain.try_get("", "key").is_some());
    chain.list_keys(None).unwrap(); // 96
    chain.get_many(&["key", "none"]).unwrap(); // 193
    assert_eq!(chain.retry_after(), SECOND * 94 / 100);
    assert_eq!(chain.get("key"), Err(refused));
    clock.advance(SECOND * 10);
    assert_eq!(chain.get("key").unwrap().unwrap().len(), 90);
}

#[test]
fn a_read_that_memory_cannot_answer_counts_once() {
    let (host, _, _) = host(operations(3));
    let chain = host.component(&id("app/limited/1"));
    for _ in 0..100 {
        assert_eq!(chain.try_get("", "key"), None);
    }
    assert_eq!(chain.get("key"), Ok(None));
    assert_eq!(chain.try_get("", "key"), Some(None));
    assert_eq!(chain.get("key"), Ok(None));
    assert_eq!(chain.get("key"), Err(too_many(3)));
}

#[test]
fn calls_through_grants_count_for_the_caller() {
    let (host, _, _) = host(operations(2));
    let (caller, owner) = (id("app/limited/1"), id("app/owner/1"));
    let grant = |owner: &ComponentId| Grant {
        owner: owner.clone(),
        prefix: String::new(),
        access: Access::ReadWrite,
    };
    host.grant(&caller, grant(&owner));
    let granted = host.granted(&caller, &owner).unwrap();
    granted.set("key", "value".into()).unwrap();
    host.component(&caller).get("key").unwrap();
    assert_eq!(granted.get("key"), Err(too_many(2)));
    assert_eq!(host.component(&owner).get("key"), Ok(Some("value".into())));
    // The rate of an owner does not concern others.
    host.grant(&owner, grant(&caller));
    let granted = host.granted(&owner, &caller).unwrap();
    for _ in 0..10 {
        granted.get("key").unwrap();
    }
}

#[test]
fn a_rate_changes_while_the_component_runs() {
    let (host, clock, _) = host(operations(2));
    let chain = host.component(&id("app/limited/1"));
    let calls = || (0..100).filter(|_| chain.get("key").is_ok()).count();
    let apply = |rate| {
        let mut settings = host.settings();
        settings.components.insert(id("app/limited/1"), limited(rate));
        host.apply(settings).changed.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(calls(), 2);
    assert_eq!(apply(operations(20)), ["app/limited/1: rate.operations_per_second: 2 -> 20"]);
    assert_eq!(calls(), 0, "what was used counts");
    clock.advance(SECOND);
    assert_eq!(calls(), 20);
    assert_eq!(
        apply(RateLimit::default()),
        [
            "app/limited/1: rate.operations_per_second: 20 -> none",
            "app/limited/1: rate.burst_seconds: 1 -> none"
        ]
    );
    assert_eq!(calls(), 100);
    apply(operations(3));
    assert_eq!(calls(), 3);
}
