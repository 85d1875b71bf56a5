//! How keys are stored.
//!
//! The key of a component is stored as it is. An unscoped key is stored after a zero
//! byte, with which no key begins. So a listing of components need not step through
//! unscoped keys between them.

use std::borrow::Cow;

use storage_core::{PageRequest, split_full_key};

/// The byte before a stored unscoped key.
pub(super) const UNSCOPED: u8 = 0;

/// The smallest first byte of a component's key.
const AFTER_UNSCOPED: u8 = 1;

/// Encodes a full key.
pub(super) fn stored(key: &str) -> Cow<'_, [u8]> {
    if split_full_key(key).0.is_empty() {
        Cow::Owned(unscoped(key))
    } else {
        Cow::Borrowed(key.as_bytes())
    }
}

fn unscoped(key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(UNSCOPED);
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// Decodes a full key; `None` if it is not UTF-8.
pub(super) fn full(stored: &[u8]) -> Option<&str> {
    std::str::from_utf8(stored.strip_prefix(&[UNSCOPED]).unwrap_or(stored)).ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unscoped,
    Scoped,
}

/// The stored keys of one kind that a scan reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// Included.
    pub(super) start: Vec<u8>,
    /// Excluded; `None` for the end of the table.
    pub(super) end: Option<Vec<u8>>,
}

impl Range {
    /// The range of a request. It includes `after` itself.
    pub(super) fn of(request: PageRequest<'_>, kind: Kind) -> Self {
        let start = match request.after {
            Some(after) if after >= request.prefix => after,
            _ => request.prefix,
        };
        match kind {
            Kind::Unscoped => {
                Self { start: unscoped(start), end: Some(next_prefix(&unscoped(request.prefix))) }
            }
            Kind::Scoped if start.is_empty() => Self { start: vec![AFTER_UNSCOPED], end: None },
            Kind::Scoped => {
                let end = (!request.prefix.is_empty()).then(|| end_of_prefix(request.prefix));
                Self { start: start.into(), end }
            }
        }
    }
}

/// The smallest bytes after all texts that begin with `text`.
pub(super) fn end_of_prefix(text: &str) -> Vec<u8> {
    next_prefix(text.as_bytes())
}

/// Increments the last byte, which in UTF-8 is never the largest.
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
    fn unscoped_keys_are_before_all_components() {
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
        assert_eq!(range(all, Kind::Scoped), (b"\x01".to_vec(), None));
        assert_eq!(range(all, Kind::Unscoped), (b"\0".to_vec(), Some(b"\x01".to_vec())));
        let prefix = all.with_prefix("a/b");
        assert_eq!(range(prefix, Kind::Unscoped), (b"\0a/b".to_vec(), Some(b"\0a/c".to_vec())));
        assert_eq!(range(prefix, Kind::Scoped), (b"a/b".to_vec(), Some(b"a/c".to_vec())));
        assert_eq!(range(prefix.after("a/bc"), Kind::Scoped).0, b"a/bc");
        assert_eq!(range(prefix.after("Z"), Kind::Scoped).0, b"a/b");
        assert_eq!(range(all.after("a"), Kind::Scoped), (b"a".to_vec(), None));
    }
}
