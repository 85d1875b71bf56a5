//! The RocksDB store: what it promises beyond the contract of every store.
#![cfg(feature = "rocksdb")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test support"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use storage_backends::{
    Durability, Problem, ProblemKind, RocksDbOptions, RocksDbStorage, Verified,
};
use storage_core::{Commit, ComponentStorage, StorageValue, Store};

mod contract;
mod copies;
mod damage;
mod faults;
mod fixture;
mod listing;
mod moved;
mod opening;
mod reading_only;
#[path = "../support/restored.rs"]
mod restored;
#[path = "../support/mod.rs"]
mod support;
mod usage_counters;
mod verifying;

use support::{Place, SetWhenDropped, files_below};

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

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (path, bytes) in files_below(from) {
        fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
    }
}

fn contents(storage: &RocksDbStorage) -> Vec<(String, StorageValue)> {
    let mut found = Vec::new();
    storage
        .read_snapshot("", None, &mut |key, value| {
            found.push((key.to_owned(), value));
            Ok(())
        })
        .unwrap();
    found
}

fn verify(path: &Path) -> (Verified, Vec<Problem>) {
    let mut problems = Vec::new();
    let verified = RocksDbStorage::verify(path, &mut |problem| problems.push(problem)).unwrap();
    assert_eq!(verified.problems + verified.warnings, problems.len() as u64);
    // The tests make copies by the umask.
    problems.retain(|problem| problem.kind != ProblemKind::Permissions);
    (verified, problems)
}

/// Nothing is wrong, the ledgers included.
#[track_caller]
fn assert_sound(path: &Path) {
    assert_eq!(verify(path).1, []);
}

/// A copy of the files of a store in use, as a killed process would leave them.
fn as_if_killed(storage: &Place) -> Place {
    let killed = Place::new();
    copy_files(&storage.path(), &killed.path());
    killed
}

fn set(key: &str, value: &str) -> Commit {
    Commit::new().set(key, value.into())
}
