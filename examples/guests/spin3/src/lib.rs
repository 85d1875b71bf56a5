//! Calls every function of `spin:key-value@3.0.0` and returns the results as a table. The
//! host's tests also have it start several calls at once.

// The bindings of an export are unsafe code.
#![deny(unsafe_op_in_unsafe_fn)]

mod listings;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/spin-3.0", "wit"],
        world: "airssys:guests/spin-three",
        generate_all,
    });
}

use bindings::spin::key_value::key_value::{self, Store};
use conformance::keyvalue::overlap::{
    Overlapping, all, overlaps, start_and_drop, start_and_drop_after,
};
use conformance::keyvalue::{Bucket, Error, Page, table_of_store};
use conformance::table::Failure;
use wit_bindgen::block_on;

fn error_of(error: key_value::Error) -> Error {
    match error {
        key_value::Error::StoreTableFull => Error::Named("store-table-full"),
        key_value::Error::NoSuchStore => Error::NoSuchStore,
        key_value::Error::AccessDenied => Error::AccessDenied,
        key_value::Error::Other(text) => Error::Other(text),
    }
}

/// A handle, under a name of its own for the traits.
struct Handle(Store);

impl Bucket for Handle {
    /// There are no pages.
    type Cursor = String;

    fn open(identifier: &str) -> Result<Self, Error> {
        block_on(Store::open(identifier.to_owned())).map(Self).map_err(error_of)
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        block_on(self.get_soon(key))
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        block_on(self.set_soon(key, value))
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        block_on(self.0.delete(key.to_owned())).map_err(error_of)
    }

    fn exists(&self, key: &str) -> Result<bool, Error> {
        block_on(self.0.exists(key.to_owned())).map_err(error_of)
    }

    fn list_keys(&self, _: Option<&String>) -> Result<Page<String>, Error> {
        block_on(async {
            let (keys, ended) = self.0.get_keys().await;
            let keys = keys.collect().await;
            ended.await.map_err(error_of)?;
            Ok((keys, None))
        })
    }
}

impl Overlapping for Handle {
    async fn get_soon(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key.to_owned()).await.map_err(error_of)
    }

    async fn set_soon(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.0.set(key.to_owned(), value.to_vec()).await.map_err(error_of)
    }

    fn wait<T>(calls: impl Future<Output = T>) -> T {
        block_on(calls)
    }
}

struct Guest;

impl bindings::Guest for Guest {
    async fn run(texts: bool) -> Result<String, String> {
        table_of_store::<Handle>(
            texts,
            &[("get-keys", listings::listings), ("set", overlaps::<Handle>)],
        )
    }

    async fn set_at_once(calls: u32, value: Vec<u8>) -> Vec<String> {
        let store = match opened().await {
            Ok(store) => store,
            Err(error) => return vec![shown(error)],
        };
        let keys: Vec<String> = (0..calls).map(|key| key.to_string()).collect();
        let results = all(keys.iter().map(|key| store.set_soon(key, &value))).await;
        results.into_iter().map(|result| result.map_or_else(shown, |()| "ok".to_owned())).collect()
    }

    async fn get_at_once(calls: u32) -> Vec<String> {
        let store = match opened().await {
            Ok(store) => store,
            Err(error) => return vec![shown(error)],
        };
        let keys: Vec<String> = (0..calls).map(|key| key.to_string()).collect();
        let results = all(keys.iter().map(|key| store.get_soon(key))).await;
        let text = |value: Option<Vec<u8>>| match value {
            Some(value) => format!("{} bytes", value.len()),
            None => "none".to_owned(),
        };
        results.into_iter().map(|result| result.map_or_else(shown, text)).collect()
    }

    async fn drop_at_once(calls: u32, value: Vec<u8>) {
        let Ok(store) = opened().await else { return };
        let keys: Vec<String> = (0..calls).map(|key| key.to_string()).collect();
        start_and_drop(all(keys.iter().map(|key| store.set_soon(key, &value)))).await;
    }

    async fn drop_after_get(calls: u32, value: Vec<u8>) {
        let Ok(store) = opened().await else { return };
        let keys: Vec<String> = (0..calls).map(|key| key.to_string()).collect();
        let sets = all(keys.iter().map(|key| store.set_soon(key, &value)));
        start_and_drop_after(sets, store.get_soon("gate")).await;
    }

    async fn list_at_once(listings: u32) -> Vec<String> {
        let store = match opened().await {
            Ok(store) => store,
            Err(error) => return vec![shown(error)],
        };
        let mut begun = Vec::new();
        for _ in 0..listings {
            let (mut keys, ended) = store.0.get_keys().await;
            let first = keys.next().await;
            begun.push((first, keys, ended));
        }
        let mut results = Vec::new();
        for (first, keys, ended) in begun {
            // A stream that has ended must not be read again.
            let count = match first {
                Some(_) => keys.collect().await.len() + 1,
                None => 0,
            };
            let ended = ended.await.map_err(error_of);
            results.push(ended.map_or_else(shown, |()| format!("{count} keys")));
        }
        results
    }
}

bindings::export!(Guest with_types_in bindings);

async fn opened() -> Result<Handle, Error> {
    Store::open(String::new()).await.map(Handle).map_err(error_of)
}

fn shown(error: Error) -> String {
    match error.text() {
        Some(text) => format!("{}: {text}", error.variant()),
        None => error.variant().to_owned(),
    }
}
