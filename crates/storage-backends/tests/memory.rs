//! The memory store: the whole contract, and partitions that come and go.
#![cfg(feature = "memory")]

use std::sync::Arc;

use rstest::rstest;
use storage_backends::MemoryStorage;
use storage_core::ComponentStorage;
use storage_core::conformance::{Feature, Implementation, run};

fn memory() -> Implementation {
    Implementation::new("memory", MemoryStorage::new)
}

fn boxed() -> Implementation {
    Implementation::new("boxed memory", || -> Box<dyn ComponentStorage> {
        Box::new(MemoryStorage::new())
    })
}

fn shared() -> Implementation {
    Implementation::new("shared memory", || -> Arc<dyn ComponentStorage> {
        Arc::new(MemoryStorage::new())
    })
}

#[rstest]
#[case::bare(memory())]
#[case::boxed(boxed())]
#[case::shared(shared())]
#[case::namespaced(memory().namespaced())]
#[case::namespaced_boxed(boxed().namespaced())]
#[case::namespaced_shared(shared().namespaced())]
fn the_contract_is_kept(#[case] implementation: Implementation) {
    let report = run(&implementation);
    let by_design = [Feature::Lasting, Feature::Components];
    assert!(report.skipped.iter().all(|(_, feature)| by_design.contains(feature)), "{report:?}");
}
