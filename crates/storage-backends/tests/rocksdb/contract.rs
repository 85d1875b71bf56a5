//! The conformance suite.

use std::sync::Arc;

use rstest::rstest;
use storage_core::conformance::{Implementation, run};

use super::*;

fn implementation(options: RocksDbOptions) -> Implementation {
    Implementation::persistent("rocksdb", move || {
        let (place, options) = (Place::new(), options.clone());
        move || RocksDbStorage::open(place.path(), options.clone()).unwrap()
    })
}

#[rstest]
#[case::synced(small())]
#[case::unsynced(unsynced())]
fn bare(#[case] options: RocksDbOptions) {
    run(&implementation(options));
}

#[test]
fn under_a_namespace() {
    run(&implementation(unsynced()).namespaced());
}

#[test]
fn as_an_arc() {
    run(&implementation(unsynced()).wrapped("an arc of rocksdb", Arc::<dyn ComponentStorage>::from));
}
