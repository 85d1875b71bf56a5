//! Which components are cached, and for how long.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use storage_core::conformance::{CountingStorage, Method, ReferenceStorage};
use storage_host::{
    CacheConfig, ComponentSettings, ComponentStorage, ManualClock, StorageHost, Store,
    StoreProperties, forward_storage,
};

use crate::support::{Hosts, L, id};

#[test]
fn without_a_cache_every_read_sees_the_last_write_of_any_host() {
    let off = || ComponentSettings { cache: Some(CacheConfig::off()), ..Default::default() };
    let short = || ComponentSettings {
        max_staleness: Some(Duration::from_millis(99)),
        ..Default::default()
    };
    let Hosts { one, two, .. } = Hosts::with(|builder| {
        builder.component(id("a/off/1"), off()).component(id("a/short/1"), short())
    });
    for component in ["a/off/1", "a/short/1"] {
        let (one, two) = (one.host.component(&id(component)), two.host.component(&id(component)));
        for round in 0..10 {
            let value = format!("{round}");
            two.set("key", value.as_str().into()).unwrap();
            assert_eq!(one.get("key"), Ok(Some(value.as_str().into())));
            assert_eq!(one.try_get("", "key"), None);
        }
        assert_eq!(one.cache_stats(), Default::default());
    }
}

#[rstest]
fn each_component_has_its_own_maximum_staleness(#[values(false, true)] shared: bool) {
    let five = || ComponentSettings { max_staleness: Some(5 * L), ..Default::default() };
    let Hosts { one, two, clock, .. } = Hosts::with(|builder| {
        let builder = builder.max_staleness(2 * L).component(id("a/five/1"), five());
        if shared { builder.shared_cache(CacheConfig::default()) } else { builder }
    });
    one.connection().hold_notices();
    let (first, second) = (id("a/two/1"), id("a/five/1"));
    let (host, other) = ([&first, &second].map(|id| one.host.component(id)), &two.host);
    for (chain, id) in host.iter().zip([&first, &second]) {
        chain.set("key", "old".into()).unwrap();
        other.component(id).set("key", "new".into()).unwrap();
    }
    let seen = || host.each_ref().map(|chain| chain.get("key").unwrap().unwrap());
    clock.advance(2 * L - Duration::from_nanos(1));
    assert_eq!(seen(), ["old".into(), "old".into()]);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(seen(), ["new".into(), "old".into()]);
    clock.advance(3 * L);
    assert_eq!(seen(), ["new".into(), "new".into()]);
}

#[cfg(feature = "manifest")]
#[test]
fn a_manifest_sets_both() {
    let manifest: storage_host::Manifest = "
        cache = { shared = true, max_staleness = 3 }
        component = [{ id = 'a/off/1', cache = 'off' }, { id = 'a/half/1', cache.max_staleness = 0.5 }]
    "
    .parse()
    .unwrap();
    let backend =
        Arc::new(CountingStorage::new(storage_core::conformance::SharedReference::new().connect()));
    let host = manifest.host(backend.clone());
    let chains = ["a/off/1", "a/half/1", "a/b/1"].map(|component| host.component(&id(component)));
    for chain in &chains {
        chain.set("key", "value".into()).unwrap();
    }
    backend.reset();
    chains[0].get("key").unwrap();
    assert_eq!(backend.calls(Method::Get), 1);
    // `a/half/1` uses the host's cache.
    assert!(host.total_cache_stats().entries >= 2);
    assert!(format!("{host:?}").contains("max_staleness: 3s"), "{host:?}");
    assert!(format!("{host:?}").contains("max_staleness: Some(500ms)"), "{host:?}");
}

/// A store that others write to, and that does not tell of it.
struct Silent(CountingStorage<ReferenceStorage>);

#[expect(clippy::missing_trait_methods, reason = "nothing is known in memory")]
impl ComponentStorage for Silent {
    forward_storage!(self => self.0; get, set, delete, exists, list_keys);
}

#[expect(clippy::missing_trait_methods, reason = "the defaults are tested")]
impl Store for Silent {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("silent").with_shared_with_other_hosts(true)
    }
}

#[test]
fn a_shared_store_without_changes_is_not_cached() {
    let store = Arc::new(Silent(CountingStorage::new(ReferenceStorage::new())));
    let host = StorageHost::new(store.clone());
    let chain = host.component(&id("a/b/1"));
    for _ in 0..3 {
        chain.get("key").unwrap();
    }
    assert_eq!(store.0.calls(Method::Get), 3);
    assert_eq!(host.coherence_stats(), None);
    host.poll_changes().unwrap();
}

#[test]
fn a_store_of_one_host_is_cached_without_a_maximum_staleness() {
    let clock = ManualClock::new();
    let store = Arc::new(CountingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::builder(store.clone())
        .cache(CacheConfig { ttl: None, ..CacheConfig::default() })
        .max_staleness(Duration::ZERO)
        .clock(clock.clock())
        .build();
    let chain = host.component(&id("a/b/1"));
    chain.set("key", "value".into()).unwrap();
    clock.advance(1_000_000 * L);
    assert_eq!(chain.try_get("", "key"), Some(Some("value".into())));
    assert_eq!(host.coherence_stats(), None);
}
