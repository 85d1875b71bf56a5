//! The conformance suite.

use std::sync::Arc;

use storage_core::conformance::{Implementation, run};

use super::*;

fn implementation(options: RedbOptions) -> Implementation {
    Implementation::persistent("redb", move || {
        let (place, options) = (Place::new(), options.clone());
        move || RedbStorage::open(place.path(), options.clone()).unwrap()
    })
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
    run(&implementation(relaxed()).wrapped("an arc of redb", Arc::<dyn ComponentStorage>::from));
}
