//! The redb store: what it promises beyond the contract of every store.
#![cfg(feature = "redb")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use storage_backends::{RedbDurability, RedbOptions, RedbStorage};
use storage_core::{Budget, Commit, ComponentStorage, StorageError, StorageValue, Usage};

fn open(path: &Path) -> RedbStorage {
    RedbStorage::open(path, RedbOptions::default()).unwrap()
}

fn read_only(path: &Path) -> RedbStorage {
    RedbStorage::open_read_only(path, RedbOptions::default()).unwrap()
}

/// A path for a store, gone at the end of the test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
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
}

mod contract {
    //! The conformance suite.
    use super::*;
    use std::sync::Arc;
    use storage_core::conformance::{Implementation, run};

    fn implementation(options: RedbOptions) -> Implementation {
        Implementation::lasting("redb", move || {
            let (place, options) = (Place::new(), options.clone());
            move || RedbStorage::open(place.path(), options.clone()).unwrap()
        })
    }

    fn relaxed() -> RedbOptions {
        RedbOptions::default().with_durability(RedbDurability::Relaxed)
    }

    #[rstest]
    #[case::synced(RedbOptions::default())]
    #[case::relaxed(relaxed())]
    #[case::without_a_cache(relaxed().with_cache_bytes(0))]
    fn bare(#[case] options: RedbOptions) {
        run(&implementation(options));
    }

    #[test]
    fn under_a_namespace() {
        run(&implementation(relaxed()).namespaced());
    }

    #[test]
    fn as_an_arc() {
        run(&implementation(relaxed())
            .wrapped("an arc of redb", Arc::<dyn ComponentStorage>::from));
    }
}
