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
    returned::keys_keep_their_values(&store, &["app/notes/home/", ""], &KEYS, &values);
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn invalid_keys_are_refused_before_the_server() {
    let Some(schema) = TestSchema::new() else { return };
    returned::invalid_keys_are_refused(&schema.open());
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
