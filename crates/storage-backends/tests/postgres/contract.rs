//! The conformance suite.

use storage_core::Store;
use storage_core::conformance::{Implementation, run};

use super::*;

/// A schema whose store must be undamaged at the end, usage counters included.
struct VerifiedAtTheEnd(TestSchema);

impl Drop for VerifiedAtTheEnd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // A case may have opened nothing.
        if let Ok(store) = PostgresStorage::open_read_only(&self.0.options) {
            let mut problems = Vec::new();
            store.verify(&mut |problem| problems.push(problem)).unwrap();
            assert_eq!(problems, []);
        }
    }
}

fn implementation(durability: Durability) -> Implementation {
    Implementation::persistent("postgres", move || {
        let mut schema = VerifiedAtTheEnd(TestSchema::new().unwrap());
        schema.0.options.durability = durability;
        move || schema.0.open()
    })
}

#[test]
fn synced() {
    if TestSchema::new().is_some() {
        run(&implementation(Durability::Sync).several_hosts());
    }
}

#[test]
fn not_synced_under_a_namespace() {
    if TestSchema::new().is_some() {
        run(&implementation(Durability::Os).namespaced());
    }
}
