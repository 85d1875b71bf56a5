//! Keys that are known in memory are not read again, and keys that are not are joined and
//! read at once.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use storage_core::conformance::{CountingStorage, Method, ReferenceStorage};
use storage_core::{
    ComponentStorage, NamespacedStorage, StorageError, StorageValue, forward_storage,
};

/// Knows the keys that begin with `known`.
struct Knowing {
    storage: CountingStorage<ReferenceStorage>,
    /// How many values a batch lacks.
    lacks: usize,
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for Knowing {
    forward_storage!(self => self.storage; get, set, delete, exists, list_keys, list_page, usage);
    forward_storage!(self => self.storage; get_versioned, commit);

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        let mut values = self.storage.get_many(keys)?;
        values.truncate(keys.len() - self.lacks);
        Ok(values)
    }

    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        key.starts_with("known").then(|| self.storage.inner().get(&[prefix, key].concat()).unwrap())
    }
}

fn component(lacks: usize) -> NamespacedStorage<Knowing> {
    let storage = CountingStorage::new(ReferenceStorage::new());
    let component = NamespacedStorage::new("a/b/c".parse().unwrap(), Knowing { storage, lacks });
    for key in ["known", "other"] {
        component.set(key, key.into()).unwrap();
    }
    component.inner().storage.reset();
    component
}

#[test]
fn reads_of_known_keys_do_not_reach_the_storage() {
    let component = component(0);
    let counted = &component.inner().storage;
    assert_eq!(component.get("known").unwrap(), Some("known".into()));
    assert!(component.exists("known").unwrap() && !component.exists("known too").unwrap());
    let values = component.get_many(&["known", "known too"]).unwrap();
    assert_eq!(values, [Some("known".into()), None]);
    assert_eq!(counted.total(), 0);

    assert!(component.exists("other").unwrap() && !component.exists("missing").unwrap());
    assert_eq!(counted.calls(Method::Exists), 2);
    let keys = ["missing", "known", "other", "known too", "other"];
    let values = component.get_many(&keys).unwrap();
    let other = || Some("other".into());
    assert_eq!(values, [None, Some("known".into()), other(), None, other()]);
    assert_eq!(counted.calls(Method::GetMany), 1);
}

#[test]
fn too_few_values_are_an_error() {
    let error = component(1).get_many(&["other", "known", "missing"]).unwrap_err();
    let expected = "the storage below returned 1 values for 2 keys";
    assert!(error.to_string().contains(expected), "{error}");
}
