//! Values in which every byte follows from the key, the operation and the length, so
//! that a torn, mixed or foreign value is recognized.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// A value of at least this length begins with its operation and the hash of its key.
const HEADER_BYTES: usize = 16;

/// The value that an operation stores under a key.
pub(crate) fn content(key: &str, op: u64, len: usize) -> Vec<u8> {
    let seed = hash(key) ^ op.rotate_left(20) ^ (len as u64).rotate_left(50);
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    if let Some(header) = bytes.get_mut(..HEADER_BYTES) {
        header.copy_from_slice(&[op.to_le_bytes(), hash(key).to_le_bytes()].concat());
    }
    bytes
}

/// The operation that a value names; `None` if the value is too short or belongs to
/// another key.
pub(crate) fn writer_of(key: &str, value: &[u8]) -> Option<u64> {
    let number = |at: usize| {
        value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
    };
    (value.len() >= HEADER_BYTES && number(8)? == hash(key)).then(|| number(0)).flatten()
}

/// A hash of a text, the same in every process of this program.
pub(crate) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_name_their_writer_and_differ() {
        let value = content("a", 7, 100);
        assert_eq!(value.len(), 100);
        assert_eq!(writer_of("a", &value), Some(7));
        assert_eq!(writer_of("b", &value), None);
        assert_ne!(value, content("a", 8, 100));
        assert_ne!(value[16..], content("b", 7, 100)[16..]);
        assert_eq!(content("a", 7, 1).len(), 1);
        assert_eq!(writer_of("a", &content("a", 7, 15)), None);
    }
}
