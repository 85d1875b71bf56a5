//! The rules for keys, and how a full key divides into partition and own key.

use crate::StorageError;
use crate::component_id::MAX_SEGMENT_BYTES;

/// The most bytes that a component's own key may have.
pub const MAX_KEY_BYTES: usize = 1024;

/// The most bytes that a full key may have: the longest component prefix and
/// the longest own key.
pub const MAX_FULL_KEY_BYTES: usize = 3 * (MAX_SEGMENT_BYTES + 1) + MAX_KEY_BYTES;

/// Checks a component's own key: 1 to [`MAX_KEY_BYTES`] bytes of UTF-8 without
/// control characters (Unicode category Cc: U+0000 to U+001F and U+007F to
/// U+009F). Everything else is an ordinary character, and the key is taken as
/// it is: never trimmed, never normalised.
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

/// Checks a full key as a backend gets it: as [`validate_key`], with
/// [`MAX_FULL_KEY_BYTES`] as the limit.
///
/// # Errors
/// [`StorageError::InvalidKey`] names the rule.
#[inline]
pub fn validate_full_key(key: &str) -> Result<(), StorageError> {
    validate(key, MAX_FULL_KEY_BYTES)
}

#[inline]
fn validate(key: &str, max: usize) -> Result<(), StorageError> {
    if !key.is_empty() && key.len() <= max && is_plain(key.as_bytes()) {
        return Ok(());
    }
    validate_slowly(key, max)
}

/// Whether no byte can belong to a control character: none below 0x20, no 0x7F,
/// and no 0xC2, which begins U+0080 to U+00BF, the first half of which are
/// control characters. Those are rare enough to look again.
///
/// A key is checked at every call, and most of them are answered from memory: so
/// eight bytes at a time, the last eight of which may overlap those before.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else {
        return bytes.iter().all(|byte| *byte >= 0x20 && *byte != 0x7f && *byte != 0xc2);
    };
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk() {
        if !is_plain_word(u64::from_ne_bytes(*word)) {
            return false;
        }
        rest = after;
    }
    is_plain_word(u64::from_ne_bytes(*last))
}

/// The same for eight bytes.
#[inline]
fn is_plain_word(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH_BITS: u64 = ONES << 7;
    // The high bit of a byte's place ends up set if the byte is less than `n`, and
    // of none if no byte is (of those above a smaller one it may be too).
    let any_below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGH_BITS;
    let any_equal = |byte: u64| any_below(word ^ (ONES * byte), 1);
    any_below(word, 0x20) | any_equal(0x7f) | any_equal(0xc2) == 0
}

#[cold]
fn validate_slowly(key: &str, max: usize) -> Result<(), StorageError> {
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

/// Divides a full key into its partition, everything up to and including the
/// third slash, and the rest, the component's own key.
///
/// A partition is what listing, usage and budget are kept for. Keys with fewer
/// than three slashes form one more partition, `""`.
///
/// ```
/// use storage_core::split_full_key;
///
/// assert_eq!(split_full_key("app/notes/home/user/1"), ("app/notes/home/", "user/1"));
/// assert_eq!(split_full_key("no/component"), ("", "no/component"));
/// ```
pub fn split_full_key(key: &str) -> (&str, &str) {
    match key.bytes().enumerate().filter(|(_, byte)| *byte == b'/').nth(2) {
        Some((slash, _)) => key.split_at(slash + 1),
        None => ("", key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_characters_are_left_alone() {
        for key in
            ["/", "..", "%", "*", " ", "\u{a0}", "\u{e9}", "\u{202e}", "\u{10ffff}", "caf\u{c2}"]
        {
            assert_eq!(validate_key(key), Ok(()), "{key:?}");
        }
    }

    #[test]
    fn control_characters_are_refused_wherever_they_stand() {
        for control in ["\0", "\n", "\u{1f}", "\u{7f}", "\u{80}", "\u{9f}"] {
            let message = validate_key(&format!("ab{control}c")).unwrap_err().to_string();
            assert!(message.contains("no control characters"), "{message}");
            assert!(message.contains("at byte 2"), "{message}");
        }
    }

    /// Each byte in each place, among such that a borrow could come from.
    #[test]
    fn every_byte_is_judged_alike_wherever_it_stands() {
        for len in 1..=24 {
            for around in [0x20, 0x21, 0x7e, 0x80, 0xc1, 0xc3, 0xff] {
                assert!(is_plain(&vec![around; len]), "{around:#x}");
                for at in 0..len {
                    for byte in 0..=u8::MAX {
                        let mut bytes = vec![around; len];
                        bytes[at] = byte;
                        let plain = byte >= 0x20 && byte != 0x7f && byte != 0xc2;
                        assert_eq!(is_plain(&bytes), plain, "{byte:#x} at {at} of {len}");
                    }
                }
            }
        }
    }

    #[test]
    fn lengths_are_limited_on_both_sides() {
        assert!(validate_key("").unwrap_err().to_string().contains("empty"));
        assert!(validate_key(&"k".repeat(MAX_KEY_BYTES)).is_ok());
        let message = validate_key(&"k".repeat(MAX_KEY_BYTES + 1)).unwrap_err().to_string();
        assert!(message.contains("at most 1024 bytes"), "{message}");
        assert!(message.len() < 200, "{message}");
        assert!(validate_full_key(&"k".repeat(MAX_FULL_KEY_BYTES)).is_ok());
        assert!(validate_full_key(&"k".repeat(MAX_FULL_KEY_BYTES + 1)).is_err());
    }

    #[test]
    fn the_third_slash_ends_the_partition() {
        assert_eq!(split_full_key("a/b/c/"), ("a/b/c/", ""));
        assert_eq!(split_full_key("a/b/c"), ("", "a/b/c"));
        assert_eq!(split_full_key("///"), ("///", ""));
        assert_eq!(split_full_key("a/b/c/d/e/f"), ("a/b/c/", "d/e/f"));
    }
}
