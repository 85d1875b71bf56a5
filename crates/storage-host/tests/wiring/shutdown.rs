//! Shutdown of a host.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use storage_core::conformance::{
    BlockingStorage, CountingStorage, FailingStorage, Fault, Method, Moment, ReferenceStorage,
};
use storage_host::{Commit, ComponentId, ComponentStorage, StorageError, StorageHost};

const LONG: Duration = Duration::from_secs(600);

fn id() -> ComponentId {
    "a/b/c".parse().unwrap()
}

fn is_refused<R>(result: Result<R, StorageError>) -> bool {
    let expected = "the store is unavailable: the host is shutting down";
    result.is_err_and(|error| error.to_string() == expected)
}

#[test]
fn shutdown_flushes_and_stops_calls_to_the_store() {
    let backend = Arc::new(CountingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::new(backend.clone());
    let storage = host.component(&id());
    storage.set("key", "value".into()).unwrap();
    assert!(!host.is_shut_down());
    host.shut_down(LONG).unwrap();
    assert!(host.is_shut_down());
    assert_eq!(backend.calls(Method::Flush), 1);

    backend.reset();
    assert!(is_refused(storage.set("key", "other".into())));
    assert!(is_refused(storage_core::put(&storage, "key", "other".into())));
    assert!(is_refused(storage.delete("key")));
    assert!(is_refused(storage.commit(Commit::new().set("key", "other".into()))));
    assert!(is_refused(storage.get("missing")));
    assert!(is_refused(storage.list_keys(None)));
    assert!(is_refused(storage.usage(None)));
    // The same through a new chain, another component and the handle of the store.
    assert!(is_refused(host.component(&"a/b/d".parse().unwrap()).set("key", "x".into())));
    assert!(is_refused(host.store().set("a/b/c/key", "x".into())));
    for method in Method::ALL {
        // `try_get` never reads the store.
        assert!(method == Method::TryGet || backend.calls(method) == 0, "{method:?}");
    }
    assert_eq!(backend.get("a/b/c/key").unwrap(), Some("value".into()));
    host.shut_down(LONG).unwrap();
}

#[test]
fn shutdown_finishes_writes_and_refuses_later_ones() {
    let backend = Arc::new(BlockingStorage::new(CountingStorage::new(ReferenceStorage::new())));
    let host = StorageHost::new(backend.clone());
    let held = backend.hold(&[Method::Set], Moment::Before);
    let (done, is_done) = mpsc::channel();
    thread::scope(|scope| {
        let writer = scope.spawn(|| host.component(&id()).set("first", "value".into()));
        held.wait_for(1);
        scope.spawn(|| done.send(host.shut_down(LONG)).unwrap());
        while !host.is_shut_down() {
            thread::yield_now();
        }
        // Of another component: keys of one cache may share the lock that the writer holds.
        let other: ComponentId = "a/b/other".parse().unwrap();
        assert!(is_refused(host.component(&other).delete("second")));
        assert!(is_done.try_recv().is_err(), "it waits for the first");
        assert_eq!(backend.inner().calls(Method::Flush), 0);
        drop(held);
        assert_eq!(writer.join().unwrap(), Ok(()));
        assert_eq!(is_done.recv().unwrap(), Ok(()));
    });
    assert_eq!(backend.inner().calls(Method::Flush), 1);
    assert_eq!(backend.list_keys(None).unwrap(), ["a/b/c/first"]);
}

#[test]
fn a_stuck_write_is_reported_and_others_are_flushed() {
    let backend = Arc::new(BlockingStorage::new(CountingStorage::new(ReferenceStorage::new())));
    let host = StorageHost::new(backend.clone());
    let held = backend.hold(&[Method::Set], Moment::Before);
    thread::scope(|scope| {
        scope.spawn(|| host.component(&id()).set("key", "value".into()));
        held.wait_for(1);
        let error = host.shut_down(Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("writes in progress did not finish"), "{error}");
        drop(held);
    });
    // A later shutdown flushes the write.
    host.shut_down(LONG).unwrap();
    assert!(backend.inner().calls(Method::Flush) > 0);
}

#[test]
fn a_failed_or_slow_flush_is_reported() {
    let slow = Arc::new(BlockingStorage::new(ReferenceStorage::new()));
    let held = slow.hold(&[Method::Flush], Moment::Before);
    let error = StorageHost::new(slow.clone()).shut_down(Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("was not flushed in time"), "{error}");
    drop(held);

    let failing = Arc::new(FailingStorage::new(ReferenceStorage::new()));
    let full = StorageError::IoError("disk full".into());
    failing.inject(Fault::error(full.clone()).on(&[Method::Flush]));
    assert_eq!(StorageHost::new(failing).shut_down(LONG), Err(full));
}

#[test]
fn shutdown_does_not_wait_for_a_panicked_write() {
    let failing = Arc::new(FailingStorage::new(ReferenceStorage::new()));
    failing.inject(Fault::panic("injected").on(&[Method::Set]).nth(1));
    let host = StorageHost::new(failing);
    let storage = host.component(&id());
    thread::scope(|scope| {
        assert!(scope.spawn(|| storage.set("key", "value".into())).join().is_err());
    });
    host.shut_down(LONG).unwrap();
}
