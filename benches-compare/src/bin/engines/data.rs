//! What is stored: the same keys and values on both sides, in the same order.

use storage_core::{Commit, Revision, StorageError, StorageValue, Store};

/// How many keys a component has: what a listing of it returns.
pub(crate) const KEYS_EACH: usize = 10_000;

/// The length of every value, in bytes.
pub(crate) const VALUE_BYTES: usize = 100;

/// A prime, so that values do not repeat in step with anything else.
const DISTINCT_VALUES: u64 = 1009;

const LOADED_AT_ONCE: usize = 5_000;

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

    /// How many components there are.
    pub(crate) fn components(&self) -> usize {
        self.keys.len().div_ceil(KEYS_EACH)
    }

    /// The key that the operation of this number is about: any, with equal
    /// chances.
    pub(crate) fn key(&self, operation: usize) -> &str {
        self.key_at(self.place(operation))
    }

    fn place(&self, operation: usize) -> usize {
        mixed(operation as u64) as usize % self.keys.len().max(1)
    }

    /// A value that depends on the key alone, for writers who may come to a key
    /// in any order.
    pub(crate) fn value_of_key(&self, operation: usize) -> StorageValue {
        self.value(self.place(operation))
    }

    fn key_at(&self, place: usize) -> &str {
        self.keys.get(place).map(String::as_str).unwrap_or_default()
    }

    /// The value that the operation of this number writes.
    pub(crate) fn value(&self, operation: usize) -> StorageValue {
        let place = operation % self.values.len().max(1);
        self.values.get(place).cloned().unwrap_or_else(|| StorageValue::from(""))
    }

    /// Writes every key once, in a random order.
    pub(crate) fn load(&self, store: &impl Store) -> Result<(), StorageError> {
        let mut commit = Commit::new();
        for (number, key) in self.in_random_order().enumerate() {
            commit = commit.set(key, self.value(number));
            if commit.writes.len() == LOADED_AT_ONCE {
                store.commit(std::mem::take(&mut commit))?;
            }
        }
        store.commit(commit)?;
        store.flush()
    }

    /// Every key once.
    pub(crate) fn in_random_order(&self) -> impl Iterator<Item = &str> {
        // A prime that divides no number of keys used here, so every place comes
        // once.
        const STEP: usize = 611_953;
        (0..self.len()).map(|number| self.key_at(number.wrapping_mul(STEP) % self.len()))
    }
}

/// What the full keys of a component begin with.
pub(crate) fn prefix(component: usize) -> String {
    format!("bench/app-{component:03}/main/")
}

/// The first bytes behind everything that begins with a prefix of a component.
pub(crate) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        // A slash: not the highest byte.
        *last += 1;
    }
    end
}

/// Text like that of a small record: one third of it random.
fn value(number: u64) -> StorageValue {
    let (id, name) = (mixed(number), mixed(number + DISTINCT_VALUES));
    let mut text = format!(
        "{{\"id\":\"{id:016x}\",\"name\":\"{name:016x}\",\"role\":\"reader\",\"active\":true,\"visits\":{number}}}"
    );
    text.truncate(VALUE_BYTES);
    while text.len() < VALUE_BYTES {
        text.push(' ');
    }
    text.as_str().into()
}

/// A random number for each number, always the same (SplitMix64).
pub(crate) fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

const HEADER_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;

/// The bytes that a store writes for a value beside its key, made as a program
/// would that has no store between itself and the engine.
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

/// The value in such bytes, unchecked.
pub(crate) fn value_in(record: &[u8]) -> &[u8] {
    record.get(HEADER_BYTES..record.len().saturating_sub(CHECKSUM_BYTES)).unwrap_or_default()
}

/// The revision in such bytes, unchecked.
pub(crate) fn revision_in(record: &[u8]) -> Revision {
    let number = record.get(2..10).and_then(|bytes| bytes.try_into().ok());
    Revision::new(number.map(u64::from_le_bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_comes_once_and_belongs_to_its_component() {
        for count in [10_000, 100_000, 1_000_000] {
            let data = Data::new(count);
            let keys: HashSet<&str> = data.in_random_order().collect();
            assert_eq!(keys.len(), count);
            let of_first = keys.iter().filter(|key| key.starts_with(&prefix(0))).count();
            assert_eq!(of_first, KEYS_EACH);
            assert_eq!(data.components(), count / KEYS_EACH);
        }
    }

    #[test]
    fn values_have_their_length_and_differ() {
        let data = Data::new(10_000);
        let values: HashSet<StorageValue> = (0..1009).map(|number| data.value(number)).collect();
        assert_eq!(values.len(), 1009);
        assert!(values.iter().all(|value| value.len() == VALUE_BYTES));
    }

    #[test]
    fn a_record_gives_back_what_it_was_made_of() {
        let mut bytes = vec![9; 3];
        record("a/b/c/d", b"value", Revision::new(77), &mut bytes);
        assert_eq!(value_in(&bytes), b"value");
        assert_eq!(revision_in(&bytes), Revision::new(77));
    }
}
