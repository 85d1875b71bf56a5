//! The bytes that a key is stored under.
//!
//! A key with three slashes or more is stored as it is. A loose one, with fewer,
//! is stored behind a zero byte, with which no key begins. So the partitions
//! stand together, and whoever goes from one to the next does not walk through
//! the loose keys between them.

use std::borrow::Cow;

use storage_core::{PageRequest, split_full_key};

/// What a loose key is stored behind.
pub(super) const LOOSE: u8 = 0;

/// The first byte that a key with three slashes can begin with, and more.
const AFTER_LOOSE: u8 = 1;

/// The bytes that a full key is stored under.
pub(super) fn stored(key: &str) -> Cow<'_, [u8]> {
    if split_full_key(key).0.is_empty() {
        Cow::Owned(loose(key))
    } else {
        Cow::Borrowed(key.as_bytes())
    }
}

fn loose(key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(LOOSE);
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// The full key that is stored under these bytes; `None` if no key is.
pub(super) fn full(stored: &[u8]) -> Option<&str> {
    std::str::from_utf8(stored.strip_prefix(&[LOOSE]).unwrap_or(stored)).ok()
}

/// Which of the two kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Loose,
    InPartitions,
}

/// Where a walk over the keys of one kind begins and ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The first key may be this one.
    pub(super) start: Vec<u8>,
    /// No key may be this one or behind it.
    pub(super) end: Option<Vec<u8>>,
}

impl Range {
    /// The range of the keys that a request asks for. `after` itself is the first
    /// key in it, if there is such a key.
    pub(super) fn of(request: PageRequest<'_>, kind: Kind) -> Self {
        let start = match request.after {
            Some(after) if after >= request.prefix => after,
            _ => request.prefix,
        };
        match kind {
            Kind::Loose => {
                Self { start: loose(start), end: Some(next_prefix(&loose(request.prefix))) }
            }
            Kind::InPartitions if start.is_empty() => Self { start: vec![AFTER_LOOSE], end: None },
            Kind::InPartitions => {
                let end = (!request.prefix.is_empty()).then(|| behind(request.prefix));
                Self { start: start.into(), end }
            }
        }
    }
}

/// The first bytes behind everything that begins with a text.
pub(super) fn behind(text: &str) -> Vec<u8> {
    next_prefix(text.as_bytes())
}

/// The same with its last byte one higher. In UTF-8 none is the highest.
fn next_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    if let Some(last) = next.last_mut() {
        *last = last.saturating_add(1);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_keys_lie_before_all_partitions() {
        assert_eq!(*stored("a/b/c/d"), *b"a/b/c/d");
        assert_eq!(*stored("a/b/c"), *b"\0a/b/c");
        assert_eq!(full(b"\0a/b/c"), Some("a/b/c"));
        assert_eq!(full(b"a/b/c/d"), Some("a/b/c/d"));
        assert_eq!(full(b"\xff"), None);
        assert!(stored("\u{10ffff}") < stored(" / / /"));
    }

    #[test]
    fn ranges_end_where_the_prefix_does() {
        let range = |request, kind| {
            let Range { start, end } = Range::of(request, kind);
            (start, end)
        };
        let all = PageRequest::new(1);
        assert_eq!(range(all, Kind::InPartitions), (b"\x01".to_vec(), None));
        assert_eq!(range(all, Kind::Loose), (b"\0".to_vec(), Some(b"\x01".to_vec())));
        let prefix = all.with_prefix("a/b");
        assert_eq!(range(prefix, Kind::Loose), (b"\0a/b".to_vec(), Some(b"\0a/c".to_vec())));
        assert_eq!(range(prefix, Kind::InPartitions), (b"a/b".to_vec(), Some(b"a/c".to_vec())));
        assert_eq!(range(prefix.after("a/bc"), Kind::InPartitions).0, b"a/bc");
        assert_eq!(range(prefix.after("Z"), Kind::InPartitions).0, b"a/b");
        assert_eq!(range(all.after("a"), Kind::InPartitions), (b"a".to_vec(), None));
    }
}
