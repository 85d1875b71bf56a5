//! Every layer forwards every method: a default in between would bypass the layer
//! below.
#![allow(clippy::panic, reason = "helpers of tests")]

use std::sync::Arc;

use storage_core::conformance::{
    CountingStorage, HostConnection, Method, ReferenceStorage, SharedReference,
};
use storage_core::{
    Commit, ComponentStorage, NamespacedStorage, PageRequest, StorageError, StorageValue, Store,
    forward_storage,
};

fn call_each<S: ComponentStorage>(storage: &S) -> Result<(), StorageError> {
    storage.set("key", "value".into())?;
    storage.get("key")?;
    storage.exists("key")?;
    storage.list_keys(Some("k"))?;
    storage.list_page(PageRequest::new(1))?;
    storage.get_many(&["key", "missing"])?;
    storage.usage(None)?;
    storage.try_get("", "key");
    storage.get_versioned("key")?;
    storage.commit(Commit::new().require_present("key"))?;
    storage.delete("key")
}

fn call_each_of_a_store<S: Store>(store: S) -> Result<(), StorageError> {
    call_each(&store)?;
    assert_eq!(store.properties().kind, "shared reference");
    store.shared().map(|shared| shared.component_revisions(&["a/b/c/"])).transpose()?;
    store.list_components(None, 1)?;
    store.read_snapshot("", None, &mut |_, _| Ok(()))?;
    store.verify(&mut |problem| panic!("{problem}"))?;
    assert!(matches!(store.compact(), Err(StorageError::Unsupported(_))));
    store.flush()
}

fn counted() -> Arc<CountingStorage<HostConnection>> {
    Arc::new(CountingStorage::new(SharedReference::new().connect()))
}

fn assert_each_once(counted: &CountingStorage<HostConnection>) {
    for method in Method::ALL {
        assert_eq!(counted.calls(method), 1, "{method:?}");
    }
    assert_eq!(counted.total() as usize, Method::ALL.len());
    counted.reset();
    assert_eq!(counted.total(), 0);
}

#[test]
fn pointers_forward_every_method() {
    let inner = counted();
    call_each_of_a_store(&*inner).unwrap();
    assert_each_once(&inner);
    call_each_of_a_store(Box::new(Arc::clone(&inner))).unwrap();
    assert_each_once(&inner);
    call_each_of_a_store::<&dyn Store>(&*inner).unwrap();
    assert_each_once(&inner);
    call_each_of_a_store::<Box<dyn Store>>(Box::new(Arc::clone(&inner))).unwrap();
    assert_each_once(&inner);
    let store: Arc<dyn Store> = inner.clone();
    call_each_of_a_store(Arc::clone(&store)).unwrap();
    assert_each_once(&inner);
    let upcast: Arc<dyn ComponentStorage> = store;
    call_each(&upcast).unwrap();
    assert_eq!(inner.total() as usize, Method::ALL.len() - Method::STORE.len());
}

#[test]
fn a_namespace_forwards_every_method() {
    let inner = counted();
    let component = NamespacedStorage::new("app/notes/home".parse().unwrap(), Arc::clone(&inner));
    call_each(&component).unwrap();
    for method in Method::ALL.into_iter().filter(|method| !Method::STORE.contains(method)) {
        // `get`, `exists` and `get_many` ask for known values first.
        let expected = if method == Method::TryGet { 5 } else { 1 };
        assert_eq!(inner.calls(method), expected, "{method:?}");
    }
}

#[test]
fn a_namespace_returns_its_id_and_the_storage_below() {
    let inner = counted();
    let component = NamespacedStorage::new("app/notes/home".parse().unwrap(), Arc::clone(&inner));
    assert_eq!(component.component_id().to_string(), "app/notes/home");
    component.set("key", "value".into()).unwrap();
    assert_eq!(component.inner().get("app/notes/home/key").unwrap(), Some("value".into()));
}

/// Knows one key by its component prefix and user key.
struct Knows(ReferenceStorage);

impl ComponentStorage for Knows {
    forward_storage!(self => self.0; get, set, delete, exists, list_keys);

    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        ((prefix, key) == ("app/notes/home/", "known")).then_some(Some("from memory".into()))
    }
}

#[test]
fn a_known_value_is_read_without_joining_its_key() {
    let inner = Arc::new(Knows(ReferenceStorage::new()));
    let home = NamespacedStorage::new("app/notes/home".parse().unwrap(), Arc::clone(&inner));
    assert_eq!(home.get("known"), Ok(Some("from memory".into())));
    assert_eq!(home.try_get("kno", "wn"), Some(Some("from memory".into())));
    assert_eq!(home.get("unknown"), Ok(None));
    assert!(home.get("kno\nwn").is_err());
    let work = NamespacedStorage::new("app/notes/work".parse().unwrap(), inner);
    assert_eq!(work.get("known"), Ok(None));
}
