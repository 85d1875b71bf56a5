//! What is answered from memory, what is asked below, and what is counted.

use rstest::rstest;
use storage_cache::{CacheConfig, CacheStats, CachedStorage};
use storage_core::conformance::Method;
use storage_core::{
    Commit, ComponentStorage, MAX_KEY_BYTES, NamespacedStorage, StorageError, StorageValue,
    VersionedValue, validate_full_key,
};

use crate::support::{Read, Setup, Write, assert_holds, bytes};

#[rstest]
#[case::present(Some("old"))]
#[case::absent(None)]
fn the_second_read_is_answered_from_memory(
    #[values(Read::Get, Read::Exists, Read::GetMany, Read::GetVersioned)] read: Read,
    #[case] value: Option<&str>,
) {
    let setup = Setup::new();
    if let Some(value) = value {
        setup.around().set("key", value.into()).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(read.ask(&*setup.cached, "key"), Ok(read.answer(value)));
    }
    assert_eq!(setup.counting().total(), 1);
    let stats = setup.cached.stats();
    assert_eq!((stats.hits, stats.misses, stats.fills, stats.entries), (2, 1, 1, 1));
}

#[rstest]
fn what_is_written_is_answered_from_memory(
    #[values(Write::Set, Write::Put, Write::Delete, Write::CommitSet, Write::CommitDelete)]
    write: Write,
) {
    let setup = Setup::new();
    setup.cached.set("key", "old".into()).unwrap();
    setup.cached.get("key").unwrap();
    write.perform(&*setup.cached, "key").unwrap();
    setup.counting().reset();
    let expected = write.leaves();
    for read in [Read::Get, Read::Exists, Read::GetMany] {
        assert_eq!(read.ask(&*setup.cached, "key"), Ok(read.answer(expected)));
    }
    assert_eq!(setup.cached.try_get("", "key"), Some(expected.map(Into::into)));
    assert_eq!(setup.counting().total(), 0);
    assert_eq!(setup.around().get("key"), Ok(expected.map(Into::into)));
    assert_holds(&*setup.cached, "key", expected);
}

/// Has a value for every key, and takes keys that break the rules.
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

/// A storage may take more keys than the rules allow. A component may not use them,
/// whoever has read them before.
#[test]
fn a_key_that_breaks_the_rules_is_not_kept() {
    let cached = CachedStorage::new(Lenient, CacheConfig::default());
    let component = NamespacedStorage::new("app/notes/home".parse().unwrap(), &cached);
    for own_key in ["", "a\nb", "\u{80}", &"k".repeat(MAX_KEY_BYTES + 1)] {
        let key = format!("app/notes/home/{own_key}");
        cached.set(&key, "value".into()).unwrap();
        for _ in 0..2 {
            assert_eq!(cached.get(&key), Ok(Some("value".into())));
        }
        let is_valid = validate_full_key(&key).is_ok();
        assert_eq!(cached.try_get("app/notes/home/", own_key).is_some(), is_valid, "{key:?}");
        assert_eq!(cached.try_get("", &key).is_some(), is_valid, "{key:?}");
        assert!(matches!(component.get(own_key), Err(StorageError::InvalidKey(_))), "{key:?}");
    }
}

#[test]
fn a_revision_that_the_write_told_is_kept() {
    let setup = Setup::new();
    let put = storage_core::put(&setup.cached, "put", "1".into()).unwrap();
    let commit = Commit::new().set("set", "2".into()).delete("deleted");
    let committed = setup.cached.commit(commit).unwrap();
    let versioned =
        |value: &str, revision| Ok(Some(VersionedValue { value: value.into(), revision }));
    assert_eq!(setup.cached.get_versioned("put"), versioned("1", put));
    assert_eq!(setup.cached.get_versioned("set"), versioned("2", committed));
    assert_eq!(setup.cached.get_versioned("deleted"), Ok(None));
    assert_eq!(setup.counting().calls(Method::GetVersioned), 0);
}

#[test]
fn an_entry_without_revision_is_replaced_by_one_with_it() {
    let setup = Setup::new();
    setup.cached.set("key", "value".into()).unwrap();
    let found = setup.cached.get_versioned("key").unwrap();
    assert_eq!(found, setup.around().get_versioned("key").unwrap());
    assert_eq!(setup.cached.get_versioned("key"), Ok(found));
    assert_eq!(setup.cached.get("key"), Ok(Some("value".into())));
    assert_eq!(setup.counting().calls(Method::GetVersioned), 1);
    assert_eq!(setup.counting().calls(Method::Get), 0);
}

/// `exists` need not read the value, so afterwards nobody knows it.
#[test]
fn presence_alone_answers_no_other_question() {
    let setup = Setup::new();
    setup.around().set("key", "value".into()).unwrap();
    assert_eq!(setup.cached.exists("key"), Ok(true));
    assert_eq!(setup.cached.try_get("", "key"), None);
    assert_eq!(setup.cached.get("key"), Ok(Some("value".into())));
    assert_eq!(setup.cached.exists("key"), Ok(true));
    assert_eq!(setup.counting().calls(Method::Exists), 1);
    assert_eq!(setup.counting().calls(Method::Get), 1);
    assert_eq!(setup.counting().total(), 2);
}

#[test]
fn try_get_asks_nobody_and_counts_hits_alone() {
    let setup = Setup::new();
    setup.around().set("key", "value".into()).unwrap();
    assert_eq!(setup.cached.try_get("", "key"), None);
    assert_eq!(setup.cached.get("key"), Ok(Some("value".into())));
    assert_eq!(setup.cached.try_get("", "key"), Some(Some("value".into())));
    assert_eq!(setup.cached.get("absent"), Ok(None));
    assert_eq!(setup.cached.try_get("", "absent"), Some(None));
    assert_eq!(setup.cached.try_get("", "unread"), None);
    assert_eq!(setup.counting().calls(Method::TryGet), 0);
    let stats = setup.cached.stats();
    assert_eq!((stats.hits, stats.misses), (2, 2));
}

#[test]
fn get_many_asks_once_for_what_is_missing() {
    let setup = Setup::new();
    for key in ["b", "c", "d"] {
        setup.around().set(key, key.into()).unwrap();
    }
    setup.cached.get("c").unwrap();
    setup.counting().reset();
    let asked = ["d", "c", "absent", "b", "d"];
    let expected = [Some("d".into()), Some("c".into()), None, Some("b".into()), Some("d".into())];
    assert_eq!(setup.cached.get_many(&asked), Ok(expected.to_vec()));
    assert_eq!(setup.counting().calls(Method::GetMany), 1);
    assert_eq!(setup.counting().total(), 1);
    assert_eq!(setup.cached.get_many(&asked), Ok(expected.to_vec()));
    assert_eq!(setup.counting().total(), 1);
    assert_eq!(setup.cached.get_many(&[]), Ok(vec![]));
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

#[test]
fn listings_and_usage_ask_below() {
    let setup = Setup::new();
    setup.cached.set("a/b/c/d", "1".into()).unwrap();
    setup.counting().reset();
    assert_eq!(setup.cached.list_keys(None).unwrap().len(), 1);
    assert_eq!(setup.cached.usage(None).unwrap().bytes, 8);
    assert_eq!(setup.counting().total(), 2);
}

#[rstest]
#[case::no_entries(CacheConfig { max_entries: 0, ..CacheConfig::default() })]
#[case::no_bytes(CacheConfig { max_size_bytes: 0, ..CacheConfig::default() })]
#[case::no_time(CacheConfig { ttl: Some(std::time::Duration::ZERO), ..CacheConfig::default() })]
fn where_nothing_may_be_kept_every_call_goes_below(#[case] config: CacheConfig) {
    let setup = Setup::with(config);
    setup.cached.set("key", "old".into()).unwrap();
    for _ in 0..2 {
        assert_holds(&*setup.cached, "key", Some("old"));
    }
    assert_eq!(setup.cached.try_get("", "key"), None);
    assert_eq!(setup.counting().total(), 1 + 2 * 4);
    setup.around().set("key", "new".into()).unwrap();
    assert_holds(&*setup.cached, "key", Some("new"));
    setup.cached.clear();
    assert_eq!(setup.cached.stats(), CacheStats::default());
}

#[test]
fn a_value_that_is_too_large_passes_by() {
    let setup = Setup::with(CacheConfig { max_size_bytes: 64 << 10, ..CacheConfig::default() });
    let large = bytes(64 << 10);
    setup.cached.set("key", large.clone()).unwrap();
    for read in 0..3 {
        assert_eq!(setup.counting().calls(Method::Get), read);
        assert_eq!(setup.cached.try_get("", "key"), None);
        assert_eq!(setup.cached.get("key"), Ok(Some(large.clone())));
    }
    assert_eq!(setup.cached.get_many(&["key"]), Ok(vec![Some(large.clone())]));
    assert_eq!(setup.cached.get_versioned("key").unwrap().unwrap().value, large);
    // It is there, that much is known.
    assert_eq!(setup.cached.exists("key"), Ok(true));
    assert_eq!(setup.counting().calls(Method::Exists), 0);
    let stats = setup.cached.stats();
    assert_eq!((stats.refusals, stats.evictions, stats.entries), (1, 0, 1));
    assert!(stats.bytes < 100, "{stats:?}");

    // Read for the first time, it is refused as well.
    setup.around().set("other", large.clone()).unwrap();
    assert_eq!(setup.cached.get("other"), Ok(Some(large)));
    assert_eq!(setup.cached.stats().refusals, 2);

    setup.cached.set("key", "small".into()).unwrap();
    assert_holds(&*setup.cached, "key", Some("small"));
    assert_eq!(setup.cached.try_get("", "key"), Some(Some("small".into())));
}

#[test]
fn a_value_that_became_smaller_around_the_cache_is_kept_again() {
    let setup = Setup::with(CacheConfig { ttl: None, max_size_bytes: 64 << 10, max_entries: 9 });
    setup.cached.set("key", bytes(64 << 10)).unwrap();
    setup.around().set("key", "small".into()).unwrap();
    for _ in 0..3 {
        assert_eq!(setup.cached.get("key"), Ok(Some("small".into())));
    }
    assert_eq!(setup.counting().calls(Method::Get), 2);
}

/// So small that it holds no mark of a key this long.
#[test]
fn a_key_that_is_too_large_passes_by() {
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
fn an_invalid_key_is_refused_below_and_leaves_nothing() {
    let setup = Setup::new();
    let invalid = |result: Result<(), StorageError>| {
        assert!(matches!(result, Err(StorageError::InvalidKey(_))), "{result:?}");
    };
    for _ in 0..2 {
        invalid(setup.cached.get("a\0b").map(drop));
        invalid(setup.cached.exists("a\0b").map(drop));
        invalid(setup.cached.get_many(&["fine", "a\0b"]).map(drop));
        invalid(setup.cached.set("a\0b", "".into()));
        assert_eq!(setup.cached.try_get("", "a\0b"), None);
    }
    assert_eq!(setup.cached.stats().entries, 0);
}

#[test]
fn clear_forgets_everything() {
    let setup = Setup::new();
    setup.cached.set("key", "old".into()).unwrap();
    setup.cached.get("absent").unwrap();
    for key in ["key", "absent"] {
        setup.around().set(key, "new".into()).unwrap();
    }
    assert_eq!(setup.cached.get("key"), Ok(Some("old".into())));
    assert_eq!(setup.cached.get("absent"), Ok(None));
    setup.cached.clear();
    let stats = setup.cached.stats();
    assert_eq!((stats.entries, stats.bytes, stats.evictions), (0, 0, 0));
    for key in ["key", "absent"] {
        assert_eq!(setup.cached.try_get("", key), None);
        assert_holds(&*setup.cached, key, Some("new"));
    }
}

#[test]
fn the_numbers_add_up() {
    let config = CacheConfig { ttl: None, max_entries: 10, max_size_bytes: 1 << 20 };
    let setup = Setup::with(config);
    // 48 bytes for each entry, beside key and value.
    setup.cached.set("key", bytes(100)).unwrap();
    assert_eq!(setup.cached.stats().bytes, 3 + 100 + 48);
    setup.cached.set("key", bytes(50)).unwrap();
    assert_eq!(setup.cached.stats().bytes, 3 + 50 + 48);
    setup.cached.delete("key").unwrap();
    assert_eq!(setup.cached.stats().bytes, 3 + 48);
    for key in 0..100 {
        setup.cached.set(&format!("{key:04}"), bytes(10)).unwrap();
    }
    let stats = setup.cached.stats();
    assert_eq!((stats.fills, stats.entries, stats.evictions), (0, 10, 91));
    assert_eq!(stats.bytes, 10 * (4 + 10 + 48));
    // Reads bring in what they may, and the numbers go on adding up.
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
fn a_cache_of_any_size_fills_up_and_no_further(
    #[values(1, 2, 3, 10, 33, 100, 5_000)] max_entries: usize,
    #[values(1, 100, 10_000)] value: usize,
) {
    let max_size_bytes = 8 << 20;
    let setup = Setup::with(CacheConfig { ttl: None, max_entries, max_size_bytes });
    let mut most = 0;
    for key in 0..3 * max_entries.max(500) {
        setup.cached.set(&key.to_string(), bytes(value)).unwrap();
        let stats = setup.cached.stats();
        assert!(stats.entries <= max_entries as u64, "{stats:?}");
        assert!(stats.bytes <= max_size_bytes as u64, "{stats:?}");
        most = most.max(stats.entries);
    }
    // But for the table, which takes a fifth with 5,000 entries, kept or not.
    let fit = (max_size_bytes / (value + 100)).min(max_entries) as u64;
    assert!(most >= fit * 8 / 10, "{most} of {fit}");
    // The last one is there: one entry is enough to remember it.
    let last = (3 * max_entries.max(500) - 1).to_string();
    assert_eq!(setup.cached.try_get("", &last), Some(Some(bytes(value))));
}
