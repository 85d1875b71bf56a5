//! The chains of a `StorageHost`, and its settings.

use std::sync::{Arc, Barrier};
use std::thread;

use rstest::rstest;
use storage_core::conformance::{
    BlockingStorage, CountingStorage, FailingStorage, Fault, Method, Moment, ReferenceStorage,
};
use storage_host::{
    Budget, CacheConfig, ComponentId, ComponentSettings, ComponentStorage, Limits, Mode,
    StorageError, StorageHost, Store, StoreUrl, create_component_storage,
};

fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

/// A store of this kind, and its directory.
fn store(kind: &str) -> (Arc<dyn Store>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let url = match kind {
        "memory" => "memory:".to_owned(),
        _ => format!("file:{}?durability=os", directory.path().join("store").display()),
    };
    (url.parse::<StoreUrl>().unwrap().open(Mode::ReadWrite).unwrap(), directory)
}

#[test]
fn a_created_chain_isolates_and_caches() {
    let backend = Arc::new(CountingStorage::new(ReferenceStorage::new()));
    let home = create_component_storage(id("a/n/home"), backend.clone(), CacheConfig::default());
    let work = create_component_storage(id("a/n/work"), backend.clone(), CacheConfig::default());
    home.set("key", "mine".into()).unwrap();
    assert_eq!(work.get("key").unwrap(), None);
    assert_eq!(backend.list_keys(None).unwrap(), ["a/n/home/key"]);

    backend.reset();
    for _ in 0..10 {
        assert_eq!(home.get("key").unwrap(), Some("mine".into()));
    }
    assert_eq!(backend.calls(Method::Get), 0, "the written value is cached");
}

#[test]
fn instances_of_a_component_share_a_chain_and_components_do_not() {
    let backend = Arc::new(CountingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::new(backend.clone());
    let first = host.component(&id("a/b/1"));
    let second = host.clone().component(&id("a/b/1"));
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&first, &host.component(&id("a/b/2"))));

    // They share a cache.
    first.set("key", "value".into()).unwrap();
    assert_eq!(second.get("key").unwrap(), Some("value".into()));
    assert_eq!(backend.calls(Method::Get), 0);
    assert_eq!(host.component(&id("a/b/11")).get("key").unwrap(), None);
}

#[test]
fn a_store_in_memory_has_no_cache_whatever_the_settings() {
    let own = || ComponentSettings { cache: Some(CacheConfig::default()), ..Default::default() };
    let builder = |store| StorageHost::builder(store).component(id("a/own/1"), own());
    for (kind, hits) in [("memory", 0), ("file", 1)] {
        let stores = [store(kind), store(kind)];
        let [private, shared] =
            [&stores[0].0, &stores[1].0].map(|store| builder(Arc::clone(store)));
        for host in [private.build(), shared.shared_cache(CacheConfig::default()).build()] {
            let mut chains = Vec::new();
            for component in ["a/own/1", "a/b/1"] {
                let chain = host.component(&id(component));
                chain.set("key", "value".into()).unwrap();
                assert_eq!(chain.get("key").unwrap(), Some("value".into()));
                let stats = chain.cache_stats();
                assert_eq!((stats.hits, stats.entries), (hits, hits), "{kind}, {component}");
                assert_eq!(host.cache_stats(&id(component)), stats);
                // A write around the chain.
                host.store().set(&format!("{component}/key"), "other".into()).unwrap();
                chain.clear_cache();
                assert_eq!(chain.get("key").unwrap(), Some("other".into()));
                chains.push(chain);
            }
            let both = host.total_cache_stats();
            assert_eq!((both.hits, both.entries), (2 * hits, 2 * hits), "{kind}");
        }
    }
}

#[test]
fn a_chain_lives_as_long_as_its_last_handle() {
    let backend = Arc::new(CountingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::new(backend.clone());
    let first = host.component(&id("a/b/1"));
    first.set("key", "value".into()).unwrap();
    let kept = Arc::downgrade(&first);
    let second = host.component(&id("a/b/1"));
    drop(first);
    assert!(kept.upgrade().is_some(), "the second handle keeps it");
    drop(second);
    assert!(kept.upgrade().is_none(), "no handle is left");

    // The data stays, but not the cache.
    assert_eq!(host.component(&id("a/b/1")).get("key").unwrap(), Some("value".into()));
    assert_eq!(backend.calls(Method::Get), 1);
}

#[test]
fn threads_share_one_chain() {
    let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
    for round in 0..500 {
        let together = Barrier::new(4);
        thread::scope(|scope| {
            for writer in 0..4 {
                let (host, together) = (&host, &together);
                scope.spawn(move || {
                    together.wait();
                    for n in 0..4 {
                        let mine = format!("{writer}");
                        let chain = host.component(&id("a/b/1"));
                        let value = format!("{round}/{n}");
                        chain.set(&mine, value.as_str().into()).unwrap();
                        drop(chain);
                        let seen = host.component(&id("a/b/1")).get(&mine).unwrap();
                        assert_eq!(seen, Some(value.as_str().into()));
                    }
                });
            }
        });
    }
}

#[rstest]
fn without_a_quota_a_write_is_a_plain_set(#[values("memory", "file")] kind: &str) {
    let (store, _directory) = store(kind);
    let backend = Arc::new(CountingStorage::new(store));
    let chain = StorageHost::new(backend.clone()).component(&id("a/b/1"));
    chain.set("key", "value".into()).unwrap();
    chain.delete("key").unwrap();
    assert_eq!(backend.calls(Method::Set), 1);
    assert_eq!(backend.calls(Method::Delete), 1);
    assert_eq!(backend.total(), 2, "a write reads nothing");
}

#[rstest]
fn a_quota_is_exact_when_many_write(#[values("memory", "file")] kind: &str) {
    let (store, _directory) = store(kind);
    // Keys of 2 bytes and values of 8: 20 fit, one of which exists before the quota does.
    let before = StorageHost::new(store.clone());
    before.component(&id("a/b/1")).set("xx", "12345678".into()).unwrap();
    drop(before);
    let quota = Budget { max_bytes: 200, max_keys: 1_000 };
    let host = StorageHost::builder(store).quota(quota).build();
    let accepted: usize = thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let chain = host.component(&id("a/b/1"));
                scope.spawn(move || {
                    (0..10)
                        .filter(|n| match chain.set(&format!("{writer}{n}"), "12345678".into()) {
                            Ok(()) => true,
                            Err(StorageError::QuotaExceeded) => false,
                            Err(other) => panic!("{other}"),
                        })
                        .count()
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(accepted, 19);
    let usage = host.usage(&id("a/b/1")).unwrap();
    assert_eq!((usage.used_bytes, usage.quota_bytes, usage.key_count), (200, 200, 20));

    // A neighbour has its own quota, and a delete makes room.
    host.component(&id("a/b/2")).set("key", "12345678".into()).unwrap();
    let chain = host.component(&id("a/b/1"));
    let one = chain.list_keys(None).unwrap().remove(0);
    assert_eq!(chain.set("new", "".into()), Err(StorageError::QuotaExceeded));
    chain.delete(&one).unwrap();
    chain.set("new", "".into()).unwrap();
}

#[test]
fn a_quota_on_a_store_without_commits_says_so() {
    let backend = FailingStorage::new(ReferenceStorage::new());
    backend
        .inject(Fault::error(StorageError::Unsupported("no commits".into())).on(&[Method::Commit]));
    let quota = Budget { max_bytes: 12, max_keys: 10 };
    let host = StorageHost::builder(Arc::new(backend)).quota(quota).build();
    let result = host.component(&id("a/b/1")).set("key", "".into());
    assert!(matches!(result, Err(StorageError::Unsupported(_))), "{result:?}");
}

#[test]
fn settings_of_a_component_replace_those_of_the_host() {
    let mut limits = Limits::default();
    limits.value_bytes = 3;
    let quota = Budget { max_bytes: 100, max_keys: 10 };
    let own = ComponentSettings::default();
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new()))
        .cache(CacheConfig::default())
        .quota(quota)
        .limits(limits)
        .component(id("a/b/free"), own)
        .build();
    let bound = host.component(&id("a/b/bound"));
    let free = host.component(&id("a/b/free"));
    assert_eq!((bound.quota(), free.quota()), (Some(quota), None));
    assert_eq!((bound.limits(), free.limits()), (limits, Limits::default()));
    assert!(bound.set("key", "1234".into()).is_err());
    free.set("key", "1234".into()).unwrap();
    let usage = host.usage(&id("a/b/free")).unwrap();
    assert_eq!((usage.used_bytes, usage.quota_bytes, usage.key_count), (7, u64::MAX, 1));
    let unknown = host.usage(&id("a/b/unknown")).unwrap();
    assert_eq!((unknown.used_bytes, unknown.quota_bytes, unknown.key_count), (0, 100, 0));
}

#[test]
fn a_chain_in_use_does_not_block_other_components() {
    let backend = Arc::new(BlockingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::new(backend.clone());
    let held = backend.hold(&[Method::Get], Moment::Before);
    thread::scope(|scope| {
        let stuck = host.component(&id("a/b/stuck"));
        scope.spawn(move || stuck.get("key").unwrap());
        held.wait_for(1);
        // This would hang if the registry were locked during a call.
        host.component(&id("a/b/other")).set("key", "".into()).unwrap();
        held.release();
    });
}
