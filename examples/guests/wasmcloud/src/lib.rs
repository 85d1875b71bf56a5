//! Calls every function of `wasmcloud:keyvalue@0.2.0` and returns the results as a table.

// The bindings of an export are unsafe code.
#![deny(unsafe_op_in_unsafe_fn)]

mod own;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/wasmcloud-0.2", "wit"],
        world: "airssys:guests/wasmcloud",
        generate_all,
    });
}

use bindings::wasmcloud::keyvalue::types::{self, Bucket};
use bindings::wasmcloud::keyvalue::{atomics, batch, store};
use conformance::keyvalue::overlap::{Overlapping, overlaps};
use conformance::keyvalue::{Atomics, Batch, Error, Found, Page, table_of_all};
use wit_bindgen::block_on;

fn error_of(error: types::Error) -> Error {
    match error {
        types::Error::NoSuchStore => Error::NoSuchStore,
        types::Error::AccessDenied => Error::AccessDenied,
        types::Error::InvalidArgument => Error::Named("invalid-argument"),
        types::Error::PreconditionFailed => Error::Named("precondition-failed"),
        types::Error::Timeout => Error::Named("timeout"),
        types::Error::StoreUnavailable => Error::Named("store-unavailable"),
        types::Error::QuotaExceeded => Error::Named("quota-exceeded"),
        types::Error::Other(text) => Error::Other(text),
    }
}

/// A handle, under a name of its own for the traits.
struct Handle(Bucket);

impl conformance::keyvalue::Bucket for Handle {
    type Cursor = String;

    const INVALID: &'static str = "invalid-argument";

    fn open(identifier: &str) -> Result<Self, Error> {
        block_on(store::open(identifier.to_owned())).map(Self).map_err(error_of)
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

    fn list_keys(&self, cursor: Option<&String>) -> Result<Page<String>, Error> {
        let page = block_on(self.0.list_keys(None, cursor.cloned())).map_err(error_of)?;
        Ok((page.keys, page.cursor))
    }
}

impl Overlapping for Handle {
    async fn get_soon(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.0.get(key.to_owned()).await.map_err(error_of)
    }

    async fn set_soon(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.0.set(key.to_owned(), value.to_vec(), None).await.map_err(error_of)
    }

    fn wait<T>(calls: impl Future<Output = T>) -> T {
        block_on(calls)
    }
}

impl Atomics for Handle {
    type Number = i64;

    fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        block_on(atomics::increment(&self.0, key.to_owned(), delta)).map_err(error_of)
    }
}

impl Batch for Handle {
    const NAMES_EACH: bool = false;

    fn get_many(&self, keys: &[String]) -> Result<Vec<Found>, Error> {
        let found = block_on(batch::get_many(&self.0, keys.to_vec())).map_err(error_of)?;
        let pair = |found: Option<(String, Vec<u8>)>| match found {
            Some((key, value)) => (Some(key), Some(value)),
            None => (None, None),
        };
        Ok(found.into_iter().map(pair).collect())
    }

    fn set_many(&self, pairs: &[(String, Vec<u8>)]) -> Result<(), Error> {
        block_on(batch::set_many(&self.0, pairs.to_vec())).map_err(error_of)
    }

    fn delete_many(&self, keys: &[String]) -> Result<(), Error> {
        block_on(batch::delete_many(&self.0, keys.to_vec())).map_err(error_of)
    }
}

struct Guest;

impl bindings::Guest for Guest {
    async fn run(texts: bool) -> Result<String, String> {
        table_of_all::<Handle>(
            texts,
            &[
                ("list-keys", own::prefixes),
                ("set", own::options),
                ("swap", own::swaps),
                ("set", overlaps::<Handle>),
            ],
        )
    }
}

bindings::export!(Guest with_types_in bindings);
