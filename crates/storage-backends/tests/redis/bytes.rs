//! Keys and values with any bytes that they may have.

use super::*;

/// User keys that mean something to commands, to patterns, to hash tags, to ranges and to notices.
const KEYS: [&str; 16] = [
    "{a}",
    "}{",
    "[a",
    "(a",
    "+",
    "-",
    "*?[a-z]\\",
    "$3",
    "a\u{7a}\\r\\n",
    "\\x00",
    "a//b/",
    " ",
    "\u{e9}\u{1F600}\u{10FFFF}",
    "ß",
    "...",
    "store_id",
];

#[test]
fn keys_and_values_have_any_bytes() {
    for test in TestStore::all() {
        let store = test.open();
        let all: Vec<u8> = (0..=255).collect();
        let values =
            [Vec::new(), vec![0], b"\r\n".to_vec(), vec![0; 3_000], all.repeat(3), b"nil".to_vec()];
        let prefixes = ["app/notes/home/", "a}/{b/c/", ""];
        returned::keys_keep_their_values(&store, &prefixes, &KEYS, &values);
        assert_eq!(verifying::problems(&store), []);
    }
}

#[test]
fn invalid_keys_are_refused_before_the_server() {
    for test in TestStore::all() {
        returned::invalid_keys_are_refused(&test.open());
    }
}

#[test]
fn a_large_value_is_stored_and_a_larger_one_than_the_limit_refused() {
    const MAX: usize = 256 << 20;
    let Some(test) = TestStore::single() else { return };
    let store = test.open();
    let key = "app/notes/home/a";
    let value: Vec<u8> = (0..20 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    store.set(key, value.clone().into()).unwrap();
    assert!(store.get(key).unwrap().unwrap().as_bytes() == value.as_slice());
    let mut read = 0;
    store
        .read_snapshot("", None, &mut |_, found| {
            assert!(found.as_bytes() == value.as_slice());
            read += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(read, 1);
    assert_eq!(
        store.usage(Some("app/notes/home/")).unwrap().bytes,
        (value.len() + key.len()) as u64
    );
    let error = store.set(key, vec![7; MAX + 1].into()).unwrap_err();
    assert!(matches!(error, StorageError::LimitExceeded { max, .. } if max == MAX as u64));
    let half = || vec![7_u8; MAX].into();
    let commit = Commit::new().set("a", half()).set("b", half()).set("c", "1".into());
    let error = store.commit(commit).unwrap_err();
    assert!(matches!(error, StorageError::LimitExceeded { max, .. } if max == 2 * MAX as u64));
}
