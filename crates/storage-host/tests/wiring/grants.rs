//! Grants: a component sees only the granted keys of another one.

use std::sync::Arc;
use std::thread;

use storage_core::conformance::{CountingStorage, Feature, Implementation, ReferenceStorage, run};
use storage_host::{
    Access, Budget, Commit, ComponentId, ComponentSettings, ComponentStorage, Grant,
    GrantedStorage, PageRequest, StorageError, StorageHost, Store, Usage,
};

fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

fn owner() -> ComponentId {
    id("app/notes/home")
}

fn reader() -> ComponentId {
    id("app/report/1")
}

fn grant(prefix: &str, access: Access) -> Grant {
    Grant { owner: owner(), prefix: prefix.to_owned(), access }
}

type Counted = Arc<CountingStorage<ReferenceStorage>>;

/// A host in which `owner` has some keys, with these grants to `reader`.
fn granted(grants: &[(&str, Access)]) -> (StorageHost, Counted, GrantedStorage) {
    let backend = Arc::new(CountingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::new(backend.clone());
    let own = host.component(&owner());
    for key in ["a/1", "a/2", "b/1", "b/2", "private", "z"] {
        own.set(key, key.into()).unwrap();
    }
    for (prefix, access) in grants {
        host.grant(&reader(), grant(prefix, *access));
    }
    let storage = host.granted(&reader(), &owner()).unwrap();
    (host, backend, storage)
}

fn denied<T: std::fmt::Debug>(result: Result<T, StorageError>) {
    assert!(matches!(result, Err(StorageError::AccessDenied(_))), "{result:?}");
}

#[test]
fn a_grant_of_all_keys_keeps_the_contract() {
    let bare = Implementation::store("reference", ReferenceStorage::new);
    let report = run(&bare
        .without(Feature::Components)
        .with_max_key_bytes(storage_core::MAX_KEY_BYTES)
        .wrapped_store("granted", |inner| {
            let host = StorageHost::new(Arc::from(inner));
            host.grant(&reader(), grant("", Access::ReadWrite));
            host.granted(&reader(), &owner()).unwrap()
        }));
    assert!(report.passed.len() > 20, "{:?}", report.passed);
}

#[test]
fn grants_are_neither_mutual_nor_transitive() {
    let (host, _, _) = granted(&[("a/", Access::ReadWrite)]);
    assert!(host.granted(&owner(), &reader()).is_none());
    assert!(host.granted(&id("app/report/2"), &owner()).is_none());
    assert!(host.granted(&reader(), &id("app/notes/work")).is_none());
    assert_eq!(host.grants(&reader()), [grant("a/", Access::ReadWrite)]);
    assert_eq!(host.grants(&owner()), []);
}

#[test]
fn ungranted_keys_are_denied_without_a_call_of_the_store() {
    let (_host, backend, storage) = granted(&[("a/", Access::Read), ("b/1", Access::ReadWrite)]);
    backend.reset();
    for key in ["private", "z", "b/2", "b", "a", "nowhere", "A/1"] {
        assert_eq!(storage.get(key), Ok(None), "{key}");
        assert_eq!(storage.exists(key), Ok(false), "{key}");
        assert_eq!(storage.try_get("", key), Some(None), "{key}");
        assert_eq!(storage.get_versioned(key), Ok(None), "{key}");
        assert_eq!(storage.get_many(&[key]), Ok(vec![None]), "{key}");
        denied(storage.set(key, "mine".into()));
        denied(storage_core::put(&storage, key, "mine".into()));
        denied(storage.delete(key));
        denied(storage.commit(Commit::new().delete(key)));
        denied(storage.commit(Commit::new().require_absent(key).set("b/1", "x".into())));
    }
    assert_eq!(storage.list_keys(Some("private")), Ok(vec![]));
    assert_eq!(storage.usage(Some("z")), Ok(Usage::default()));
    let page = storage.list_page(PageRequest::new(10).with_prefix("b/2")).unwrap();
    assert!(page.keys.is_empty() && !page.more);
    // An invalid key is refused, and not cached as absent.
    let long = "k".repeat(1_025);
    for text in ["", "a/\n", &long] {
        let refused = [
            storage.get(text).map(drop),
            storage.exists(text).map(drop),
            storage.get_versioned(text).map(drop),
            storage.get_many(&["a/1", text]).map(drop),
        ];
        for result in refused {
            assert!(matches!(result, Err(StorageError::InvalidKey(_))), "{result:?}");
        }
        assert_eq!(storage.try_get("", text), None);
        assert_eq!(storage.set(text, "mine".into()), Err(StorageError::AccessDenied("".into())));
    }
    assert_eq!(backend.total(), 0, "the store was called");
}

#[test]
fn a_read_grant_denies_writes() {
    let (host, backend, storage) = granted(&[("a/", Access::Read)]);
    assert_eq!(storage.get("a/1"), Ok(Some("a/1".into())));
    backend.reset();
    denied(storage.set("a/1", "mine".into()));
    denied(storage.delete("a/1"));
    denied(storage.commit(Commit::new().set("a/3", "mine".into())));
    assert_eq!(backend.total(), 0);
    assert_eq!(host.component(&owner()).get("a/1"), Ok(Some("a/1".into())));
}

#[test]
fn several_grants_list_and_count_as_one() {
    let grants = [
        ("b/", Access::Read),
        ("a/1", Access::ReadWrite),
        ("b/2", Access::ReadWrite),
        ("z", Access::Read),
    ];
    let (_host, _, storage) = granted(&grants);
    assert_eq!(storage.list_keys(None).unwrap(), ["a/1", "b/1", "b/2", "z"]);
    assert_eq!(storage.list_keys(Some("b")).unwrap(), ["b/1", "b/2"]);
    assert_eq!(storage.usage(None).unwrap(), Usage { bytes: 3 * 6 + 2, keys: 4 });
    for limit in 0..5 {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().map(String::as_str);
            let page = storage.list_page(PageRequest { prefix: "", after, limit }).unwrap();
            assert!(page.keys.len() <= limit);
            keys.extend(page.keys);
            if !page.more || limit == 0 {
                assert_eq!(page.more, limit == 0);
                break;
            }
        }
        assert_eq!(keys.len(), if limit == 0 { 0 } else { 4 }, "{limit}");
    }
    storage.set("b/2", "new".into()).unwrap();
    denied(storage.set("b/1", "new".into()));
    let values = storage.get_many(&["private", "b/2", "a/2", "z"]).unwrap();
    assert_eq!(values, [None, Some("new".into()), None, Some("z".into())]);
}

#[test]
fn writes_through_a_grant_count_for_the_owner() {
    let backend: Arc<dyn Store> = Arc::new(ReferenceStorage::new());
    let quota = Some(Budget { max_bytes: 10, max_keys: 9 });
    let settings = ComponentSettings { quota, ..ComponentSettings::default() };
    let host = StorageHost::builder(backend).component(owner(), settings).build();
    host.grant(&reader(), grant("in/", Access::ReadWrite));
    let storage = host.granted(&reader(), &owner()).unwrap();
    let own = host.component(&owner());
    assert_eq!(own.get("in/1"), Ok(None)); // cached absence
    storage.set("in/1", "123456".into()).unwrap();
    assert_eq!(own.get("in/1"), Ok(Some("123456".into())));
    assert_eq!(storage.set("in/2", "".into()), Err(StorageError::QuotaExceeded));
    assert_eq!(host.usage(&owner()).unwrap().used_bytes, 10);
    assert_eq!(host.usage(&reader()).unwrap().used_bytes, 0);
}

#[test]
fn open_handles_lose_a_revoked_grant() {
    let (host, backend, storage) = granted(&[("a/", Access::Read), ("b/", Access::ReadWrite)]);
    assert!(host.revoke(&reader(), &owner(), "b/"));
    assert!(!host.revoke(&reader(), &owner(), "b/"));
    denied(storage.set("b/1", "x".into()));
    assert_eq!(storage.get("b/1"), Ok(None));
    assert_eq!(storage.get("a/1"), Ok(Some("a/1".into())));
    assert!(host.revoke(&reader(), &owner(), "a/"));
    backend.reset();
    denied(storage.get("a/1"));
    denied(storage.list_keys(None));
    denied(storage.usage(None));
    denied(storage.get_many(&["a/1"]));
    assert_eq!(storage.try_get("", "a/1"), None);
    assert_eq!(backend.total(), 0);
    assert!(host.granted(&reader(), &owner()).is_none());
    // Granting again creates a new grant; old handles stay revoked.
    host.grant(&reader(), grant("a/", Access::Read));
    assert_eq!(host.granted(&reader(), &owner()).unwrap().get("a/1"), Ok(Some("a/1".into())));
}

#[test]
fn a_call_sees_a_grant_completely_or_not_at_all() {
    let (host, _, storage) = granted(&[("a/", Access::Read)]);
    thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let (mut seen, mut refused) = (0, 0);
            while seen < 200 || refused < 200 {
                // Without a grant, the open handle is used.
                let granted = host.granted(&reader(), &owner()).unwrap_or_else(|| storage.clone());
                match granted.get("a/1") {
                    Ok(Some(value)) => {
                        assert_eq!(value, "a/1".into());
                        seen += 1;
                    }
                    Ok(None) => panic!("a granted key is missing"),
                    Err(StorageError::AccessDenied(_)) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        while !calls.is_finished() {
            host.revoke(&reader(), &owner(), "a/");
            thread::yield_now();
            host.grant(&reader(), grant("a/", Access::Read));
            thread::yield_now();
        }
        calls.join().unwrap();
    });
}
