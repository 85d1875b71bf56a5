//! What every persistent store guarantees, on each engine.
#![cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]

/// Makes a test of each function for each engine, such as `opening::redb::NAME`.
macro_rules! test_each_engine {
    ($($test:ident),* $(,)?) => {
        #[cfg(feature = "file")]
        mod file {
            $(#[test] fn $test() { super::$test($crate::engine::FILE); })*
        }
        #[cfg(feature = "redb")]
        mod redb {
            $(#[test] fn $test() { super::$test($crate::engine::REDB); })*
        }
        #[cfg(feature = "rocksdb")]
        mod rocksdb {
            $(#[test] fn $test() { super::$test($crate::engine::ROCKSDB); })*
        }
    };
}

mod contract;
mod damage;
#[path = "../support/damage.rs"]
mod damaged;
mod engine;
mod locks;
#[cfg(unix)]
mod moved;
mod opening;
#[cfg(feature = "redb")]
#[path = "../support/raw_redb.rs"]
mod raw_redb;
#[cfg(feature = "rocksdb")]
#[path = "../support/raw_rocksdb.rs"]
mod raw_rocksdb;
mod reading_only;
mod restored;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of each engine")]
mod support;
mod verify;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use storage_backends::{Durability, ProblemKind};
use storage_core::{Budget, Commit, ComponentStorage, StorageError, Store};

use engine::{Engine, Opened};
use support::{SetWhenDropped, StoreDir, contents};

const KEY: &str = "app/notes/home/key";

fn id(store: &dyn Store) -> String {
    store.properties().store_id.unwrap()
}

/// Stores with two components, one of them with a usage counter, and an unscoped key.
fn filled(engine: Engine) -> StoreDir {
    let dir = StoreDir::new();
    let store = engine.open(&dir.path());
    store.set(KEY, "value".into()).unwrap();
    let commit = Commit::new().set("app/notes/work/key", "value".into());
    store.commit(commit.with_budget(Budget::UNLIMITED)).unwrap();
    store.set("unscoped", "value".into()).unwrap();
    dir
}
