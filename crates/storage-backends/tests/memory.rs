//! The memory store: the contract, a comparison with the reference, and components that
//! are added and removed.
#![cfg(feature = "memory")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;

use proptest::prelude::*;
use proptest::sample::select;
use rstest::rstest;
use storage_backends::MemoryStorage;
use storage_core::conformance::{Feature, Implementation, ReferenceStorage, run};
use storage_core::{
    Budget, Check, Commit, ComponentStorage, Expected, PageRequest, Revision, StorageError,
    StorageValue, Store, VersionedValue, Write, split_full_key,
};

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
    let by_design = [Feature::Persistence, Feature::Components, Feature::Store, Feature::Snapshots];
    assert!(report.skipped.iter().all(|(_, feature)| by_design.contains(feature)), "{report:?}");
}

/// A call to both stores.
#[derive(Debug, Clone)]
enum Call {
    Put(String, StorageValue),
    Delete(String),
    Commit(Commit),
    Page(String, Option<String>, usize),
    Components(Option<String>, usize),
    Usage(String),
    GetMany(Vec<String>),
}

/// Keys with colliding components and prefixes, some of them invalid.
fn key() -> impl Strategy<Value = String> {
    let parts = vec!["a", "b", "/", "-", "0", "\u{e9}"];
    prop_oneof![
        8 => proptest::collection::vec(select(parts), 1..8).prop_map(|parts| parts.concat()),
        6 => select(vec!["a/b/c/1", "a/b/c/2", "a/b/c/", "a/b/cc/1", "a/b/c-/1", "a/b"])
            .prop_map(str::to_owned),
        1 => select(vec!["", "a\0b", "a/b/c/\n"]).prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = StorageValue> {
    proptest::collection::vec(any::<u8>(), 0..6).prop_map(StorageValue::new)
}

fn check() -> impl Strategy<Value = Check> {
    let expected = prop_oneof![
        Just(Expected::Absent),
        Just(Expected::Present),
        (0_u64..30).prop_map(|number| Expected::Revision(Revision::new(number))),
        value().prop_map(Expected::Value),
    ];
    (key(), expected).prop_map(|(key, expected)| Check { key, expected })
}

fn write() -> impl Strategy<Value = Write> {
    (key(), proptest::option::of(value())).prop_map(|(key, value)| Write { key, value })
}

fn budget() -> impl Strategy<Value = Budget> {
    (0_u64..30, 0_u64..6).prop_map(|(max_bytes, max_keys)| Budget { max_bytes, max_keys })
}

/// Commits. Most of those with a budget cover one component.
fn commit() -> impl Strategy<Value = Commit> {
    let checks = proptest::collection::vec(check(), 0..2);
    let writes = proptest::collection::vec(write(), 0..5);
    (checks, writes, proptest::option::of(budget()), any::<bool>()).prop_map(
        |(mut checks, mut writes, budget, anywhere)| {
            if let (Some(_), Some(first), false) = (budget, writes.first(), anywhere) {
                let component = split_full_key(&first.key).0.to_owned();
                checks.retain(|check| split_full_key(&check.key).0 == component);
                writes.retain(|write| split_full_key(&write.key).0 == component);
            }
            Commit { checks, writes, budget }
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    let after = || proptest::option::of(key());
    prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| Call::Put(key, value)),
        2 => key().prop_map(Call::Delete),
        5 => commit().prop_map(Call::Commit),
        2 => (key(), after(), 0_usize..8).prop_map(|(prefix, after, limit)| Call::Page(prefix, after, limit)),
        1 => (after(), 0_usize..5).prop_map(|(after, limit)| Call::Components(after, limit)),
        1 => key().prop_map(Call::Usage),
        1 => proptest::collection::vec(key(), 0..6).prop_map(Call::GetMany),
    ]
}

/// The result of a call, with revisions relative to `base`.
fn result_of<S: Store>(storage: &S, call: &Call, base: u64) -> String {
    let counted = |written: Result<Revision, StorageError>| {
        format!("{:?}", written.map(|revision| revision.get() - base))
    };
    match call.clone() {
        Call::Put(key, value) => counted(storage_core::put(&storage, &key, value)),
        Call::Delete(key) => format!("{:?}", storage.delete(&key)),
        Call::Commit(mut commit) => {
            for check in &mut commit.checks {
                if let Expected::Revision(revision) = &mut check.expected {
                    *revision = Revision::new(revision.get() + base);
                }
            }
            counted(storage.commit(commit))
        }
        Call::Page(prefix, after, limit) => {
            let request = PageRequest { prefix: &prefix, after: after.as_deref(), limit };
            format!("{:?} {:?}", storage.list_page(request), storage.list_keys(Some(&prefix)))
        }
        Call::Components(after, limit) => {
            format!("{:?}", storage.list_components(after.as_deref(), limit))
        }
        Call::Usage(prefix) => format!("{:?}", storage.usage(Some(&prefix))),
        Call::GetMany(keys) => {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let found = storage.get_many(&keys);
            format!("{:?}", found.map(|values| values.into_iter().map(bytes).collect::<Vec<_>>()))
        }
    }
}

fn bytes(value: Option<StorageValue>) -> Option<Vec<u8>> {
    value.map(StorageValue::into_bytes)
}

proptest! {
    /// Includes errors and revisions.
    #[test]
    fn it_returns_what_the_reference_returns(calls in proptest::collection::vec(call(), 0..60)) {
        let (memory, reference) = (MemoryStorage::new(), ReferenceStorage::new());
        let first = [storage_core::put(&memory, "first", "".into())?, storage_core::put(&reference, "first", "".into())?];
        let [base, reference_base] = first.map(Revision::get);
        for call in &calls {
            let expected = result_of(&reference, call, reference_base);
            prop_assert_eq!(result_of(&memory, call, base), expected, "{:?}", call);
        }
        let keys = reference.list_keys(None)?;
        prop_assert_eq!(memory.list_keys(None)?, keys.clone());
        for key in keys {
            let counted = |found: Option<VersionedValue>, base: u64| {
                found.map(|found| (found.revision.get() - base, found.value.into_bytes()))
            };
            let wanted = counted(reference.get_versioned(&key)?, reference_base);
            prop_assert_eq!(counted(memory.get_versioned(&key)?, base), wanted);
        }
    }
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

/// A check of an absent key holds until the writes are done, also if its component does
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
