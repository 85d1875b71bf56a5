//! What only this interface has: prefixes, options of `set`, and swaps without a handle.

use conformance::key;
use conformance::keyvalue::{Bucket, Error};
use conformance::table::{Answer, Outcome, Table};
use wit_bindgen::block_on;

use crate::bindings::wasmcloud::keyvalue::cas::{self, CasOptions, CasResult};
use crate::bindings::wasmcloud::keyvalue::types::SetOptions;
use crate::{Handle, error_of};

/// `list-keys` with a prefix.
pub(crate) fn prefixes(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = Handle::open(store)?;
    for number in 0..1_100 {
        bucket.set(&key(&format!("a/{number:04}")), b"")?;
    }
    for name in ["b", "b/1", "b/2", "c"] {
        bucket.set(&key(name), b"")?;
    }
    let list = |prefix: &str| -> Result<String, Error> {
        let (mut count, mut right, mut cursor) = (0, true, None);
        loop {
            let prefix = prefix.to_owned();
            let page = block_on(bucket.0.list_keys(Some(prefix.clone()), cursor));
            let page = page.map_err(error_of)?;
            count += page.keys.len();
            right &= page.keys.iter().all(|key| key.starts_with(&prefix));
            cursor = page.cursor;
            if cursor.is_none() {
                let others = if right { "" } else { " and others" };
                return Ok(format!("{count} keys{others}"));
            }
        }
    };
    for (what, prefix, expected) in [
        ("the prefix of several pages", key("a/"), "1100 keys"),
        ("the prefix of three keys, one of them the prefix", key("b"), "3 keys"),
        ("the prefix of two keys", key("b/"), "2 keys"),
        ("the prefix of no key", key("d"), "0 keys"),
        ("the empty prefix", String::new(), "1104 keys"),
        ("a prefix of 2,000 bytes", "k".repeat(2_000), "0 keys"),
    ] {
        table.asks("list-keys", what, expected, list(&prefix));
    }
    // A cursor of another prefix must not lead to other keys.
    let page = block_on(bucket.0.list_keys(Some(key("a/")), None)).map_err(error_of)?;
    let other = block_on(bucket.0.list_keys(Some(key("b/")), page.cursor));
    let came = other.map(|page| format!("{} keys", page.keys.len())).map_err(error_of);
    table.leaves("list-keys", "the cursor of another prefix", came);
    Ok(())
}

/// `set` with options.
pub(crate) fn options(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = Handle::open(store)?;
    let key = key("options");
    let set = |value: &str, ttl_ms: Option<u64>, if_not_exists: bool| {
        let options = Some(SetOptions { ttl_ms, if_not_exists });
        block_on(bucket.0.set(key.clone(), value.as_bytes().to_vec(), options)).map_err(error_of)
    };
    let held = || bucket.get(&key);
    table.asks("set", "a new key, only if it does not exist", "ok", set("first", None, true));
    let again = set("second", None, true);
    table.asks("set", "the same again", "precondition-failed", again);
    table.asks("get", "what is there now", "\"first\"", held());
    table.asks("set", "options that ask for nothing", "ok", set("third", None, false));
    table.asks("get", "what is there now", "\"third\"", held());
    // A host without expiry refuses: otherwise the value would outlive what its writer asked
    // for.
    for (what, ttl, fresh) in [
        ("a key that expires in a minute", 60_000, false),
        ("a key that expires at once", 0, false),
        ("the same, only if it does not exist", 60_000, true),
    ] {
        bucket.set(&key, b"kept")?;
        let came = match (set("gone soon", Some(ttl), fresh), held()?.as_deref()) {
            (Ok(()), Some(b"kept")) => Outcome::wrong("accepted, and not there"),
            (Ok(()), _) => Outcome::new("accepted"),
            (Err(error), Some(b"kept")) => Outcome::refused(&error),
            (Err(error), _) => Outcome::wrong("refused, and changed").with_text(&error),
        };
        table.leaves_between("set", what, &["accepted", "refused"], came);
    }
    Ok(())
}

/// `current` and `swap`.
pub(crate) fn swaps(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = Handle::open(store)?;
    let key = key("swap");
    let version = || {
        let current = block_on(cas::current(&bucket.0, key.clone())).map_err(error_of)?;
        Ok::<_, Error>(current.map(|entry| entry.version))
    };
    let swap = |value: &str, version: Option<String>, old: Option<&str>| -> Result<String, Error> {
        let options = CasOptions {
            require_version: version,
            require_value: old.map(|old| old.as_bytes().to_vec()),
        };
        let swapped = cas::swap(&bucket.0, key.clone(), value.as_bytes().to_vec(), options);
        let shown = match block_on(swapped).map_err(error_of)? {
            CasResult::Swapped => "swapped".to_owned(),
            CasResult::Stale(None) => "stale: none".to_owned(),
            CasResult::Stale(Some(entry)) => format!("stale: {}", entry.value.words()),
        };
        Ok(format!("{shown}, then {}", bucket.get(&key)?.words()))
    };

    let current = block_on(cas::current(&bucket.0, key.clone())).map_err(error_of);
    table.asks("current", "a missing key", "none", current.map(|entry| entry.map(|e| e.value)));
    bucket.set(&key, b"old")?;
    let current = block_on(cas::current(&bucket.0, key.clone())).map_err(error_of);
    table.asks("current", "a key", "\"old\"", current.map(|entry| entry.map(|e| e.value)));
    for (what, bad) in [("the empty key", ""), ("a key with a control character", "\u{7}")] {
        let came = block_on(cas::current(&bucket.0, bad.to_owned())).map_err(error_of);
        let came = came.map(|entry| entry.map(|entry| entry.value));
        table.leaves_between("current", what, &["none", "invalid-argument"], came);
    }

    let first = version()?;
    let came = swap("new", first.clone(), None);
    table.asks("swap", "the current version", "swapped, then \"new\"", came);
    let came = swap("newer", first, None);
    table.asks("swap", "an old version", "stale: \"new\", then \"new\"", came);
    let came = swap("newer", None, Some("new"));
    table.asks("swap", "the current value", "swapped, then \"newer\"", came);
    let came = swap("newest", None, Some("new"));
    table.asks("swap", "another value", "stale: \"newer\", then \"newer\"", came);
    let came = swap("newest", version()?, Some("newer"));
    table.asks("swap", "the current version and value", "swapped, then \"newest\"", came);
    let came = swap("no", version()?, Some("newer"));
    table.asks("swap", "the version without the value", "stale: \"newest\", then \"newest\"", came);

    // A to B to A: the value is the same, the version is not.
    let before = version()?;
    bucket.set(&key, b"b")?;
    bucket.set(&key, b"newest")?;
    let came = swap("no", before, Some("newest"));
    let same = "stale: \"newest\", then \"newest\"";
    table.asks("swap", "a value that came back, by version", same, came);
    let came = swap("by value", None, Some("newest"));
    table.asks("swap", "a value that came back, by value", "swapped, then \"by value\"", came);

    let gone = version()?;
    bucket.delete(&key)?;
    let came = swap("no", gone, None);
    table.asks("swap", "the version of a deleted key", "stale: none, then none", came);
    let came = swap("no", None, Some(""));
    table.asks("swap", "a value of a missing key", "stale: none, then none", came);
    bucket.set(&key, b"")?;
    let came = swap("full", None, Some(""));
    table.asks("swap", "the empty value", "swapped, then \"full\"", came);

    let came = swap("no", None, None);
    table.asks("swap", "without a requirement", "invalid-argument", came);
    for (what, version) in [
        ("a version of letters", "newest".to_owned()),
        ("the empty version", String::new()),
        ("a version of 100,000 bytes", "1".repeat(100_000)),
    ] {
        let came = swap("no", Some(version), None);
        let may = ["invalid-argument", "stale: \"full\", then \"full\""];
        table.leaves_between("swap", what, &may, came);
    }
    table.asks("get", "what is left", "\"full\"", bucket.get(&key));
    Ok(())
}
