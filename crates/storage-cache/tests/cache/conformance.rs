//! The contract of the trait, through caches of every kind.

use std::sync::Arc;

use rstest::rstest;
use storage_cache::{CacheConfig, CachedStorage};
use storage_core::conformance::{Implementation, ReferenceStorage, RequiredMethods, run};
use storage_core::{ComponentStorage, StorageError};

fn config(max_entries: usize, max_size_bytes: usize) -> CacheConfig {
    CacheConfig { max_entries, max_size_bytes, ..CacheConfig::default() }
}

fn caches() -> [(&'static str, CacheConfig); 4] {
    [
        ("cached", CacheConfig::default()),
        ("forever cached", CacheConfig { ttl: None, ..CacheConfig::default() }),
        // Evicts and refuses most of the time.
        ("hardly cached", config(3, 4 << 10)),
        ("not cached", config(0, 0)),
    ]
}

#[rstest]
#[case::plain(false)]
#[case::namespaced(true)]
fn a_cached_reference_keeps_the_contract(#[case] namespaced: bool) {
    for (name, config) in caches() {
        let reference = Implementation::store("reference", ReferenceStorage::new);
        let cached =
            reference.wrapped(name, move |storage| CachedStorage::new(storage, config.clone()));
        let report = run(&if namespaced { cached.namespaced() } else { cached });
        assert!(!report.passed.is_empty());
    }
}

#[test]
fn behind_dyn_it_keeps_the_contract() {
    let new = || CachedStorage::new(ReferenceStorage::new(), CacheConfig::default());
    run(&Implementation::new("Box of cached", move || -> Box<dyn ComponentStorage> {
        Box::new(new())
    }));
    run(&Implementation::new("Arc of cached", move || -> Arc<dyn ComponentStorage> {
        Arc::new(new())
    }));
}

/// A cache over a cache, as an operator might compose it by mistake.
#[test]
fn a_cache_over_a_cache_keeps_the_contract() {
    let reference = Implementation::store("reference", ReferenceStorage::new);
    run(&reference
        .wrapped("cached", |storage| CachedStorage::new(storage, CacheConfig::default()))
        .wrapped("twice cached", |storage| CachedStorage::new(storage, config(3, 4 << 10))));
}

#[test]
fn a_cache_over_required_methods_keeps_the_contract() {
    for (name, config) in caches() {
        let required = Implementation::store("reference", ReferenceStorage::new).required_methods();
        run(&required.wrapped(name, move |storage| CachedStorage::new(storage, config.clone())));
    }
}

/// What is cached must not hide that the storage below has no revisions.
#[test]
fn a_read_with_revision_stays_unsupported_whatever_is_cached() {
    let cached =
        CachedStorage::new(RequiredMethods::new(ReferenceStorage::new()), CacheConfig::default());
    let unsupported = |key| matches!(cached.get_versioned(key), Err(StorageError::Unsupported(_)));
    assert_eq!(cached.get("absent"), Ok(None));
    assert!(unsupported("absent"));
    cached.delete("deleted").unwrap();
    assert!(unsupported("deleted"));
    assert_eq!(cached.exists("not there"), Ok(false));
    assert!(unsupported("not there"));
    cached.set("present", "value".into()).unwrap();
    assert!(unsupported("present"));
    assert_eq!(cached.get("present"), Ok(Some("value".into())));
}
