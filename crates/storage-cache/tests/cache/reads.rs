//! Hits, misses and statistics.

use std::time::Duration;

use rstest::rstest;
use storage_cache::{CacheConfig, CacheStats, CachedStorage};
use storage_core::conformance::Method;
use storage_core::{
    Commit, ComponentStorage, MAX_KEY_BYTES, NamespacedStorage, StorageError, StorageValue,
    validate_full_key,
};

use crate::support::{LARGE, Read, Setup, Write, assert_holds, bytes};

#[rstest]
fn the_second_read_is_a_hit(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
    #[values(Some("old"), None)] value: Option<&str>,
) {
    let setup = Setup::new();
    if let Some(value) = value {
        setup.around().set("key", value.into()).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(read.perform(&*setup.cached, "key"), Ok(read.found(value)));
    }
    assert_eq!(setup.counting().total(), 1);
    let stats = setup.cached.stats();
    assert_eq!((stats.hits, stats.misses, stats.fills, stats.entries), (2, 1, 1, 1));
}

#[test]
fn a_read_after_a_write_is_a_hit() {
    for write in Write::ALL {
        let setup = Setup::new();
        setup.cached.set("key", "old".into()).unwrap();
        write.perform(&*setup.cached, "key").unwrap();
        setup.counting().reset();
        let expected = write.leaves();
        for read in [Read::Get, Read::Exists, Read::GetMany] {
            assert_eq!(read.perform(&*setup.cached, "key"), Ok(read.found(expected)));
        }
        assert_eq!(setup.try_get("key"), Some(expected.map(Into::into)));
        assert_eq!(setup.counting().total(), 0, "{write:?}");
        assert_eq!(setup.around().get("key"), Ok(expected.map(Into::into)));
    }
}

/// Has a value for every key, and accepts invalid keys.
struct Lenient;

impl ComponentStorage for Lenient {
    fn get(&self, _: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(Some("value".into()))
    }
    fn set(&self, _: &str, _: StorageValue) -> Result<(), StorageError> {
        Ok(())
    }
    fn delete(&self, _: &str) -> Result<(), StorageError> {
        Ok(())
    }
    fn exists(&self, _: &str) -> Result<bool, StorageError> {
        Ok(true)
    }
    fn list_keys(&self, _: Option<&str>) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }
}

/// Otherwise a component could use an invalid key that was cached.
#[test]
fn invalid_keys_are_not_cached() {
    let cached = CachedStorage::new(Lenient, CacheConfig::default());
    let component = NamespacedStorage::new("app/notes/home".parse().unwrap(), &cached);
    for user_key in ["", "a\nb", "\u{80}", &"k".repeat(MAX_KEY_BYTES + 1)] {
        let key = format!("app/notes/home/{user_key}");
        cached.set(&key, "value".into()).unwrap();
        for _ in 0..2 {
            assert_eq!(cached.get(&key), Ok(Some("value".into())));
        }
        let is_valid = validate_full_key(&key).is_ok();
        for (prefix, key) in [("app/notes/home/", user_key), ("", &*key)] {
            assert_eq!(cached.try_get(prefix, key).is_some(), is_valid, "{key:?}");
        }
        assert!(matches!(component.get(user_key), Err(StorageError::InvalidKey(_))), "{key:?}");
    }
}

#[test]
fn get_versioned_reads_below_only_if_the_revision_is_unknown() {
    let setup = Setup::new();
    let revision = setup.cached.commit(Commit::new().set("set", "1".into()).delete("deleted"));
    let found = setup.cached.get_versioned("set").unwrap().unwrap();
    assert_eq!((found.value, Ok(found.revision)), ("1".into(), revision));
    assert_eq!(setup.cached.get_versioned("deleted"), Ok(None));
    assert_eq!(setup.counting().calls(Method::GetVersioned), 0);

    setup.cached.set("set", "2".into()).unwrap();
    for _ in 0..2 {
        let found = setup.around().get_versioned("set").unwrap();
        assert_eq!(setup.cached.get_versioned("set"), Ok(found));
    }
    assert_eq!(setup.cached.get("set"), Ok(Some("2".into())));
    assert_eq!(setup.counting().calls(Method::GetVersioned), 1);
    assert_eq!(setup.counting().calls(Method::Get), 0);
}

#[test]
fn try_get_reads_nothing_below_and_counts_only_hits() {
    let setup = Setup::new();
    setup.around().set("key", "value".into()).unwrap();
    assert_eq!(setup.try_get("key"), None);
    assert_eq!(setup.cached.exists("key"), Ok(true));
    assert_eq!(setup.try_get("key"), None, "only its presence is known");
    assert_eq!(setup.cached.get("key"), Ok(Some("value".into())));
    assert_eq!(setup.try_get("key"), Some(Some("value".into())));
    assert_eq!(setup.cached.get("absent"), Ok(None));
    assert_eq!(setup.try_get("absent"), Some(None));
    assert_eq!(setup.counting().total(), 3);
    let stats = setup.cached.stats();
    assert_eq!((stats.hits, stats.misses), (2, 3));
}

#[test]
fn get_many_reads_all_missing_keys_at_once() {
    let setup = Setup::new();
    for key in ["b", "c", "d"] {
        setup.around().set(key, key.into()).unwrap();
    }
    setup.cached.get("c").unwrap();
    setup.counting().reset();
    let keys = ["d", "c", "absent", "b", "d"];
    let expected = [Some("d".into()), Some("c".into()), None, Some("b".into()), Some("d".into())];
    for _ in 0..2 {
        assert_eq!(setup.cached.get_many(&keys), Ok(expected.to_vec()));
        assert_eq!(setup.counting().calls(Method::GetMany), 1);
        assert_eq!(setup.counting().total(), 1);
    }
    let stats = setup.cached.stats();
    assert_eq!((stats.hits, stats.misses, stats.fills), (1 + 5, 1 + 4, 1 + 3));
}

#[test]
fn a_hit_shares_the_bytes_of_the_value() {
    let setup = Setup::new();
    let value = bytes(4096);
    setup.cached.set("key", value.clone()).unwrap();
    let found = setup.cached.get("key").unwrap().unwrap();
    assert!(std::ptr::eq(found.as_bytes(), value.as_bytes()));
}

#[rstest]
#[case::no_entries(CacheConfig { max_entries: 0, ..CacheConfig::default() })]
#[case::no_bytes(CacheConfig { max_size_bytes: 0, ..CacheConfig::default() })]
#[case::no_ttl(CacheConfig { ttl: Some(Duration::ZERO), ..CacheConfig::default() })]
fn a_cache_that_is_off_forwards_every_call(#[case] config: CacheConfig) {
    let setup = Setup::with(config);
    setup.cached.set("key", "old".into()).unwrap();
    for _ in 0..2 {
        assert_holds(&*setup.cached, "key", Some("old"));
    }
    assert_eq!(setup.counting().total(), 1 + 2 * 4);
    setup.around().set("key", "new".into()).unwrap();
    assert_holds(&*setup.cached, "key", Some("new"));
    setup.cached.clear();
    assert_eq!(setup.cached.stats(), CacheStats::default());
}

#[test]
fn large_values_are_read_below_until_they_shrink() {
    let setup = Setup::small();
    setup.cached.set("key", bytes(LARGE)).unwrap();
    for reads in 0..3 {
        assert_eq!(setup.counting().calls(Method::Get), reads);
        assert_eq!(setup.try_get("key"), None);
        assert_eq!(setup.cached.get("key"), Ok(Some(bytes(LARGE))));
    }
    assert_eq!(setup.cached.get_many(&["key"]), Ok(vec![Some(bytes(LARGE))]));
    assert_eq!(setup.cached.get_versioned("key").unwrap().unwrap().value, bytes(LARGE));
    assert_eq!(setup.cached.exists("key"), Ok(true));
    assert_eq!(setup.counting().calls(Method::Exists), 0, "the marker suffices");
    let stats = setup.cached.stats();
    assert_eq!((stats.refusals, stats.evictions, stats.entries), (1, 0, 1));
    assert!(stats.bytes < 100, "{stats:?}");

    setup.around().set("key", "small".into()).unwrap();
    setup.counting().reset();
    for _ in 0..3 {
        assert_eq!(setup.cached.get("key"), Ok(Some("small".into())));
    }
    assert_eq!(setup.counting().calls(Method::Get), 2);
}

/// Not even a marker of such a key fits.
#[test]
fn a_key_too_large_to_cache_is_read_below() {
    let setup = Setup::with(CacheConfig { max_size_bytes: 1024, ..CacheConfig::default() });
    let key = "k".repeat(1000);
    setup.cached.set(&key, "value".into()).unwrap();
    assert_holds(&*setup.cached, &key, Some("value"));
    setup.cached.delete(&key).unwrap();
    assert_holds(&*setup.cached, &key, None);
    let stats = setup.cached.stats();
    assert_eq!((stats.hits, stats.fills, stats.evictions), (0, 0, 0));
    assert_eq!((stats.entries, stats.bytes), (0, 0));
    assert!(stats.refusals > 0);
}

#[test]
fn clear_removes_all_entries() {
    let setup = Setup::new();
    setup.cached.set("key", "old".into()).unwrap();
    setup.cached.get("absent").unwrap();
    for key in ["key", "absent"] {
        setup.around().set(key, "new".into()).unwrap();
        assert!(setup.try_get(key).is_some());
    }
    setup.cached.clear();
    let stats = setup.cached.stats();
    assert_eq!((stats.entries, stats.bytes, stats.evictions), (0, 0, 0));
    for key in ["key", "absent"] {
        assert_holds(&*setup.cached, key, Some("new"));
    }
}

#[test]
fn the_statistics_add_up() {
    let setup = Setup::with(CacheConfig { ttl: None, max_entries: 10, max_size_bytes: 1 << 20 });
    // 48 bytes for each entry besides its key and value.
    for (value, bytes_of_entry) in [(100, 3 + 100 + 48), (50, 3 + 50 + 48)] {
        setup.cached.set("key", bytes(value)).unwrap();
        assert_eq!(setup.cached.stats().bytes, bytes_of_entry);
    }
    setup.cached.delete("key").unwrap();
    assert_eq!(setup.cached.stats().bytes, 3 + 48);
    for key in 0..100 {
        setup.cached.set(&format!("{key:04}"), bytes(10)).unwrap();
    }
    let stats = setup.cached.stats();
    assert_eq!((stats.fills, stats.entries, stats.evictions), (0, 10, 91));
    assert_eq!(stats.bytes, 10 * (4 + 10 + 48));
    for key in (0..100).chain(0..100) {
        setup.cached.get(&format!("{key:04}")).unwrap();
    }
    let after = setup.cached.stats();
    assert_eq!(after.hits + after.misses, 200);
    assert!(after.fills > 0 && after.fills <= after.misses, "{after:?}");
    assert_eq!((after.entries, after.bytes), (10, 10 * (4 + 10 + 48)));
    assert_eq!(after.evictions - stats.evictions, after.fills);
}

#[rstest]
fn a_cache_fills_up_to_its_limits(
    #[values(1, 2, 3, 10, 33, 100, 5_000)] max_entries: usize,
    #[values(1, 100, 10_000)] value: usize,
) {
    let max_size_bytes = 8 << 20;
    let setup = Setup::with(CacheConfig { ttl: None, max_entries, max_size_bytes });
    let last = 3 * max_entries.max(500) - 1;
    let mut most = 0;
    for key in 0..=last {
        setup.cached.set(&key.to_string(), bytes(value)).unwrap();
        let stats = setup.cached.stats();
        assert!(stats.entries <= max_entries as u64, "{stats:?}");
        assert!(stats.bytes <= max_size_bytes as u64, "{stats:?}");
        most = most.max(stats.entries);
    }
    // The table takes a fifth with 5,000 entries.
    let fit = (max_size_bytes / (value + 100)).min(max_entries) as u64;
    assert!(most >= fit * 8 / 10, "{most} of {fit}");
    assert_eq!(setup.try_get(&last.to_string()), Some(Some(bytes(value))));
}
