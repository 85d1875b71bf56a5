//! The conformance suite, through caches of every kind.

use rstest::rstest;
use storage_cache::{CacheConfig, CachedStorage};
use storage_core::conformance::{Implementation, ReferenceStorage, RequiredMethods, run};
use storage_core::{ComponentStorage, StorageError};

fn config(max_entries: usize, max_size_bytes: usize) -> CacheConfig {
    CacheConfig { max_entries, max_size_bytes, ..CacheConfig::default() }
}

#[rstest]
#[case::roomy(CacheConfig::default())]
#[case::without_a_ttl(CacheConfig { ttl: None, ..CacheConfig::default() })]
// Evicts and refuses most of the time.
#[case::tiny(config(3, 4 << 10))]
#[case::off(config(0, 0))]
fn a_cached_reference_passes(#[case] config: CacheConfig) {
    let reference = || Implementation::store("reference", ReferenceStorage::new);
    let cached = |below: Implementation| {
        let config = config.clone();
        below.wrapped("cached", move |storage| CachedStorage::new(storage, config.clone()))
    };
    assert!(!run(&cached(reference())).passed.is_empty());
    run(&cached(reference()).namespaced());
    run(&cached(reference().required_methods()));
    run(&cached(cached(reference())));
}

/// An entry must not hide that the storage below has no revisions.
#[test]
fn get_versioned_stays_unsupported_whatever_is_cached() {
    let below = RequiredMethods::new(ReferenceStorage::new());
    let cached = CachedStorage::new(below, CacheConfig::default());
    let is_unsupported =
        |key| matches!(cached.get_versioned(key), Err(StorageError::Unsupported(_)));
    assert_eq!(cached.get("absent"), Ok(None));
    assert!(is_unsupported("absent"));
    cached.delete("deleted").unwrap();
    assert!(is_unsupported("deleted"));
    assert_eq!(cached.exists("missing"), Ok(false));
    assert!(is_unsupported("missing"));
    cached.set("present", "value".into()).unwrap();
    assert!(is_unsupported("present"));
    assert_eq!(cached.get("present"), Ok(Some("value".into())));
}
