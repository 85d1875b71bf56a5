//! Keys: which are valid, and how user keys become full keys and back.

use std::sync::Arc;

use storage_backends::MemoryStorage;
use storage_core::{
    Commit, ComponentId, ComponentStorage, NamespacedStorage, PageRequest, StorageError,
    StorageValue, split_full_key, validate_full_key, validate_key,
};

use crate::input::parts;

const MAX_KEY_BYTES: usize = 1_024;
const MAX_FULL_KEY_BYTES: usize = 1_411;

/// Input: two keys and a prefix, separated by a byte that does not occur in UTF-8.
pub(crate) fn run(input: &[u8]) {
    let [key, other, prefix] = parts(input);
    for text in [key, other, prefix] {
        rules(text);
        split(text);
    }
    round_trip(key, other, prefix);
    foreign_keys(key, other);
}

/// The rule as in `docs/component-developers.md`.
fn is_key(text: &str, max: usize) -> bool {
    let is_control = |c: char| c <= '\u{1f}' || ('\u{7f}'..='\u{9f}').contains(&c);
    !text.is_empty() && text.len() <= max && !text.contains(is_control)
}

fn rules(text: &str) {
    for (result, max) in
        [(validate_key(text), MAX_KEY_BYTES), (validate_full_key(text), MAX_FULL_KEY_BYTES)]
    {
        match result {
            Ok(()) => assert!(is_key(text, max), "accepted the key {text:?}"),
            Err(StorageError::InvalidKey(message)) => {
                assert!(!is_key(text, max), "refused the key {text:?}: {message}");
                // The message shows the beginning of the key, escaped.
                assert!(message.len() < 1_000 && !message.contains(char::is_control));
            }
            Err(other) => panic!("{text:?}: {other:?}"),
        }
    }
}

fn split(text: &str) {
    let (prefix, user) = split_full_key(text);
    assert_eq!([prefix, user].concat(), text);
    match text.matches('/').count() {
        0..3 => assert_eq!(prefix, ""),
        _ => assert!(prefix.ends_with('/') && prefix.matches('/').count() == 3),
    }
}

/// Two components on one store. One of them has the key.
fn round_trip(key: &str, other: &str, prefix: &str) {
    let backend = Arc::new(MemoryStorage::new());
    let view =
        |id: &str| NamespacedStorage::new(id.parse::<ComponentId>().unwrap(), Arc::clone(&backend));
    let (home, neighbour) = (view("app/notes/001"), view("app/notes/0011"));
    let set = home.set(key, "value".into());
    if !is_key(key, MAX_KEY_BYTES) {
        refused(&home, key);
        assert!(matches!(set, Err(StorageError::InvalidKey(_))), "{key:?}: {set:?}");
        assert_eq!(backend.list_keys(None).unwrap(), Vec::<String>::new());
        return;
    }
    set.unwrap();
    let full = ["app/notes/001/", key].concat();
    assert_eq!(backend.list_keys(None).unwrap(), [full.as_str()]);
    assert_eq!(split_full_key(&full), ("app/notes/001/", key));
    assert!(validate_full_key(&full).is_ok());
    let value = Some(StorageValue::from("value"));
    assert_eq!(home.get(key).unwrap(), value);
    assert_eq!(home.list_keys(None).unwrap(), [key]);
    let begins = key.starts_with(prefix);
    assert_eq!(home.list_keys(Some(prefix)).unwrap().len(), usize::from(begins));
    let page = home.list_page(PageRequest::new(9).with_prefix(prefix).after(other)).unwrap();
    assert_eq!(page.keys.len(), usize::from(begins && key > other), "{key:?} after {other:?}");
    assert_eq!(home.usage(None).unwrap().bytes, key.len() as u64 + 5);

    // Errors contain the user key.
    let again = home.commit(Commit::new().require_absent(key));
    assert_eq!(again, Err(StorageError::AlreadyExists(key.to_owned())));
    if is_key(other, MAX_KEY_BYTES) && other != key {
        assert_eq!(home.get(other).unwrap(), None);
        let missing = home.commit(Commit::new().require_present(other));
        assert_eq!(missing, Err(StorageError::NotFound(other.to_owned())));
    }
    // The neighbour neither sees nor changes the key.
    assert_eq!(neighbour.list_keys(None).unwrap(), Vec::<String>::new());
    assert_eq!(neighbour.get(key).unwrap(), None);
    neighbour.delete(key).unwrap();
    assert_eq!(home.get_many(&[key]).unwrap(), [value]);
    home.delete(key).unwrap();
    assert_eq!(backend.list_keys(None).unwrap(), Vec::<String>::new());
}

/// Every operation refuses an invalid key.
fn refused(storage: &dyn ComponentStorage, key: &str) {
    let results = [
        storage.get(key).map(drop),
        storage.delete(key),
        storage.exists(key).map(drop),
        storage.get_many(&["fine", key]).map(drop),
        storage.get_versioned(key).map(drop),
        storage_core::put(&storage, key, "".into()).map(drop),
        storage.commit(Commit::new().set("fine", "".into()).delete(key)).map(drop),
        storage.commit(Commit::new().set("fine", "".into()).require_absent(key)).map(drop),
    ];
    for result in results {
        assert!(matches!(result, Err(StorageError::InvalidKey(_))), "{key:?}: {result:?}");
    }
    assert_eq!(storage.try_get("", key), None);
}

/// A storage whose results contain this key.
struct Foreign<'a>(&'a str);

impl ComponentStorage for Foreign<'_> {
    fn get(&self, _: &str) -> Result<Option<StorageValue>, StorageError> {
        Err(StorageError::Conflict(self.0.to_owned()))
    }
    fn set(&self, _: &str, _: StorageValue) -> Result<(), StorageError> {
        Err(StorageError::IoError(self.0.to_owned()))
    }
    fn delete(&self, _: &str) -> Result<(), StorageError> {
        Err(StorageError::InvalidKey(format!("{:?} is too long", self.0)))
    }
    fn exists(&self, _: &str) -> Result<bool, StorageError> {
        Ok(true)
    }
    fn list_keys(&self, _: Option<&str>) -> Result<Vec<String>, StorageError> {
        Ok(vec![self.0.to_owned()])
    }
}

/// Results contain keys of the component only; errors do not reveal other keys.
fn foreign_keys(text: &str, user: &str) {
    const PREFIX: &str = "app/notes/001/";
    for below in [text, &[PREFIX, text].concat(), &[PREFIX, user, " ", PREFIX, text].concat()] {
        let storage = NamespacedStorage::new("app/notes/001".parse().unwrap(), Foreign(below));
        let stripped = below.strip_prefix(PREFIX);
        match (storage.list_keys(None), stripped) {
            (Ok(keys), Some(user)) => assert_eq!(keys, [user]),
            (Err(StorageError::IoError(message)), None) => {
                assert_eq!(message, "the storage below listed a key of another component");
            }
            (listed, _) => panic!("{below:?}: {listed:?}"),
        }
        let error = storage.get("key").unwrap_err();
        assert_eq!(error, StorageError::Conflict(stripped.unwrap_or_default().to_owned()));
        for error in [storage.set("key", "".into()), storage.delete("key")] {
            let Err(StorageError::IoError(message) | StorageError::InvalidKey(message)) = error
            else {
                panic!("{error:?}");
            };
            // A full key remains only as part of a path.
            for (at, _) in message.match_indices(PREFIX) {
                let before = message.get(..at).unwrap_or_default();
                let in_path = |c: char| c == '/' || c.is_ascii_alphanumeric();
                assert!(before.ends_with(in_path), "{message:?}");
            }
        }
    }
}
