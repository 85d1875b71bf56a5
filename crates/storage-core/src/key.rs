//! The rules for keys, and how a full key splits into component prefix and user key.

use std::borrow::Cow;

use crate::StorageError;

/// The maximum length of a user key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// The maximum length of a segment of a [`ComponentId`](crate::ComponentId), in bytes.
///
/// Three segments, their slashes and [`MAX_KEY_BYTES`] add up to [`MAX_FULL_KEY_BYTES`].
pub const MAX_SEGMENT_BYTES: usize = 128;

/// The maximum length of a full key, in bytes: the longest component prefix and the
/// longest user key.
pub const MAX_FULL_KEY_BYTES: usize = 3 * (MAX_SEGMENT_BYTES + 1) + MAX_KEY_BYTES;

/// Checks a user key: 1 to [`MAX_KEY_BYTES`] bytes of UTF-8 without control
/// characters (Unicode category Cc: U+0000 to U+001F and U+007F to U+009F).
/// Every other character is ordinary; keys are never trimmed or normalised.
///
/// # Errors
/// [`StorageError::InvalidKey`] names the rule.
///
/// ```
/// use storage_core::validate_key;
///
/// assert!(validate_key("../user/%2f*").is_ok());
/// assert!(validate_key("").is_err());
/// assert!(validate_key("a\0b").is_err());
/// ```
#[inline]
pub fn validate_key(key: &str) -> Result<(), StorageError> {
    validate(key, MAX_KEY_BYTES)
}

/// Checks a full key: as [`validate_key`], with [`MAX_FULL_KEY_BYTES`] as the
/// limit.
///
/// # Errors
/// [`StorageError::InvalidKey`] names the rule.
#[inline]
pub fn validate_full_key(key: &str) -> Result<(), StorageError> {
    validate(key, MAX_FULL_KEY_BYTES)
}

#[inline]
fn validate(key: &str, max: usize) -> Result<(), StorageError> {
    if !key.is_empty() && key.len() <= max && all_plain(key.as_bytes()) {
        return Ok(());
    }
    validate_chars(key, max)
}

/// Whether no byte can be a control character or a part of one.
#[inline]
fn all_plain(bytes: &[u8]) -> bool {
    // 0xC2 begins U+0080 to U+00BF, the first half of which are control characters.
    let is_plain = |byte: &u8| *byte >= 0x20 && *byte != 0x7f && *byte != 0xc2;
    // Without an early return the compiler compares the bytes of a chunk at once.
    let chunk = |chunk: &[u8; 16]| chunk.iter().fold(true, |plain, byte| plain & is_plain(byte));
    match bytes.last_chunk() {
        // The last chunk may overlap the one before.
        Some(last) => bytes.as_chunks().0.iter().all(chunk) && chunk(last),
        None => bytes.iter().all(is_plain),
    }
}

#[cold]
fn validate_chars(key: &str, max: usize) -> Result<(), StorageError> {
    let problem = if key.is_empty() {
        "a key has at least 1 byte; this one is empty".to_owned()
    } else if key.len() > max {
        format!("a key has at most {max} bytes; {:?} has {}", excerpt(key), key.len())
    } else if let Some(at) = key.find(char::is_control) {
        format!("a key has no control characters; {:?} has one at byte {at}", excerpt(key))
    } else {
        return Ok(());
    };
    Err(StorageError::InvalidKey(problem))
}

/// The start of a text, short enough for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN_CHARS: usize = 64;
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS).collect();
    if chars.next().is_some() {
        shown.push_str("...");
    }
    shown
}

/// Splits a full key into its component prefix and its user key.
///
/// The component prefix is everything up to and including the third slash; it
/// is `""` for an unscoped key, which has fewer than three slashes. Listings,
/// usage and budgets are kept for each component prefix, `""` included.
///
/// ```
/// use storage_core::split_full_key;
///
/// assert_eq!(split_full_key("app/notes/home/user/1"), ("app/notes/home/", "user/1"));
/// assert_eq!(split_full_key("no/component"), ("", "no/component"));
/// ```
pub fn split_full_key(key: &str) -> (&str, &str) {
    let mut slashes = 0;
    for (at, byte) in key.bytes().enumerate() {
        slashes += usize::from(byte == b'/');
        if slashes == 3 {
            return key.split_at(at + 1);
        }
    }
    ("", key)
}

/// Joins the two arguments of
/// [`ComponentStorage::try_get`](crate::ComponentStorage::try_get) into one key.
pub fn join_key<'a>(prefix: &str, key: &'a str) -> Cow<'a, str> {
    if prefix.is_empty() { Cow::Borrowed(key) } else { Cow::Owned([prefix, key].concat()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_characters_are_allowed() {
        for key in
            ["/", "..", "%", "*", " ", "\u{a0}", "\u{e9}", "\u{202e}", "\u{10ffff}", "caf\u{c2}"]
        {
            assert_eq!(validate_key(key), Ok(()), "{key:?}");
        }
    }

    #[test]
    fn the_third_slash_ends_the_component_prefix() {
        assert_eq!(split_full_key("a/b/c/"), ("a/b/c/", ""));
        assert_eq!(split_full_key("a/b/c"), ("", "a/b/c"));
        assert_eq!(split_full_key("///"), ("///", ""));
        assert_eq!(split_full_key("a/b/c/d/e/f"), ("a/b/c/", "d/e/f"));
    }
}
