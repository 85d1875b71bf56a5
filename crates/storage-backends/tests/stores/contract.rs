//! The conformance suite.

use storage_core::conformance::{Implementation, run};

use super::*;

/// A directory whose store must be undamaged at the end, usage counters included.
struct VerifiedAtTheEnd(Engine, StoreDir);

impl Drop for VerifiedAtTheEnd {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.1.path().exists() {
            self.0.assert_undamaged(&self.1.path());
        }
    }
}

fn implementation(
    engine: Engine,
    open: impl Fn(&Path) -> Opened + Copy + 'static,
) -> Implementation {
    Implementation::persistent(engine.name, move || {
        let dir = VerifiedAtTheEnd(engine, StoreDir::new());
        move || open(&dir.1.path()).unwrap()
    })
}

fn with_durability(engine: Engine, durability: Durability) -> Implementation {
    implementation(engine, move |path| (engine.open_with)(path, durability))
}

fn synced(engine: Engine) {
    run(&with_durability(engine, Durability::Sync));
}

fn relaxed(engine: Engine) {
    run(&with_durability(engine, engine.relaxed));
}

fn relaxed_under_a_namespace(engine: Engine) {
    run(&with_durability(engine, engine.relaxed).namespaced());
}

test_each_engine! { synced, relaxed, relaxed_under_a_namespace }

#[cfg(feature = "file")]
#[test]
fn file_without_memory_for_indexes() {
    use storage_backends::{FileOptions, FileStorage};
    run(&implementation(engine::FILE, |path| {
        let options = FileOptions::default().with_durability(Durability::Os);
        Ok(Arc::new(FileStorage::open(path, options.with_index_budget_bytes(0))?))
    }));
}

#[cfg(feature = "redb")]
#[test]
fn redb_without_a_cache() {
    use storage_backends::{RedbOptions, RedbStorage};
    run(&implementation(engine::REDB, |path| {
        let options = RedbOptions::default().with_durability(Durability::Relaxed);
        Ok(Arc::new(RedbStorage::open(path, options.with_cache_bytes(0))?))
    }));
}
