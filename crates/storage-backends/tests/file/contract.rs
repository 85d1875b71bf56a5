//! The conformance suite.
use super::*;
use storage_core::conformance::{Implementation, run};

fn implementation(options: FileOptions) -> Implementation {
    Implementation::persistent("file", move || {
        let (place, options) = (Place::new(), options.clone());
        move || FileStorage::open(place.path(), options.clone()).unwrap()
    })
}

fn unsynced() -> FileOptions {
    FileOptions::default().with_durability(Durability::Os)
}

#[rstest]
#[case::synced(FileOptions::default())]
#[case::unsynced(unsynced())]
#[case::without_memory_for_indexes(unsynced().with_index_budget_bytes(0))]
fn bare(#[case] options: FileOptions) {
    run(&implementation(options));
}

#[test]
fn under_a_namespace() {
    run(&implementation(unsynced()).namespaced());
}
