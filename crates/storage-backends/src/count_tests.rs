//! While the keys of a component are counted, other calls go on, and the result is exact.
#![cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use storage_core::{Budget, Commit, ComponentStorage, PageRequest, StorageError, Store, Usage};

use crate::hooks;

/// A call that takes longer is blocked.
const TIMEOUT: Duration = Duration::from_secs(20);

const KEYS: u64 = 1_000;
const PREFIX: &str = "app/large/1/";

type Shared = Arc<dyn Store>;

/// When the count is blocked.
#[derive(Clone, Copy)]
enum Moment {
    BeforeFirstKey,
    AfterLastKey,
}

fn key(number: u64) -> String {
    format!("{PREFIX}key-{number:04}")
}

fn budget(max_bytes: u64) -> Budget {
    Budget { max_bytes, max_keys: u64::MAX }
}

fn set(storage: &Shared, key: &str, value: &str, budget: Budget) -> Result<(), StorageError> {
    storage.commit(Commit::new().set(key, value.into()).with_budget(budget)).map(drop)
}

/// The usage of the component, by its listing.
fn recount(storage: &Shared) -> Usage {
    let keys = storage.list_keys(Some(PREFIX)).unwrap();
    let value_len = |key: &String| storage.get(key).unwrap().unwrap().len();
    keys.iter().map(|key| Usage::of(&key[PREFIX.len()..], value_len(key))).sum()
}

/// Runs a call in a thread and fails if it takes too long.
#[track_caller]
fn in_time<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || sender.send(call()));
    receiver.recv_timeout(TIMEOUT).unwrap_or_else(|_| {
        panic!("the call waits for the count, or it panicked: {}", thread.is_finished())
    })
}

/// Counts the component by its first write with a budget, and makes other calls while the
/// count is blocked.
fn during_count<T: Send + 'static>(
    storage: &Shared,
    first: impl FnOnce(&Shared) -> Result<(), StorageError> + Send + 'static,
    others: fn(&Shared, Moment) -> T,
) -> (Result<(), StorageError>, [T; 2]) {
    let (reached, is_reached) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let is_released = Arc::new(Mutex::new(is_released));
    let shared = Arc::clone(storage);
    let counting = thread::spawn(move || {
        hooks::hold_the_next_count(move || {
            reached.send(()).unwrap();
            let _ = is_released.lock().unwrap().recv_timeout(2 * TIMEOUT);
        });
        first(&shared)
    });
    let results = [Moment::BeforeFirstKey, Moment::AfterLastKey].map(|moment| {
        is_reached.recv_timeout(TIMEOUT).expect("a count");
        let shared = Arc::clone(storage);
        let result = in_time(move || others(&shared, moment));
        release.send(()).unwrap();
        result
    });
    (in_time(|| counting.join().unwrap()), results)
}

fn filled(open: fn(&Path) -> Shared) -> (tempfile::TempDir, Shared) {
    let directory = tempfile::tempdir().unwrap();
    let storage = open(&directory.path().join("store"));
    for first in (0..KEYS).step_by(250) {
        let value = |number: u64| "v".repeat(number as usize % 50).as_str().into();
        let set = |commit: Commit, number| commit.set(key(number), value(number));
        storage.commit((first..first + 250).fold(Commit::new(), set)).unwrap();
    }
    (directory, storage)
}

/// The usage counter has the right bytes and keys.
fn assert_counter_is_exact(storage: &Shared) {
    let used = recount(storage);
    let new = format!("{PREFIX}x");
    for too_small in [
        Budget { max_bytes: used.bytes, max_keys: u64::MAX },
        Budget { max_bytes: u64::MAX, max_keys: used.keys },
    ] {
        assert_eq!(set(storage, &new, "", too_small), Err(StorageError::QuotaExceeded));
    }
    set(storage, &new, "", Budget { max_bytes: used.bytes + 1, max_keys: used.keys + 1 }).unwrap();
    let reported = storage.usage(Some(PREFIX)).unwrap();
    let of_prefixes = reported.keys * PREFIX.len() as u64;
    assert_eq!(Usage { bytes: reported.bytes - of_prefixes, ..reported }, recount(storage));
}

fn calls_that_need_no_counter_go_on(open: fn(&Path) -> Shared) {
    let (_directory, storage) = filled(open);
    let first = |storage: &Shared| set(storage, &key(1), "first", Budget::UNLIMITED);
    let (counted, _) = during_count(&storage, first, |storage, moment| {
        if let Moment::AfterLastKey = moment {
            storage.set(&key(22), "another length".into()).unwrap();
            storage.set(&key(KEYS + 2), "new".into()).unwrap();
            storage.delete(&key(23)).unwrap();
            storage.commit(Commit::new().delete(key(24)).set(key(25), "".into())).unwrap();
            return;
        }
        // Another component, with a budget.
        for number in 0..50 {
            let key = format!("app/small/1/{number}");
            set(storage, &key, "value", budget(10_000)).unwrap();
            assert_eq!(storage.get(&key).unwrap(), Some("value".into()));
        }
        let request = PageRequest::new(100).with_prefix("app/small/1/");
        assert_eq!(storage.list_page(request).unwrap().keys.len(), 50);
        assert_eq!(storage.usage(Some("app/small/1/")).unwrap().keys, 50);
        // A snapshot.
        let mut seen = 0;
        let mut visit = |_: &str, _| {
            seen += 1;
            Ok(())
        };
        storage.read_snapshot("", None, &mut visit).unwrap();
        assert_eq!(seen, KEYS + 50);
        // The component itself, without a budget or with deletes only.
        assert_eq!(storage.get(&key(2)).unwrap(), Some("vv".into()));
        storage.set(&key(2), "another length".into()).unwrap();
        storage.set(&key(KEYS), "new".into()).unwrap();
        storage.set(&key(KEYS + 1), "new and deleted".into()).unwrap();
        storage.delete(&key(KEYS + 1)).unwrap();
        storage.delete(&key(3)).unwrap();
        let nothing = Budget { max_bytes: 0, max_keys: 0 };
        storage.commit(Commit::new().delete(key(4)).with_budget(nothing)).unwrap();
        storage.commit(Commit::new().delete(key(5)).set(key(6), "".into())).unwrap();
        assert_eq!(storage.list_keys(Some(PREFIX)).unwrap().len(), KEYS as usize - 2);
    });
    counted.unwrap();
    assert_counter_is_exact(&storage);
}

fn writers_with_a_budget_share_one_count(open: fn(&Path) -> Shared) {
    let (_directory, storage) = filled(open);
    // Keys of one byte and values of nine: there is room for ten.
    fn write(storage: &Shared, key: char) -> Result<(), StorageError> {
        set(storage, &format!("{PREFIX}{key}"), "123456789", budget(24_500 + 8_000 + 100))
    }
    assert_eq!(recount(&storage).bytes, 24_500 + 8_000);
    let (counted, others) = during_count(
        &storage,
        |storage| write(storage, 'a'),
        |storage, moment| {
            let keys = if let Moment::BeforeFirstKey = moment { 'b'..='k' } else { 'l'..='u' };
            let start = |key| {
                let storage = Arc::clone(storage);
                thread::spawn(move || write(&storage, key))
            };
            keys.map(start).collect::<Vec<_>>()
        },
    );
    let others = others.into_iter().flatten().map(|other| in_time(|| other.join().unwrap()));
    assert_eq!(others.chain([counted]).filter(Result::is_ok).count(), 10);
    assert_counter_is_exact(&storage);
}

macro_rules! for_a_store {
    ($name:ident, $feature:literal, $open:expr) => {
        #[cfg(feature = $feature)]
        mod $name {
            #[test]
            fn calls_that_need_no_counter_go_on() {
                super::calls_that_need_no_counter_go_on($open);
            }

            #[test]
            fn writers_with_a_budget_share_one_count() {
                super::writers_with_a_budget_share_one_count($open);
            }
        }
    };
}

for_a_store!(file, "file", |path| {
    let options = crate::FileOptions::default().with_durability(crate::Durability::Os);
    std::sync::Arc::new(crate::FileStorage::open(path, options).unwrap())
});
for_a_store!(redb, "redb", |path| {
    std::sync::Arc::new(crate::RedbStorage::open(path, crate::RedbOptions::default()).unwrap())
});
for_a_store!(redb_relaxed, "redb", |path| {
    let options = crate::RedbOptions::default().with_durability(crate::Durability::Relaxed);
    std::sync::Arc::new(crate::RedbStorage::open(path, options).unwrap())
});
for_a_store!(rocksdb, "rocksdb", |path| {
    let options = crate::RocksDbOptions::default().with_durability(crate::Durability::Os);
    std::sync::Arc::new(crate::RocksDbStorage::open(path, options).unwrap())
});
