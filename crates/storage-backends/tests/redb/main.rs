//! What the redb store guarantees in addition to the tests of every store.
#![cfg(feature = "redb")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]

mod counters;
mod damage;
#[path = "../support/damage.rs"]
mod damaged;
mod groups;
mod opening;
#[path = "../support/raw_redb.rs"]
mod raw_redb;
mod relaxed;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with the tests of other stores")]
mod support;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rstest::rstest;
use storage_backends::{Durability, Problem, RedbOptions, RedbStorage, Verified};
use storage_core::{Budget, Commit, ComponentStorage, Revision, StorageError, StorageValue, Store};

use raw_redb::{checked, tamper};
use support::StoreDir;

fn open(path: &Path) -> RedbStorage {
    RedbStorage::open(path, RedbOptions::default()).unwrap()
}

fn read_only(path: &Path) -> RedbStorage {
    RedbStorage::open_read_only(path, RedbOptions::default()).unwrap()
}

fn relaxed() -> RedbOptions {
    RedbOptions::default().with_durability(Durability::Relaxed)
}

/// A directory with a file at the path of the store.
fn with_file(bytes: &[u8]) -> StoreDir {
    let dir = StoreDir::new();
    fs::write(dir.path(), bytes).unwrap();
    #[cfg(unix)]
    support::set_mode(&dir.path(), 0o600);
    dir
}

fn file_bytes(dir: &StoreDir) -> Vec<u8> {
    fs::read(dir.path()).unwrap()
}

fn problems_of(dir: &StoreDir) -> (Verified, Vec<Problem>) {
    support::problems(|report| RedbStorage::verify(dir.path(), report))
}

#[track_caller]
fn has_no_problems(dir: &StoreDir) {
    assert_eq!(problems_of(dir).1, []);
}

type Contents = BTreeMap<String, Vec<u8>>;

fn contents(storage: &RedbStorage) -> Contents {
    let contents = support::contents(storage);
    contents.into_iter().map(|(key, value)| (key, value.into_bytes())).collect()
}
