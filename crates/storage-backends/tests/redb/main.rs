//! The redb store: what it promises beyond the contract of every store.
#![cfg(feature = "redb")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]

mod budgets;
mod contract;
mod damage;
mod fixture;
mod groups;
mod moved;
mod opening;
mod relaxed;
#[path = "../support/restored.rs"]
mod restored;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use storage_backends::{Durability, Problem, RedbOptions, RedbStorage, Verified};
use storage_core::{
    Budget, Commit, ComponentStorage, Revision, StorageError, StorageValue, Store, Usage,
};

fn open(path: &Path) -> RedbStorage {
    RedbStorage::open(path, RedbOptions::default()).unwrap()
}

fn read_only(path: &Path) -> RedbStorage {
    RedbStorage::open_read_only(path, RedbOptions::default()).unwrap()
}

fn relaxed() -> RedbOptions {
    RedbOptions::default().with_durability(Durability::Interval)
}

/// A path for a store, gone at the end of the test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a file there.
    fn with(bytes: &[u8]) -> Self {
        let place = Self::new();
        fs::write(place.path(), bytes).unwrap();
        #[cfg(unix)]
        {
            let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(place.path(), owner_only).unwrap();
        }
        place
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store.redb")
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    /// The names in the folder.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn verify(&self) -> (Verified, Vec<Problem>) {
        let mut problems = Vec::new();
        let verified = RedbStorage::verify(self.path(), &mut |problem| problems.push(problem));
        (verified.unwrap(), problems)
    }

    fn has_no_problems(&self) -> Verified {
        let (verified, problems) = self.verify();
        assert!(problems.is_empty(), "{problems:?}");
        verified
    }

    /// What a killed process would leave behind: the file as it is now.
    fn killed(&self) -> Self {
        Self::with(&self.bytes())
    }
}

type Contents = BTreeMap<String, Vec<u8>>;

fn contents(storage: &RedbStorage) -> Contents {
    let keys = storage.list_keys(None).unwrap();
    let value = |key: &String| storage.get(key).unwrap().unwrap().into_bytes();
    keys.iter().map(|key| (key.clone(), value(key))).collect()
}
