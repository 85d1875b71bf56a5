//! Every layer passes every method on: a derived method in between would bypass
//! what is below.

use std::sync::Arc;

use storage_core::conformance::{CountingStorage, Method, ReferenceStorage};
use storage_core::{
    Commit, ComponentStorage, NamespacedStorage, PageRequest, StorageError, StorageValue,
};

fn call_each<S: ComponentStorage>(storage: S) -> Result<(), StorageError> {
    storage.set("key", "value".into())?;
    storage.get("key")?;
    storage.exists("key")?;
    storage.list_keys(Some("k"))?;
    storage.list_page(PageRequest::new(1))?;
    storage.list_partitions(None, 1)?;
    storage.get_many(&["key", "missing"])?;
    storage.usage(None)?;
    storage.read_snapshot("", None, &mut |_, _| Ok(()))?;
    storage.flush()?;
    storage.try_get("key");
    storage.get_versioned("key")?;
    storage.put("key", "value".into())?;
    storage.commit(Commit::new().require_present("key"))?;
    storage.delete("key")
}

fn counted() -> Arc<CountingStorage<ReferenceStorage>> {
    Arc::new(CountingStorage::new(ReferenceStorage::new()))
}

fn assert_each_once(counted: &CountingStorage<ReferenceStorage>) {
    for method in Method::ALL {
        assert_eq!(counted.calls(method), 1, "{method:?}");
    }
    assert_eq!(counted.total(), 15);
    counted.reset();
    assert_eq!(counted.total(), 0);
}

#[test]
fn pointers_forward_every_method() {
    let inner = counted();
    call_each(&*inner).unwrap();
    assert_each_once(&inner);
    call_each(Box::new(Arc::clone(&inner))).unwrap();
    assert_each_once(&inner);
    call_each(Arc::clone(&inner)).unwrap();
    assert_each_once(&inner);
    call_each::<&dyn ComponentStorage>(&*inner).unwrap();
    assert_each_once(&inner);
    call_each::<Box<dyn ComponentStorage>>(Box::new(Arc::clone(&inner))).unwrap();
    assert_each_once(&inner);
    call_each::<Arc<dyn ComponentStorage>>(inner.clone()).unwrap();
    assert_each_once(&inner);
}

#[test]
fn a_namespace_forwards_every_method_but_one() {
    let inner = counted();
    let component = NamespacedStorage::new("app/notes/home".parse().unwrap(), Arc::clone(&inner));
    call_each(component).unwrap();
    for method in Method::ALL {
        let expected = match method {
            // The partitions among a component's own keys are not those below.
            Method::ListPartitions => 0,
            Method::ListKeys => 2,
            _ => 1,
        };
        assert_eq!(inner.calls(method), expected, "{method:?}");
    }
}

#[test]
fn a_namespace_tells_whose_it_is_and_what_is_below() {
    let inner = counted();
    let component = NamespacedStorage::new("app/notes/home".parse().unwrap(), Arc::clone(&inner));
    assert_eq!(component.namespace().to_string(), "app/notes/home");
    component.set("key", "value".into()).unwrap();
    assert_eq!(component.inner().get("app/notes/home/key").unwrap(), Some("value".into()));
}

/// Knows one key by its parts.
struct Recalls(ReferenceStorage);

impl ComponentStorage for Recalls {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        self.0.get(key)
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.0.set(key, value)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.0.delete(key)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        self.0.exists(key)
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        self.0.list_keys(prefix)
    }

    fn recall(&self, partition: &str, own_key: &str) -> Option<Option<StorageValue>> {
        ((partition, own_key) == ("app/notes/home/", "known")).then_some(Some("recalled".into()))
    }
}

#[test]
fn what_is_in_memory_is_asked_for_by_its_parts() {
    let inner = Arc::new(Recalls(ReferenceStorage::new()));
    let forwarded: [&dyn ComponentStorage; 3] = [&&*inner, &Box::new(Arc::clone(&inner)), &inner];
    for storage in forwarded {
        assert_eq!(storage.recall("app/notes/home/", "known"), Some(Some("recalled".into())));
        assert_eq!(storage.recall("app/notes/", "home/known"), None);
    }
    let home = NamespacedStorage::new("app/notes/home".parse().unwrap(), Arc::clone(&inner));
    assert_eq!(home.get("known"), Ok(Some("recalled".into())));
    assert_eq!(home.get("unknown"), Ok(None));
    // Nobody knows a key that breaks the rules.
    assert!(home.get("kno\nwn").is_err());
    // A component's keys have no partition of their own below it.
    assert_eq!(home.recall("app/notes/home/", "known"), None);
    let work = NamespacedStorage::new("app/notes/work".parse().unwrap(), inner);
    assert_eq!(work.get("known"), Ok(None));
}
