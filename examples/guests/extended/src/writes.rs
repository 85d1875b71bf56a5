//! `create`, `update`, `usage`.

use conformance::table::{Answer, Outcome, Table};
use conformance::{grouped, key};

use crate::bindings::airssys::storage::extended::{Error, Store};
use crate::reads::bad_keys;
use crate::{clean, ok};

pub(crate) fn create_and_update(table: &mut Table<'_>, store: &Store) -> Result<(), Error> {
    let key = key("one");
    let value = || store.get_versioned(&key).map(|found| found.map(|found| found.value));
    table.asks("update", "a missing key", "not-found one", ok(store.update(&key, b"x")));
    table.asks("get-versioned", "the key that was not updated", "none", value());
    table.asks("create", "a missing key", "ok", ok(store.create(&key, b"first")));
    table.asks("create", "a key that is there", "already-exists one", ok(store.create(&key, b"x")));
    table.asks("get-versioned", "the key that was not created", "\"first\"", value());
    table.asks("update", "a key that is there", "ok", ok(store.update(&key, b"second")));
    table.asks("get-versioned", "the updated key", "\"second\"", value());
    table.asks("update", "to the empty value", "ok", ok(store.update(&key, b"")));
    let what = "a key with an empty value";
    table.asks("create", what, "already-exists one", ok(store.create(&key, b"x")));
    clean(store)?;
    table.asks("create", "a deleted key", "ok", ok(store.create(&key, b"anew")));
    for (what, bad) in bad_keys() {
        table.asks("create", what, "invalid-key", ok(store.create(&bad, b"x")));
        table.asks("update", what, "invalid-key", ok(store.update(&bad, b"x")));
    }
    for bytes in [1 << 20, (1 << 20) + 1] {
        let large = vec![b'v'; bytes];
        let updated = store.update(&key, &large);
        let now = value()?;
        let came = match updated {
            Ok(_) if now.as_ref() == Some(&large) => Outcome::new("kept"),
            Err(error) if now.as_ref() != Some(&large) => Outcome::refused(&error),
            other => Outcome::wrong(format!("{}, and it holds {}", ok(other), now.words())),
        };
        let what = format!("to a value of {} bytes", grouped(bytes));
        table.leaves_between("update", &what, &["kept", "refused"], came);
        store.update(&key, b"small")?;
    }
    Ok(())
}

pub(crate) fn usage(table: &mut Table<'_>, store: &Store) -> Result<(), Error> {
    let used = || {
        Outcome::from(
            store.usage().map(|used| format!("{} bytes, {} keys", used.used_bytes, used.key_count)),
        )
    };
    let key = key("0123456789");
    table.asks("usage", "an empty store", "0 bytes, 0 keys", used());
    store.create(&key, b"12345")?;
    table.asks("usage", "a key and a value", &format!("{} bytes, 1 keys", key.len() + 5), used());
    store.update(&key, b"1")?;
    table.asks("usage", "a shorter value", &format!("{} bytes, 1 keys", key.len() + 1), used());
    clean(store)?;
    table.asks("usage", "after deleting", "0 bytes, 0 keys", used());
    Ok(())
}
