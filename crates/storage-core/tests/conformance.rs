//! The suite passes on implementations that keep the contract, and skips by
//! name what they lack.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rstest::rstest;
use storage_core::conformance::{Feature, Implementation, ReferenceStorage, Report, cases, run};
use storage_core::{ComponentStorage, StorageError, StorageValue};

/// The five required methods and nothing else: no rules for keys, and every
/// other method is the derived one.
#[derive(Debug, Default)]
struct Toy(Mutex<BTreeMap<String, StorageValue>>);

#[expect(clippy::missing_trait_methods, reason = "what is tested are the derived methods")]
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

fn toy() -> Implementation {
    [Feature::KeyRules, Feature::Revisions, Feature::Commits, Feature::Budgets, Feature::Snapshots]
        .into_iter()
        .fold(Implementation::new("toy", Toy::default), Implementation::without)
}

fn reference() -> Implementation {
    Implementation::new("reference", ReferenceStorage::new)
}

/// As if it lasted: each place keeps its storage and hands it out again.
fn kept() -> Implementation {
    Implementation::lasting("kept reference", || {
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
    Implementation::new("shared reference", || -> Arc<dyn ComponentStorage> {
        Arc::new(ReferenceStorage::new())
    })
}

#[rstest]
#[case::reference(reference(), &[Feature::Lasting])]
#[case::boxed(boxed(), &[Feature::Lasting])]
#[case::shared(shared(), &[Feature::Lasting])]
#[case::kept(kept(), &[])]
#[case::namespaced(reference().namespaced(), &[Feature::Components, Feature::Lasting])]
#[case::namespaced_boxed(boxed().namespaced(), &[Feature::Components, Feature::Lasting])]
#[case::namespaced_shared(shared().namespaced(), &[Feature::Components, Feature::Lasting])]
#[case::namespaced_kept(kept().namespaced(), &[Feature::Components])]
#[case::toy(toy(), &[
    Feature::KeyRules, Feature::Revisions, Feature::Commits, Feature::Budgets,
    Feature::Snapshots, Feature::Lasting,
])]
#[case::namespaced_toy(toy().namespaced(), &[
    Feature::Components, Feature::Revisions, Feature::Commits, Feature::Budgets,
    Feature::Snapshots, Feature::Lasting,
])]
fn the_contract_is_kept(#[case] implementation: Implementation, #[case] lacks: &[Feature]) {
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
