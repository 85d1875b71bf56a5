//! The memory store: the conformance suite, and components that are added and removed.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use rstest::rstest;
use storage_backends::MemoryStorage;
use storage_core::conformance::{Feature, Implementation, run};
use storage_core::{Commit, ComponentStorage, StorageError, StorageValue, Store};

fn memory() -> Implementation {
    Implementation::store("memory", MemoryStorage::new)
}

fn shared() -> Implementation {
    Implementation::store("shared memory", || -> Arc<dyn Store> { Arc::new(MemoryStorage::new()) })
}

#[rstest]
#[case::bare(memory())]
#[case::shared(shared())]
#[case::namespaced(memory().namespaced())]
fn the_contract_is_kept(#[case] implementation: Implementation) {
    let report = run(&implementation);
    let below_a_namespace = [Feature::Components, Feature::Store, Feature::Snapshots];
    let by_design =
        [&[Feature::Persistence, Feature::SeveralHosts], &below_a_namespace[..]].concat();
    assert!(report.skipped.iter().all(|(_, feature)| by_design.contains(feature)), "{report:?}");
}

/// While other threads empty the component, every write can be read afterwards.
#[test]
fn removing_an_empty_component_loses_no_write() {
    const WRITERS: usize = 3;
    const ROUNDS: usize = 3_000;
    let storage = MemoryStorage::new();
    thread::scope(|scope| {
        for n in 0..WRITERS {
            let storage = &storage;
            scope.spawn(move || {
                let key = format!("a/b/c/{n}");
                for round in 0..ROUNDS {
                    let value = StorageValue::from(round.to_string().as_str());
                    match round % 3 {
                        0 => storage.set(&key, value.clone()).unwrap(),
                        1 => drop(storage_core::put(&storage, &key, value.clone()).unwrap()),
                        _ => drop(storage.commit(Commit::new().set(&*key, value.clone())).unwrap()),
                    }
                    assert_eq!(storage.get(&key).unwrap(), Some(value));
                    let listed = storage.list_components(None, 9).unwrap().keys;
                    assert_eq!(listed, ["a/b/c/"], "it holds {key}");
                    match round % 2 {
                        0 => storage.delete(&key).unwrap(),
                        _ => drop(storage.commit(Commit::new().delete(&*key)).unwrap()),
                    }
                    assert_eq!(storage.get(&key).unwrap(), None);
                }
            });
        }
    });
    assert_eq!(storage.list_components(None, 9).unwrap().keys, Vec::<String>::new());
    assert_eq!(storage.usage(None).unwrap().keys, 0);
}

/// A check of an absent key holds until the writes are done, even if its component does
/// not exist.
#[test]
fn an_absent_key_in_a_new_component_stays_absent_during_the_commit() {
    let storage = MemoryStorage::new();
    for round in 0..500 {
        // Each may write only while the other has not.
        let (one, two) = (format!("a/{round}/one/k"), format!("b/{round}/two/k"));
        let commit = |absent: &str, written: &str| {
            storage.commit(Commit::new().require_absent(absent).set(written, "".into()))
        };
        let (first, second) = thread::scope(|scope| {
            let first = scope.spawn(|| commit(&one, &two));
            let second = commit(&two, &one);
            (first.join().unwrap(), second)
        });
        let errors = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(
            matches!(&errors[0], StorageError::AlreadyExists(key) if *key == one || *key == two)
        );
    }
}

/// Listings are in order and always have the components that stay.
#[test]
fn components_are_listed_while_others_are_added_and_removed() {
    let storage = MemoryStorage::new();
    let stay: Vec<String> = (0..20).map(|n| format!("app/stay/{n:02}/")).collect();
    for prefix in &stay {
        storage.set(&format!("{prefix}k"), "".into()).unwrap();
    }
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..2_000 {
                let key = format!("app/stay/{:02}-/k", round % 20);
                storage.set(&key, "".into()).unwrap();
                storage.delete(&key).unwrap();
            }
        });
        loop {
            let last = writer.is_finished();
            let names = storage.list_components(None, usize::MAX).unwrap().keys;
            let unique: BTreeSet<&String> = names.iter().collect();
            assert!(names.is_sorted() && unique.len() == names.len(), "{names:?}");
            assert!(stay.iter().all(|name| unique.contains(name)), "{names:?}");
            let keys = storage.list_keys(Some("app/")).unwrap();
            assert!(keys.is_sorted(), "{keys:?}");
            assert!(stay.iter().all(|name| keys.contains(&format!("{name}k"))), "{keys:?}");
            if last {
                break;
            }
        }
    });
    assert_eq!(storage.list_components(None, usize::MAX).unwrap().keys, stay);
}
