//! What the RocksDB store guarantees in addition to the tests of every store.
#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]

use std::fs;
use std::path::{Path, PathBuf};

use storage_backends::{Durability, Problem, RocksDbOptions, RocksDbStorage, Verified};
use storage_core::{Commit, ComponentStorage, StorageValue, Store};

mod compacting;
mod copies;
mod damage;
#[path = "../support/damage.rs"]
mod damaged;
mod listing;
mod opening;
#[path = "../support/raw_rocksdb.rs"]
mod raw_rocksdb;
mod reading_only;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of other stores")]
mod support;
mod usage_counters;
mod verifying;

use raw_rocksdb::raw;
use support::{SetWhenDropped, StoreDir, contents};

/// Small, because a test opens many.
fn small() -> RocksDbOptions {
    RocksDbOptions::default().with_block_cache_bytes(1 << 20).with_write_buffer_bytes(1 << 20)
}

fn unsynced() -> RocksDbOptions {
    small().with_durability(Durability::Os)
}

fn open(path: &Path) -> RocksDbStorage {
    RocksDbStorage::open(path, small()).unwrap()
}

fn read_only(path: &Path) -> RocksDbStorage {
    RocksDbStorage::open_read_only(path, small()).unwrap()
}

fn verify(path: &Path) -> (Verified, Vec<Problem>) {
    support::problems(|report| RocksDbStorage::verify(path, report))
}

/// Checks that verify finds no problems, including in usage counters.
#[track_caller]
fn assert_sound(path: &Path) {
    assert_eq!(verify(path).1, []);
}

fn set(key: &str, value: &str) -> Commit {
    Commit::new().set(key, value.into())
}
