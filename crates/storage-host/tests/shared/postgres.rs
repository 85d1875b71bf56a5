//! The PostgreSQL server that STORAGE_TEST_POSTGRES_URL names.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::{env, thread};

use storage_host::{Mode, StoreUrl};

/// Names a server: `postgres://USER@HOST:PORT/DB`.
const VARIABLE: &str = "STORAGE_TEST_POSTGRES_URL";

/// The URL of the server; `None` without one, which is reported.
pub(crate) fn server() -> Option<String> {
    let server = env::var(VARIABLE);
    if server.is_err() {
        println!("SKIPPED: {VARIABLE} names no PostgreSQL server");
    }
    server.ok()
}

/// The URL of an empty store that no other test uses; `None` without a server. A test that
/// needs several names each of them.
///
/// Each run has the same schema, because nothing here can drop one.
pub(crate) fn url(name: &str) -> Option<String> {
    let server = server()?;
    let mut hasher = DefaultHasher::new();
    // The thread has the name of the test.
    (module_path!(), thread::current().name()).hash(&mut hasher);
    let url = format!("{server}?schema=test_{:016x}_{name}", hasher.finish());
    empty(&url);
    Some(url)
}

/// Deletes all keys, also those of an earlier run that failed.
pub(crate) fn empty(url: &str) {
    let store = url.parse::<StoreUrl>().unwrap().open(Mode::ReadWrite).unwrap();
    for key in store.list_keys(None).unwrap() {
        store.delete(&key).unwrap();
    }
}
