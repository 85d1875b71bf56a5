//! Keys and values with any bytes that they may have.

use super::*;

/// User keys that mean something to SQL, to patterns, to arrays and to notices.
const KEYS: [&str; 14] = [
    "'; drop table entry; --",
    "\\x00",
    "\\",
    "\"",
    "$1",
    "@.?3#",
    "{a,NULL}",
    "NULL",
    "%_*",
    "a//b/",
    " ",
    "\u{e9}\u{1F600}\u{10FFFF}",
    "ß",
    "...",
];

#[test]
fn keys_and_values_have_any_bytes() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    let all: Vec<u8> = (0..=255).collect();
    let values = [Vec::new(), vec![0], vec![0; 3_000], all.repeat(3), b"\\x41'\"".to_vec()];
    let mut expected = Vec::new();
    for (n, key) in KEYS.iter().enumerate() {
        for prefix in ["app/notes/home/", ""] {
            let key = format!("{prefix}{key}");
            let value = values[n % values.len()].clone();
            if prefix.is_empty() && storage_core::split_full_key(&key).0 != prefix {
                continue;
            }
            match n % 2 {
                0 => store.set(&key, value.clone().into()).unwrap(),
                _ => {
                    let other = format!("{key}-");
                    let both = Commit::new()
                        .require_absent(&key)
                        .set(&key, value.clone().into())
                        .delete(other);
                    store.commit(both).map(drop).unwrap();
                }
            }
            expected.push((key, value));
        }
    }
    expected.sort();
    let keys: Vec<&str> = expected.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(store.list_keys(None).unwrap(), keys);
    let many = store.get_many(&keys).unwrap();
    for ((key, value), found) in expected.iter().zip(many) {
        assert_eq!(found, Some(value.clone().into()), "{key:?}");
        assert_eq!(store.get(key).unwrap(), Some(value.clone().into()), "{key:?}");
        assert!(store.exists(key).unwrap(), "{key:?}");
        let same = Commit::new().require_value(key, value.clone().into()).delete(key);
        store.commit(same).unwrap();
        assert_eq!(store.get(key).unwrap(), None, "{key:?}");
    }
    assert_eq!(store.usage(None).unwrap(), Usage::default());
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn keys_with_a_zero_are_refused_before_the_server() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    for key in ["app/notes/home/a\0", "\0", "app/notes/home/\n"] {
        store.set(key, "1".into()).unwrap_err();
        store.get(key).unwrap_err();
        store.get_many(&[key]).unwrap_err();
    }
    assert_eq!(store.usage(None).unwrap().keys, 0);
}

#[test]
fn the_largest_value_is_stored_and_a_larger_one_refused() {
    const MAX: usize = 256 << 20;
    let Some(schema) = TestSchema::new() else { return };
    let mut options = schema.options.clone();
    options.statement_timeout = Duration::from_secs(300);
    options.total_timeout = Duration::from_secs(300);
    let store = PostgresStorage::open(&options).unwrap();
    let key = "app/notes/home/a";
    let mut value = vec![7; MAX];
    store.set(key, value.clone().into()).unwrap();
    let found = store.get(key).unwrap().unwrap();
    assert!(found.as_bytes() == value.as_slice());
    assert_eq!(store.usage(Some("app/notes/home/")).unwrap().bytes, (MAX + key.len()) as u64);
    value.push(7);
    let error = store.set(key, value.into()).unwrap_err();
    assert!(matches!(error, StorageError::LimitExceeded { max, .. } if max == MAX as u64));
}
