//! The storages that fail, count and wait do so only on command.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use rstest::rstest;
use storage_core::conformance::{
    BlockingStorage, CountingStorage, FailingStorage, Fault, Implementation, Method, Moment,
    ReferenceStorage, run,
};
use storage_core::{Commit, ComponentStorage, StorageError, Store, put};

fn failing() -> FailingStorage<CountingStorage<ReferenceStorage>> {
    FailingStorage::new(CountingStorage::new(ReferenceStorage::new()))
}

fn broken() -> StorageError {
    StorageError::IoError("broken".into())
}

#[rstest]
#[case::failing(Implementation::store("failing", || FailingStorage::new(ReferenceStorage::new())))]
#[case::counting(Implementation::store("counting", || CountingStorage::new(ReferenceStorage::new())))]
#[case::blocking(Implementation::store("blocking", || BlockingStorage::new(ReferenceStorage::new())))]
fn without_a_command_they_keep_the_contract(#[case] implementation: Implementation) {
    run(&implementation);
}

#[test]
fn a_fault_affects_only_its_methods() {
    let storage = failing();
    storage.inject(Fault::error(broken()).on(&[Method::Set, Method::Flush]));
    assert_eq!(storage.set("a", "1".into()), Err(broken()));
    assert_eq!(storage.flush(), Err(broken()));
    assert_eq!(storage.set("a", "1".into()), Err(broken()));
    assert_eq!(storage.get("a"), Ok(None));
    assert!(put(&storage, "a", "1".into()).is_ok());
    assert_eq!(storage.inner().calls(Method::Set), 0);
}

#[test]
fn a_fault_affects_the_nth_call() {
    let storage = failing();
    storage.get("a").unwrap();
    storage.inject(Fault::error(broken()).on(&[Method::Get, Method::Exists]).nth(3));
    storage.get("a").unwrap();
    storage.flush().unwrap();
    storage.exists("a").unwrap();
    assert_eq!(storage.get("a"), Err(broken()));
    storage.get("a").unwrap();
    storage.inject(Fault::error(broken()).nth(0));
    storage.get("a").unwrap();
}

#[test]
fn a_write_that_failed_may_have_taken_effect() {
    let storage = failing();
    storage.inject(Fault::error(broken()).on(&[Method::Commit]).nth(1).after());
    storage.inject(Fault::error(broken()).on(&[Method::Commit]).nth(2));
    let commit = |value: &str| Commit::new().set("a", value.into());
    assert_eq!(storage.commit(commit("1")), Err(broken()));
    assert_eq!(storage.get("a"), Ok(Some("1".into())));
    assert_eq!(storage.commit(commit("2")), Err(broken()));
    assert_eq!(storage.get("a"), Ok(Some("1".into())));
    assert!(storage.commit(commit("3")).is_ok());
}

#[test]
fn the_oldest_fault_happens_first_and_healing_removes_all() {
    let storage = failing();
    storage.inject(Fault::error(StorageError::ReadOnly).on(&[Method::Get]).nth(1));
    storage.inject(Fault::error(broken()));
    assert_eq!(storage.get("a"), Err(StorageError::ReadOnly));
    assert_eq!(storage.get("a"), Err(broken()));
    storage.heal();
    assert_eq!(storage.get("a"), Ok(None));
    assert_eq!(storage.try_get("", "a"), None);
}

#[test]
fn a_fault_may_be_a_panic() {
    let storage = failing();
    storage.inject(Fault::panic("struck by lightning").on(&[Method::Commit]).nth(1).after());
    let panic = catch_unwind(AssertUnwindSafe(|| put(&storage, "a", "1".into()))).unwrap_err();
    assert_eq!(*panic.downcast::<String>().unwrap(), "struck by lightning");
    assert_eq!(storage.get("a"), Ok(Some("1".into())));
}

#[rstest]
#[case::before(Moment::Before, None)]
#[case::after(Moment::After, Some("1"))]
fn a_blocked_write_has_happened_or_not(#[case] moment: Moment, #[case] seen: Option<&str>) {
    let storage = BlockingStorage::new(ReferenceStorage::new());
    let held = storage.hold(&[Method::Set], moment);
    thread::scope(|scope| {
        let writer = scope.spawn(|| storage.set("a", "1".into()));
        held.wait_for(1);
        assert_eq!(held.waiting(), 1);
        assert!(!writer.is_finished());
        assert_eq!(storage.get("a").unwrap(), seen.map(Into::into));
        held.release();
        writer.join().unwrap().unwrap();
    });
    assert_eq!(storage.get("a").unwrap(), Some("1".into()));
    // Nothing is blocked any more.
    storage.set("a", "2".into()).unwrap();
}

#[test]
fn each_hold_is_released_separately() {
    let storage = Arc::new(BlockingStorage::new(ReferenceStorage::new()));
    let sets = storage.hold(&[Method::Set], Moment::Before);
    let gets = storage.hold(&[Method::Get], Moment::Before);
    let spawn = |call: fn(&BlockingStorage<ReferenceStorage>)| {
        let storage = Arc::clone(&storage);
        thread::spawn(move || call(&storage))
    };
    let writers = [1, 2].map(|_| spawn(|storage| storage.set("a", "1".into()).unwrap()));
    let reader = spawn(|storage| assert_eq!(storage.get("a").unwrap(), Some("1".into())));
    sets.wait_for(2);
    gets.wait_for(1);
    drop(sets);
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(gets.waiting(), 1);
    drop(gets);
    reader.join().unwrap();
}
