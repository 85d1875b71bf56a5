//! What values hold: every byte follows from the key, the operation that wrote
//! it and the length, so a torn, mixed or foreign value cannot pass for a whole
//! one.

use crate::random::{Random, hash};

/// The bytes that begin a value of at least this length say who wrote it.
const STAMP: usize = 16;

/// The value that an operation stores under a key.
pub(crate) fn content(key: &str, op: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(hash(key) ^ op.rotate_left(20) ^ (len as u64).rotate_left(50));
    let mut bytes = Vec::with_capacity(len + 8);
    if len >= STAMP {
        bytes.extend_from_slice(&op.to_le_bytes());
        bytes.extend_from_slice(&hash(key).to_le_bytes());
    }
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Which operation a value says that it comes from; `None` if it is too short
/// to say so or says that it belongs to another key.
pub(crate) fn writer_of(key: &str, value: &[u8]) -> Option<u64> {
    let number = |at: usize| {
        value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
    };
    (value.len() >= STAMP && number(8)? == hash(key)).then(|| number(0)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_writer_and_no_two_are_alike() {
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
