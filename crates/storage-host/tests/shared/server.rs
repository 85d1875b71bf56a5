//! The servers that environment variables name.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::{env, thread};

use storage_host::{Mode, StoreUrl};

/// An engine whose stores several hosts share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "a build may have one of the engines")]
pub(crate) enum Engine {
    Postgres,
    Redis,
    RedisCluster,
    RedisSentinel,
}

impl Engine {
    /// Names a server: `postgres://USER@HOST:PORT/DB`, `redis://HOST:PORT`,
    /// `redis+cluster://HOST:PORT,..` or `redis+sentinel://HOST:PORT,../MASTER`.
    fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "STORAGE_TEST_POSTGRES_URL",
            Self::Redis => "STORAGE_TEST_REDIS_URL",
            Self::RedisCluster => "STORAGE_TEST_REDIS_CLUSTER_URL",
            Self::RedisSentinel => "STORAGE_TEST_REDIS_SENTINEL_URL",
        }
    }

    /// The URL of the store with this name on the server, whether or not it exists; `None`
    /// without a server, which is reported.
    pub(crate) fn store(self, name: &str) -> Option<String> {
        let variable = self.variable();
        let Ok(server) = env::var(variable) else {
            println!("SKIPPED: {variable} names no server");
            return None;
        };
        let separator = if server.contains('?') { '&' } else { '?' };
        let setting = if self == Self::Postgres { "schema" } else { "prefix" };
        Some(format!("{server}{separator}{setting}={name}"))
    }

    /// The URL of an empty store that no other test uses; `None` without a server. A test that
    /// needs several names each of them.
    ///
    /// Each run has the same store, because nothing here can drop one.
    pub(crate) fn url(self, name: &str) -> Option<String> {
        let mut hasher = DefaultHasher::new();
        // The thread has the name of the test.
        (module_path!(), thread::current().name()).hash(&mut hasher);
        let url = self.store(&format!("test_{:016x}_{name}", hasher.finish()))?;
        empty(&url);
        Some(url)
    }

    /// The URL with the weakest durability of the engine, which is fastest.
    #[allow(dead_code, reason = "not in every test program")]
    pub(crate) fn relaxed(self, url: &str) -> String {
        match self {
            Self::Postgres => format!("{url}&durability=os"),
            // The server decides.
            _ => url.to_owned(),
        }
    }
}

/// Deletes all keys, also those of an earlier run that failed.
pub(crate) fn empty(url: &str) {
    let store = url.parse::<StoreUrl>().unwrap().open(Mode::ReadWrite).unwrap();
    for key in store.list_keys(None).unwrap() {
        store.delete(&key).unwrap();
    }
}
