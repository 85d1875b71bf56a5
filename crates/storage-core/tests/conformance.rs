//! The suite passes on implementations that keep the contract, and skips by
//! name what they lack.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rstest::rstest;
use storage_core::conformance::{
    BlockingStorage, Feature, Implementation, ReferenceStorage, Report, SharedReference, cases, run,
};
use storage_core::{ComponentStorage, StorageError, StorageValue, Store};

/// Only the required methods, and no rules for keys.
#[derive(Debug, Default)]
struct Toy(Mutex<BTreeMap<String, StorageValue>>);

#[expect(clippy::missing_trait_methods, reason = "the defaults are tested")]
impl ComponentStorage for Toy {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.0.lock().unwrap().insert(key.to_owned(), value);
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.0.lock().unwrap().remove(key);
        Ok(())
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.0.lock().unwrap().contains_key(key))
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let keys = self.0.lock().unwrap();
        let wanted = |key: &&String| key.starts_with(prefix.unwrap_or_default());
        Ok(keys.keys().filter(wanted).cloned().collect())
    }
}

const TOY_LACKS: [Feature; 4] =
    [Feature::KeyRules, Feature::Revisions, Feature::Commits, Feature::Budgets];

fn toy() -> Implementation {
    TOY_LACKS.into_iter().fold(Implementation::new("toy", Toy::default), Implementation::without)
}

fn reference() -> Implementation {
    Implementation::store("reference", ReferenceStorage::new)
}

/// Behaves as a persistent store: opening returns the same storage.
fn kept() -> Implementation {
    Implementation::persistent("kept reference", || {
        let storage = Arc::new(ReferenceStorage::new());
        move || Arc::clone(&storage)
    })
}

fn boxed() -> Implementation {
    Implementation::new("boxed reference", || -> Box<dyn ComponentStorage> {
        Box::new(ReferenceStorage::new())
    })
}

fn shared() -> Implementation {
    Implementation::store("shared reference", || -> Arc<dyn Store> {
        Arc::new(ReferenceStorage::new())
    })
}

fn several_hosts() -> Implementation {
    Implementation::persistent("shared reference", || {
        let store = SharedReference::new();
        move || store.connect()
    })
    .several_hosts()
}

/// Through a wrapper that intercepts calls.
fn intercepted_hosts() -> Implementation {
    Implementation::persistent("intercepted reference", || {
        let store = SharedReference::new();
        move || BlockingStorage::new(store.connect())
    })
    .several_hosts()
}

const NO_STORE: &[Feature] = &[Feature::Store, Feature::Snapshots, Feature::Persistence];

#[rstest]
#[case::reference(reference(), &[Feature::Persistence])]
#[case::boxed(boxed(), NO_STORE)]
#[case::shared(shared(), &[Feature::Persistence])]
#[case::kept(kept(), &[])]
#[case::several_hosts(several_hosts(), &[])]
#[case::intercepted_hosts(intercepted_hosts(), &[])]
#[case::namespaced_boxed(boxed().namespaced(), &[&[Feature::Components], NO_STORE].concat())]
#[case::namespaced_shared(shared().namespaced(), &[&[Feature::Components], NO_STORE].concat())]
#[case::namespaced_kept(
    kept().namespaced(),
    &[Feature::Components, Feature::Store, Feature::Snapshots],
)]
#[case::toy(toy(), &[&TOY_LACKS, NO_STORE].concat())]
#[case::namespaced_toy(
    toy().namespaced(),
    &[&[Feature::Components], &TOY_LACKS[1..], NO_STORE].concat(),
)]
#[case::required_methods(
    kept().required_methods(),
    &[Feature::Revisions, Feature::Commits, Feature::Budgets, Feature::Snapshots],
)]
fn the_contract_is_kept(#[case] implementation: Implementation, #[case] lacks: &[Feature]) {
    let one_host = [Feature::SeveralHosts];
    let one_host = if implementation.has(Feature::SeveralHosts) { &[][..] } else { &one_host };
    let lacks = &[lacks, one_host].concat();
    let Report { passed, skipped } = run(&implementation);
    assert_eq!(passed.len() + skipped.len(), cases().count());
    for case in cases() {
        let needs_more = case.needs().iter().any(|feature| lacks.contains(feature));
        let was_skipped = skipped.iter().any(|(name, _)| *name == case.name());
        assert_eq!(was_skipped, needs_more, "{}", case.name());
    }
    for (name, feature) in skipped {
        assert!(lacks.contains(&feature), "{name} was skipped for {feature:?}");
    }
}

#[test]
fn cases_have_names_of_their_own() {
    let mut names: Vec<_> = cases().map(|case| case.name()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
