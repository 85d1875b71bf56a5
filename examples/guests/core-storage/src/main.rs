//! Calls every function of `airssys:core/storage@1.0.0` and prints the results.

#![forbid(unsafe_code)]

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit", world: "guest" });
}

use std::process::ExitCode;

use bindings::airssys::core::errors::StorageError;
use bindings::airssys::core::storage;
use conformance::table::{Answer, Failure, Outcome, Table};
use conformance::{NOT_EMPTY, PREFIX, command, grouped, key, key_of};

conformance::bind_storage_error!();

fn main() -> ExitCode {
    command::run("core-storage", |options, table| {
        if options.store.is_some() {
            return Err("this interface has one store without a name".to_owned());
        }
        clean().map_err(|error| format!("cannot use the store: {}", error.variant()))?;
        if storage::list_keys(None).is_ok_and(|keys| !keys.is_empty()) {
            return Err(NOT_EMPTY.to_owned());
        }
        for cases in [reads_and_writes, keys, values, listings, usage] {
            table.group("set", cases);
            clean().map_err(|error| format!("cannot clear the store: {}", error.variant()))?;
        }
        Ok(())
    })
}

fn clean() -> Result<(), StorageError> {
    storage::list_keys(Some(PREFIX))?.iter().try_for_each(|key| storage::delete(key))
}

fn reads_and_writes(table: &mut Table<'_>) -> Result<(), StorageError> {
    let key = key("one");
    table.asks("get", "a missing key", "none", storage::get(&key));
    table.asks("exists", "a missing key", "false", storage::exists(&key));
    table.asks("delete", "a missing key", "ok", storage::delete(&key));
    table.asks("set", "a new key", "ok", storage::set(&key, b"first"));
    table.asks("get", "the new key", "\"first\"", storage::get(&key));
    table.asks("exists", "the new key", "true", storage::exists(&key));
    table.asks("set", "a key that is there", "ok", storage::set(&key, b"2"));
    table.asks("get", "the overwritten key", "\"2\"", storage::get(&key));
    table.asks("set", "an empty value", "ok", storage::set(&key, b""));
    table.asks("get", "the empty value", "\"\"", storage::get(&key));
    table.asks("exists", "a key with an empty value", "true", storage::exists(&key));
    let all: Vec<u8> = (0..=255).collect();
    storage::set(&key, &all)?;
    let same = storage::get(&key).map(|found| found.is_some_and(|found| found == all));
    table.asks("get", "a value of every byte: the same", "true", same);
    table.asks("delete", "a key that is there", "ok", storage::delete(&key));
    table.asks("get", "the deleted key", "none", storage::get(&key));
    table.asks("exists", "the deleted key", "false", storage::exists(&key));
    Ok(())
}

fn keys(table: &mut Table<'_>) -> Result<(), StorageError> {
    for (what, key) in [
        ("the empty key", String::new()),
        ("a key with a control character", key("bell\u{7}")),
        ("a key with a NUL", key("nul\0")),
        ("a key with U+0085", key("next\u{85}line")),
        ("a key of 1,025 bytes", key_of(1_025)),
        ("a key of 100,000 bytes", key_of(100_000)),
    ] {
        let refused = "invalid-key";
        table.asks("set", what, refused, storage::set(&key, b"x"));
        table.asks("get", what, refused, storage::get(&key));
        table.asks("exists", what, refused, storage::exists(&key));
        table.asks("delete", what, refused, storage::delete(&key));
    }
    for (what, key) in [
        ("a key of 1,024 bytes", key_of(1_024)),
        ("a key of letters, a symbol and an emoji", key("\u{e9}\u{6f22}\u{2211}\u{1f980}")),
        ("a key with slashes and dots", key("/..//./a")),
        ("a key that ends with a space", key("space ")),
    ] {
        let found = storage::set(&key, b"here").and_then(|()| storage::get(&key));
        table.asks("set", what, "\"here\"", found);
    }
    for (what, one, other) in [
        ("keys that differ in case alone", "Case", "case"),
        ("keys that look alike, composed and not", "caf\u{e9}", "cafe\u{301}"),
        ("a key and what a pattern would match", "star*", "starling"),
    ] {
        let (one, other) = (key(one), key(other));
        storage::set(&one, b"one")?;
        storage::set(&other, b"other")?;
        let found = [storage::get(&one)?.words(), storage::get(&other)?.words()].join(" and ");
        table.asks("get", what, "\"one\" and \"other\"", found);
    }
    Ok(())
}

/// A host may have another limit than the one in the interface's text.
fn values(table: &mut Table<'_>) -> Result<(), StorageError> {
    let key = key("value");
    for bytes in [1 << 20, (1 << 20) + 1, 4 << 20] {
        storage::set(&key, b"before")?;
        let value = vec![b'v'; bytes];
        let set = storage::set(&key, &value);
        let now = storage::get(&key)?;
        let came = match set {
            Ok(()) if now.as_ref() == Some(&value) => Outcome::new("kept"),
            Err(error @ StorageError::IoError(_)) if now.as_deref() == Some(b"before") => {
                Outcome::refused(&error)
            }
            other => {
                Outcome::wrong(format!("{}, and it holds {}", Outcome::from(other), now.words()))
            }
        };
        let what = format!("a value of {} bytes", grouped(bytes));
        table.leaves_between("set", &what, &["kept", "refused"], came);
    }
    Ok(())
}

fn listings(table: &mut Table<'_>) -> Result<(), StorageError> {
    let listed = |prefix: Option<&str>| {
        let names = |keys: Vec<String>| {
            let names: Vec<&str> =
                keys.iter().map(|key| key.strip_prefix(PREFIX).unwrap_or(key)).collect();
            if names.is_empty() { "no keys".to_owned() } else { names.join(" ") }
        };
        Outcome::from(storage::list_keys(prefix).map(names))
    };
    table.asks("list-keys", "an empty store", "no keys", listed(None));
    for name in ["b", "a/2", "a/10", "B", "\u{e9}", "%"] {
        storage::set(&key(name), b"")?;
    }
    let all = "% B a/10 a/2 b \u{e9}";
    table.asks("list-keys", "all keys, in the order of bytes", all, listed(None));
    table.asks("list-keys", "the empty prefix", all, listed(Some("")));
    table.asks(
        "list-keys",
        "the keys that begin with \"a/\"",
        "a/10 a/2",
        listed(Some(&key("a/"))),
    );
    table.asks("list-keys", "a prefix that is a key", "b", listed(Some(&key("b"))));
    table.asks("list-keys", "a prefix that no key has", "no keys", listed(Some(&key("c"))));
    table.asks("list-keys", "a prefix with a star", "no keys", listed(Some(&key("*"))));
    table.asks("list-keys", "a prefix with a control character", "no keys", listed(Some("\u{7}")));
    let long = key_of(100_000);
    table.asks("list-keys", "a prefix of 100,000 bytes", "no keys", listed(Some(&long)));

    for number in 0..1_100 {
        storage::set(&key(&format!("page/{number:04}")), b"")?;
    }
    let whole = storage::list_keys(Some(&key("page/"))).map(|keys| {
        let right = keys.len() == 1_100 && keys.is_sorted();
        if right { "all of them, in order".to_owned() } else { format!("{} keys", keys.len()) }
    });
    table.asks("list-keys", "1,100 keys", "all of them, in order", whole);
    Ok(())
}

fn usage(table: &mut Table<'_>) -> Result<(), StorageError> {
    let used = || {
        let usage = storage::usage();
        Outcome::from(
            usage.map(|usage| format!("{} bytes, {} keys", usage.used_bytes, usage.key_count)),
        )
    };
    let key = key("0123456789");
    let bytes = |value: usize| format!("{} bytes, 1 keys", key.len() + value);
    table.asks("usage", "an empty store", "0 bytes, 0 keys", used());
    storage::set(&key, b"12345")?;
    table.asks("usage", "a key and a value", &bytes(5), used());
    storage::set(&key, b"1")?;
    table.asks("usage", "a shorter value", &bytes(1), used());
    storage::set(&key, b"")?;
    table.asks("usage", "an empty value", &bytes(0), used());
    storage::delete(&key)?;
    storage::delete(&key)?;
    table.asks("usage", "after deleting twice", "0 bytes, 0 keys", used());
    let quota = storage::usage()?.quota_bytes;
    let came = if quota == u64::MAX { "none" } else { "some" };
    table.leaves("usage", "a quota", came);
    Ok(())
}
