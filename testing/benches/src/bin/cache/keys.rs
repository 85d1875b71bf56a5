//! Keys, and a storage that makes values for them.

use std::sync::atomic::{AtomicU64, Ordering};

use storage_core::{ComponentStorage, StorageError, StorageValue, Store, StoreProperties};

/// The component prefix of the full keys.
pub(crate) const PREFIX: &str = "app/notes/home/";

/// Keys of equal length in one allocation, so that finding the next key costs little.
#[derive(Debug)]
pub(crate) struct Keys {
    text: String,
    len_each: usize,
}

impl Keys {
    pub(crate) fn new(count: usize) -> Self {
        let key = |number: usize| format!("{PREFIX}user:{number:08}");
        Self { text: (0..count).map(key).collect(), len_each: key(0).len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.text.len() / self.len_each
    }

    #[inline]
    pub(crate) fn full(&self, number: usize) -> &str {
        let start = number * self.len_each;
        self.text.get(start..start + self.len_each).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn user(&self, number: usize) -> &str {
        self.full(number).get(PREFIX.len()..).unwrap_or_default()
    }
}

/// A storage that makes a value for every key, and counts the reads.
#[derive(Debug, Default)]
pub(crate) struct Maker(AtomicU64);

impl Maker {
    pub(crate) const VALUE_BYTES: usize = 100;

    pub(crate) fn make(&self) -> StorageValue {
        self.0.fetch_add(1, Ordering::Relaxed);
        StorageValue::from(&[b'x'; Self::VALUE_BYTES][..])
    }

    /// How many values it has made.
    pub(crate) fn made(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl ComponentStorage for Maker {
    fn get(&self, _: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(Some(self.make()))
    }

    fn set(&self, _: &str, _: StorageValue) -> Result<(), StorageError> {
        Err(unsupported())
    }

    fn delete(&self, _: &str) -> Result<(), StorageError> {
        Err(unsupported())
    }

    fn exists(&self, _: &str) -> Result<bool, StorageError> {
        Ok(true)
    }

    fn list_keys(&self, _: Option<&str>) -> Result<Vec<String>, StorageError> {
        Err(unsupported())
    }
}

impl Store for Maker {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("benchmark")
    }
}

fn unsupported() -> StorageError {
    StorageError::Unsupported("the benchmark storage only reads".into())
}
