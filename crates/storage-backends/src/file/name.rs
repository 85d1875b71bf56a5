//! File names for keys and for the segments of a component's id.
//!
//! The encoding is injective, readable, lower-case and safe on every file system. It
//! does not depend on case, Unicode normalisation or reserved names, and no name
//! points outside its directory.
//!
//! - `a-z 0-9 - _ @ + = ,` and `.` are kept. Every other byte becomes `%` and two
//!   hexadecimal digits: `user:1` is `user%3a1`.
//! - A dot at the beginning or the end becomes `%2e`. The first character of a name
//!   that Windows reserves (`con`, `nul.txt`) is escaped.
//! - The empty text is `%`.
//! - If the name would be longer than 240 bytes, it consists of its beginning, `%%`
//!   and the SHA-256 of the text. Such a name cannot be decoded; the record in the
//!   file holds the full key.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The longest name that is not hashed. File systems allow 255 bytes.
const MAX_WHOLE_BYTES: usize = 240;

/// How much of a longer name is kept in front of its hash, for people to recognise.
const KEPT_BYTES: usize = 120;

/// Separates the beginning of a long name from its hash. A digit follows the `%` of
/// every escape, so no other name contains it.
const HASH_MARK: &str = "%%";

/// Names that Windows reserves, with any extension.
const RESERVED: [&str; 4] = ["con", "prn", "aux", "nul"];
const RESERVED_WITH_DIGIT: [&str; 2] = ["com", "lpt"];

/// The result of decoding a file name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// The text.
    Text(String),
    /// The name is hashed; the record has the key.
    Hashed,
    /// `encode` never returns this name.
    Foreign,
}

/// The file name of a text.
pub(super) fn encode(text: &str) -> String {
    if text.is_empty() {
        return "%".to_owned();
    }
    let stem = text.split('.').next().unwrap_or_default();
    let escape_first = text.starts_with('.') || is_reserved(stem);
    let last = text.len() - 1;
    let mut name = String::with_capacity(text.len() + 16);
    for (at, byte) in text.bytes().enumerate() {
        let is_kept = match byte {
            _ if at == 0 && escape_first => false,
            b'.' => at != last,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'@' | b'+' | b'=' | b',' => true,
            _ => false,
        };
        if is_kept {
            name.push(char::from(byte));
        } else {
            push_hex(&mut name, "%", byte);
        }
    }
    if name.len() <= MAX_WHOLE_BYTES {
        return name;
    }
    name.truncate(KEPT_BYTES);
    // Do not cut an escape in two.
    if let Some(last) = name.rfind('%')
        && last + 3 > name.len()
    {
        name.truncate(last);
    }
    name.push_str(HASH_MARK);
    for byte in Sha256::digest(text.as_bytes()) {
        push_hex(&mut name, "", byte);
    }
    name
}

/// Decodes a file name.
pub(super) fn decode(name: &str) -> Decoded {
    if name == "%" {
        return Decoded::Text(String::new());
    }
    if let Some((_, hash)) = name.split_once(HASH_MARK) {
        let digits = hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        return if digits && hash.len() == 64 { Decoded::Hashed } else { Decoded::Foreign };
    }
    match unescape(name) {
        // `encode` has one spelling for each text.
        Some(text) if encode(&text) == name => Decoded::Text(text),
        _ => Decoded::Foreign,
    }
}

/// The component prefix of a directory by the names of its three segments; `None` if one
/// of them is hashed or foreign.
pub(super) fn decode_prefix(segments: [&str; 3]) -> Option<String> {
    let mut prefix = String::new();
    for segment in segments {
        let Decoded::Text(text) = decode(segment) else { return None };
        prefix.push_str(&text);
        prefix.push('/');
    }
    Some(prefix)
}

fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn push_hex(name: &mut String, mark: &str, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(name, "{mark}{byte:02x}");
}

fn is_reserved(stem: &str) -> bool {
    let with_digit = |prefix: &&str| {
        let digit = stem.strip_prefix(*prefix).unwrap_or_default();
        digit.len() == 1 && digit.bytes().all(|byte| byte.is_ascii_digit())
    };
    RESERVED.contains(&stem) || RESERVED_WITH_DIGIT.iter().any(with_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_stay_readable() {
        for (text, name) in [
            ("note-0001", "note-0001"),
            ("user:123", "user%3a123"),
            ("User", "%55ser"),
            ("a/b", "a%2fb"),
            ("50%", "50%25"),
            ("v1.2", "v1.2"),
            (".", "%2e"),
            ("..", "%2e%2e"),
            (".hidden", "%2ehidden"),
            ("end.", "end%2e"),
            ("con", "%63on"),
            ("nul.txt", "%6eul.txt"),
            ("com1", "%63om1"),
            ("com10", "com10"),
            ("console", "console"),
            ("caf\u{e9}", "caf%c3%a9"),
            ("", "%"),
        ] {
            assert_eq!(encode(text), name);
            assert_eq!(decode(name), Decoded::Text(text.to_owned()), "{name}");
        }
    }

    #[test]
    fn other_spellings_are_foreign() {
        for name in
            [".tmp-1", "User", "user%3A1", "%6eote", "a%zz", "a%2", "x%%y", "con", "%ff", "a b"]
        {
            assert_eq!(decode(name), Decoded::Foreign, "{name}");
        }
    }

    #[test]
    fn long_texts_have_distinct_hashed_names() {
        // The cut falls on each byte of an escape.
        for shift in 0..3 {
            let name = encode(&format!("{}{}", "k".repeat(shift), "/".repeat(300)));
            assert_eq!(decode(&name), Decoded::Hashed, "{name}");
        }
        let texts = ["k".repeat(1000), "k".repeat(1001), "K".repeat(81), "k".repeat(241)];
        for text in &texts {
            let name = encode(text);
            assert!(name.len() <= 255, "{name}");
            assert_eq!(decode(&name), Decoded::Hashed);
        }
        let names: std::collections::BTreeSet<_> = texts.iter().map(|text| encode(text)).collect();
        assert_eq!(names.len(), texts.len());
        assert_eq!(encode(&"k".repeat(240)), "k".repeat(240));
    }

    proptest! {
        #[test]
        fn every_text_has_a_safe_and_unique_name(a in ".{0,300}", b in ".{0,300}") {
            for text in [&a, &b] {
                let name = encode(text);
                prop_assert!(!name.is_empty() && name.len() <= 255);
                prop_assert!(!name.contains(['/', '\\', '\0']) && name.is_ascii());
                prop_assert!(!name.starts_with('.') && !name.ends_with('.'));
                prop_assert_eq!(name.to_ascii_lowercase(), name.clone());
                match decode(&name) {
                    Decoded::Text(back) => prop_assert_eq!(&back, text),
                    Decoded::Hashed => prop_assert!(name.len() > KEPT_BYTES),
                    Decoded::Foreign => prop_assert!(false, "foreign: {}", name),
                }
            }
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }
    }
}
