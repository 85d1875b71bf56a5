//! `get`, `set`, `delete`, `exists`.

use super::{Bucket, Error};
use crate::table::{Answer, Outcome, Table};
use crate::{grouped, key, key_of};

pub(super) fn reads_and_writes<B: Bucket>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let key = key("one");
    table.asks("get", "a missing key", "none", bucket.get(&key));
    table.asks("exists", "a missing key", "false", bucket.exists(&key));
    table.asks("delete", "a missing key", "ok", bucket.delete(&key));

    table.asks("set", "a new key", "ok", bucket.set(&key, b"first"));
    table.asks("get", "the new key", "\"first\"", bucket.get(&key));
    table.asks("exists", "the new key", "true", bucket.exists(&key));
    table.asks("set", "a key that is there", "ok", bucket.set(&key, b"second"));
    table.asks("get", "the overwritten key", "\"second\"", bucket.get(&key));
    table.asks("set", "a shorter value", "ok", bucket.set(&key, b"3"));
    table.asks("get", "the shorter value", "\"3\"", bucket.get(&key));

    table.asks("set", "an empty value", "ok", bucket.set(&key, b""));
    table.asks("get", "the empty value", "\"\"", bucket.get(&key));
    table.asks("exists", "a key with an empty value", "true", bucket.exists(&key));

    let all: Vec<u8> = (0..=255).collect();
    table.asks("set", "a value of every byte", "ok", bucket.set(&key, &all));
    let same = bucket.get(&key).map(|found| found.is_some_and(|found| found == all));
    table.asks("get", "the same bytes", "true", same);

    table.asks("delete", "a key that is there", "ok", bucket.delete(&key));
    table.asks("get", "the deleted key", "none", bucket.get(&key));
    table.asks("exists", "the deleted key", "false", bucket.exists(&key));
    table.asks("delete", "the deleted key, again", "ok", bucket.delete(&key));
    table.asks("set", "the deleted key, anew", "ok", bucket.set(&key, b"new"));
    table.asks("get", "the key that came back", "\"new\"", bucket.get(&key));
    Ok(())
}

/// Keys that a store may refuse.
pub(super) fn keys<B: Bucket>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let cases = [
        ("the empty key", String::new()),
        ("a key with a control character", key("bell\u{7}")),
        ("a key with a NUL", key("nul\0")),
        ("a key with a line break", key("line\nbreak")),
        ("a key with U+0085", key("next\u{85}line")),
        ("a key of 1,024 bytes", key_of(1_024)),
        ("a key of 1,025 bytes", key_of(1_025)),
        ("a key of 100,000 bytes", key_of(100_000)),
        ("a key of 1,024 bytes, most of them beyond ASCII", key(&"\u{e9}".repeat(506))),
        ("a key of letters, a symbol and an emoji", key("\u{e9}\u{6f22}\u{2211}\u{1f980}")),
        ("a key with slashes and dots", key("/..//./a")),
        ("a key with a star and a percent sign", key("*%2f")),
        ("a key that ends with a space", key("space ")),
    ];
    for (what, key) in &cases {
        let may = ["kept", "refused"];
        table.leaves_between("set", what, &may, keeps(&bucket, key, b"value"));
        // A host that truncates keys may take the next one for the same key.
        let _ = bucket.delete(key);
    }
    for (what, key) in cases.iter().filter(|(what, _)| {
        ["the empty key", "a key with a control character", "a key of 1,025 bytes"].contains(what)
    }) {
        let (get, exists) = (bucket.get(key), bucket.exists(key));
        table.leaves_between("get", what, &["none", B::INVALID], get);
        table.leaves_between("exists", what, &["false", B::INVALID], exists);
        table.leaves_between("delete", what, &["ok", B::INVALID], bucket.delete(key));
    }
    for (what, one, other) in [
        ("keys that differ in case alone", "Case", "case"),
        ("keys that differ in a space at the end", "space", "space "),
        ("keys that differ in a slash at the end", "slash", "slash/"),
        ("keys that look alike, composed and not", "caf\u{e9}", "cafe\u{301}"),
        ("a key and what a pattern would match", "star*", "starling"),
    ] {
        let (one, other) = (key(one), key(other));
        bucket.set(&one, b"one")?;
        bucket.set(&other, b"other")?;
        let found = [bucket.get(&one)?.words(), bucket.get(&other)?.words()].join(" and ");
        table.asks("get", what, "\"one\" and \"other\"", found);
    }
    Ok(())
}

/// Values that a store may refuse.
pub(super) fn values<B: Bucket>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let key = key("value");
    for bytes in [65_536, 1 << 20, (1 << 20) + 1, 4 << 20] {
        bucket.set(&key, b"before")?;
        let came = keeps(&bucket, &key, &vec![b'v'; bytes]);
        let what = format!("a value of {} bytes", grouped(bytes));
        table.leaves_between("set", &what, &["kept", "refused"], came);
    }
    Ok(())
}

/// Stores a value. An accepted value must be readable, and a refusal must leave
/// the old one.
pub(super) fn keeps<B: Bucket>(bucket: &B, key: &str, value: &[u8]) -> Outcome {
    // A host that refuses the key also refuses to read it.
    let before = bucket.get(key).unwrap_or_default();
    match bucket.set(key, value) {
        Ok(()) => match bucket.get(key) {
            Ok(Some(found)) if found == value => match bucket.exists(key) {
                Ok(true) => Outcome::new("kept"),
                other => Outcome::wrong(format!("kept, and exists says {}", Outcome::from(other))),
            },
            Ok(Some(_)) => Outcome::wrong("accepted, and something else is there"),
            Ok(None) => Outcome::wrong("accepted, and not there"),
            Err(error) => Outcome::wrong("accepted, and cannot be read").with_text(&error),
        },
        Err(error) => match bucket.get(key) {
            Ok(found) if found != before => {
                Outcome::wrong("refused, and changed").with_text(&error)
            }
            Ok(_) | Err(_) => Outcome::refused(&error),
        },
    }
}
