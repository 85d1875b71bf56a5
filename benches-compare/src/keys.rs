//! Keys, and values for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage_core::{ComponentStorage, StorageError, StorageValue, Store, StoreProperties};

/// What the full keys of the one component begin with.
pub const PREFIX: &str = "app/notes/home/";

/// The length of a number in a key.
const DIGITS: usize = 8;

/// Keys of one length in one piece of memory, so that finding the next one costs
/// what measures it as little as possible.
#[derive(Debug)]
pub struct Keys {
    text: String,
    len_each: usize,
}

impl Keys {
    /// The keys with the numbers below `count`.
    pub fn new(prefix: &str, count: usize) -> Self {
        let key = |number: usize| format!("{prefix}user:{number:0DIGITS$}");
        Self { text: (0..count).map(key).collect(), len_each: key(0).len() }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.text.len() / self.len_each
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The length of each, in bytes.
    pub fn len_each(&self) -> usize {
        self.len_each
    }

    /// The key with this number.
    #[inline]
    pub fn get(&self, number: usize) -> &str {
        let start = number * self.len_each;
        self.text.get(start..start + self.len_each).unwrap_or_default()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|number| self.get(number))
    }
}

/// A storage with a value for every key, which it makes when it is asked. It
/// takes no time beyond that, and counts how often it was asked.
#[derive(Debug)]
pub struct Maker {
    pattern: Box<[u8]>,
    made: AtomicU64,
}

impl Maker {
    /// One whose values have so many bytes.
    pub fn new(value_bytes: usize) -> Self {
        Self { pattern: vec![b'x'; value_bytes].into(), made: AtomicU64::new(0) }
    }

    /// The value of a key: it begins with the key's number.
    pub fn make(&self, key: &str) -> StorageValue {
        self.made.fetch_add(1, Ordering::Relaxed);
        let mut bytes: Arc<[u8]> = Arc::from(&*self.pattern);
        if let Some(start) = Arc::get_mut(&mut bytes).and_then(|bytes| bytes.get_mut(..DIGITS)) {
            start.copy_from_slice(number_in(key));
        }
        bytes.into()
    }

    /// How many values it has made.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Whether these are the bytes that it makes for a key.
    pub fn is_value_of(&self, key: &str, bytes: &[u8]) -> bool {
        bytes.len() == self.pattern.len() && bytes.starts_with(number_in(key))
    }
}

fn number_in(key: &str) -> &[u8] {
    key.as_bytes().last_chunk::<DIGITS>().map_or(&[b'0'; DIGITS], |digits| digits)
}

impl ComponentStorage for Maker {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(Some(self.make(key)))
    }

    fn set(&self, _: &str, _: StorageValue) -> Result<(), StorageError> {
        Err(read_only())
    }

    fn delete(&self, _: &str) -> Result<(), StorageError> {
        Err(read_only())
    }

    fn exists(&self, _: &str) -> Result<bool, StorageError> {
        Ok(true)
    }

    fn list_keys(&self, _: Option<&str>) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Unsupported("a listing of keys that are made up".into()))
    }
}

impl Store for Maker {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("made up")
    }
}

fn read_only() -> StorageError {
    StorageError::Unsupported("a write to values that are made up".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_length_and_values_belong_to_them() {
        let (own, full) = (Keys::new("", 1_000), Keys::new(PREFIX, 1_000));
        assert_eq!((own.len(), own.len_each(), full.len_each()), (1_000, 13, 28));
        assert_eq!(full.get(999), "app/notes/home/user:00000999");
        assert_eq!(full.iter().filter(|key| key.len() == 28).count(), 1_000);
        let maker = Maker::new(100);
        for (own, full) in own.iter().zip(full.iter()) {
            assert_eq!(full, format!("{PREFIX}{own}"));
            let value = maker.get(full).unwrap().unwrap();
            assert!(maker.is_value_of(own, value.as_bytes()));
            assert!(!maker.is_value_of("user:00001000", value.as_bytes()));
            assert_eq!(value.len(), 100);
        }
        assert_eq!(maker.made(), 1_000);
    }
}
