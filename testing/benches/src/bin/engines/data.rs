//! The keys and values that both sides store.

use storage_core::{Commit, Revision, StorageError, StorageValue, Store};

/// The number of keys in a component.
pub(crate) const KEYS_EACH: usize = 10_000;

pub(crate) const VALUE_BYTES: usize = 100;

/// A prime, so that values repeat in step with nothing else.
const DISTINCT_VALUES: u64 = 1009;

const KEYS_PER_COMMIT: usize = 5_000;

/// Keys of several components, and values for them.
#[derive(Debug)]
pub(crate) struct Data {
    keys: Vec<String>,
    values: Vec<StorageValue>,
}

impl Data {
    /// `count` keys, [`KEYS_EACH`] in each component.
    pub(crate) fn new(count: usize) -> Self {
        let key =
            |number: usize| format!("{}user:{:06}", prefix(number / KEYS_EACH), number % KEYS_EACH);
        Self {
            keys: (0..count).map(key).collect(),
            values: (0..DISTINCT_VALUES).map(value).collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn components(&self) -> usize {
        self.keys.len().div_ceil(KEYS_EACH)
    }

    /// The key of an operation: any key, with equal chances.
    pub(crate) fn key(&self, operation: usize) -> &str {
        self.key_at(self.index(operation))
    }

    fn index(&self, operation: usize) -> usize {
        mixed(operation as u64) as usize % self.keys.len().max(1)
    }

    fn key_at(&self, index: usize) -> &str {
        self.keys.get(index).map(String::as_str).unwrap_or_default()
    }

    /// The value of the key of an operation. It depends on the key alone, so that several
    /// writers may write a key in any order.
    pub(crate) fn value_of_key(&self, operation: usize) -> StorageValue {
        self.value(self.index(operation))
    }

    pub(crate) fn value(&self, number: usize) -> StorageValue {
        let index = number % self.values.len().max(1);
        self.values.get(index).cloned().unwrap_or_else(|| StorageValue::from(""))
    }

    /// Writes every key once, in a random order.
    pub(crate) fn load(&self, store: &dyn Store) -> Result<(), StorageError> {
        let mut commit = Commit::new();
        for (number, key) in self.in_random_order().enumerate() {
            commit = commit.set(key, self.value(number));
            if commit.writes.len() == KEYS_PER_COMMIT {
                store.commit(std::mem::take(&mut commit))?;
            }
        }
        store.commit(commit)?;
        store.flush()
    }

    /// Every key once.
    pub(crate) fn in_random_order(&self) -> impl Iterator<Item = &str> {
        // A prime that does not divide the number of keys, so that every key comes once.
        const STEP: usize = 611_953;
        (0..self.len()).map(|number| self.key_at(number.wrapping_mul(STEP) % self.len()))
    }
}

/// The component prefix of a component.
pub(crate) fn prefix(component: usize) -> String {
    format!("bench/app-{component:03}/main/")
}

/// The first key after all keys with a component prefix.
pub(crate) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        // A slash, so this does not overflow.
        *last += 1;
    }
    end
}

/// A text like a small record, of which a third is random.
fn value(number: u64) -> StorageValue {
    let (id, name) = (mixed(number), mixed(number + DISTINCT_VALUES));
    let text = format!(
        "{{\"id\":\"{id:016x}\",\"name\":\"{name:016x}\",\"role\":\"reader\",\"active\":true,\"visits\":{number}}}"
    );
    format!("{text:VALUE_BYTES$.VALUE_BYTES$}").as_str().into()
}

/// A random number for each number, always the same.
pub(crate) fn mixed(number: u64) -> u64 {
    fastrand::Rng::with_seed(number).u64(..)
}

const HEADER_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;

/// The record that a store writes for a value next to its key.
pub(crate) fn record(key: &str, value: &[u8], revision: Revision, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.reserve(HEADER_BYTES + value.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&revision.get().to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(value);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(key.as_bytes());
    checksum.update(bytes);
    bytes.extend_from_slice(&checksum.finalize().to_le_bytes());
}

/// The value in a record, without a check.
pub(crate) fn value_in(record: &[u8]) -> &[u8] {
    record.get(HEADER_BYTES..record.len().saturating_sub(CHECKSUM_BYTES)).unwrap_or_default()
}

/// The revision in a record, without a check.
pub(crate) fn revision_in(record: &[u8]) -> Revision {
    let number = record.get(2..10).and_then(|bytes| bytes.try_into().ok());
    Revision::new(number.map(u64::from_le_bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_comes_once_and_every_value_has_its_length() {
        let data = Data::new(100_000);
        let keys: HashSet<&str> = data.in_random_order().collect();
        assert_eq!(keys.len(), 100_000);
        assert_eq!(keys.iter().filter(|key| key.starts_with(&prefix(0))).count(), KEYS_EACH);
        assert!((0..1009).all(|number| data.value(number).len() == VALUE_BYTES));
    }
}
