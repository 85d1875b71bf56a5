//! `airssys:storage/extended@0.1.0`.

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "../../../wit/extended"],
        world: "airssys:storage/extended-guest",
        generate_all,
    });
}

use bindings::airssys::core::errors::StorageError;
use bindings::airssys::storage::extended::{Check, Error, Expected, Store, Write};

use crate::{Handle, shown, text};

thread_local! {
    static STORE: Handle<Store> = const { Handle::new(None) };
}

conformance::bind_extended!();

pub(crate) fn call(words: &[&str]) -> Option<String> {
    if let ["open", name] = words {
        return Some(shown(Store::open(name).map(|store| {
            STORE.set(Some(store));
            "ok".to_owned()
        })));
    }
    STORE.with_borrow(|store| on(store.as_ref()?, words).map(shown))
}

fn on(store: &Store, words: &[&str]) -> Option<Result<String, Error>> {
    let ok = |_: u64| "ok".to_owned();
    Some(match words {
        ["get-versioned", key] => {
            store.get_versioned(key).map(|found| text(found.map(|found| found.value)))
        }
        ["list-page", prefix, after @ ..] => {
            store.list_page(prefix, after.first().copied(), 100).map(|page| page.keys.join(" "))
        }
        ["get-many", keys @ ..] => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let words =
                |values: Vec<Option<Vec<u8>>>| values.into_iter().map(text).collect::<Vec<_>>();
            store.get_many(&keys).map(|values| words(values).join(" "))
        }
        ["create", key, value] => store.create(key, value.as_bytes()).map(ok),
        ["update", key, value] => store.update(key, value.as_bytes()).map(ok),
        // The value that a key must have, and the writes.
        ["commit", "check", key, value, writes @ ..] => {
            let expected = Expected::Value(value.as_bytes().to_vec());
            let check = Check { key: (*key).to_owned(), expected };
            store.commit(&[check], &writes_of(writes)).map(ok)
        }
        ["commit", writes @ ..] => store.commit(&[], &writes_of(writes)).map(ok),
        ["usage"] => store.usage().map(|usage| {
            let quota = if usage.quota_bytes == u64::MAX { "no quota" } else { "a quota" };
            format!("{} bytes, {} keys, {quota}", usage.used_bytes, usage.key_count)
        }),
        _ => return None,
    })
}

/// `KEY=VALUE` sets a key; a word without `=` deletes it.
fn writes_of(words: &[&str]) -> Vec<Write> {
    let write = |word: &&str| match word.split_once('=') {
        Some((key, value)) => Write::Set((key.to_owned(), value.as_bytes().to_vec())),
        None => Write::Delete((*word).to_owned()),
    };
    words.iter().map(write).collect()
}
