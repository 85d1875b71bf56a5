//! `airssys:core/storage` and `airssys:storage/extended`.

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "../../../wit/extended"],
        world: "airssys:storage/extended-guest",
        generate_all,
    });
}

use std::cell::OnceCell;

use bindings::airssys::core::storage;
use bindings::airssys::storage::extended::{Store, Write};

use crate::Calls;

pub(crate) struct Core;

impl Calls for Core {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        storage::get(key).ok()?
    }

    fn exists(&self, key: &str) -> Option<bool> {
        storage::exists(key).ok()
    }

    fn set(&self, key: &str, value: &[u8]) -> Option<()> {
        storage::set(key, value).ok()
    }

    fn increment(&self, _key: &str) -> Option<()> {
        None
    }

    fn get_many(&self, _keys: &[String]) -> Option<usize> {
        None
    }

    fn list_keys(&self) -> Option<usize> {
        Some(storage::list_keys(None).ok()?.len())
    }
}

thread_local! {
    static STORE: OnceCell<Option<Store>> = const { OnceCell::new() };
}

/// Calls `call` with the component's own store, which it opens once.
pub(crate) fn with_store<R>(call: impl FnOnce(&Store) -> Option<R>) -> Option<R> {
    STORE.with(|store| call(store.get_or_init(|| Store::open("").ok()).as_ref()?))
}

impl Calls for Store {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        Some(self.get_versioned(key).ok()??.value)
    }

    fn exists(&self, _key: &str) -> Option<bool> {
        None
    }

    fn set(&self, key: &str, value: &[u8]) -> Option<()> {
        self.update(key, value).ok().map(drop)
    }

    fn increment(&self, _key: &str) -> Option<()> {
        None
    }

    fn get_many(&self, keys: &[String]) -> Option<usize> {
        let values = Store::get_many(self, keys).ok()?;
        values.iter().map(|value| Some(value.as_ref()?.len())).sum()
    }

    fn list_keys(&self) -> Option<usize> {
        Some(self.list_page("", None, 1_000).ok()?.keys.len())
    }

    fn create(&self, key: &str, value: &[u8]) -> Option<()> {
        let write = Write::Set((key.to_owned(), value.to_vec()));
        self.commit(&[], &[write]).ok().map(drop)
    }
}
