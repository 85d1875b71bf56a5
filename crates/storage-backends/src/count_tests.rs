//! A component is counted while others write, and the count is exact.
#![cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use storage_core::{Budget, Commit, ComponentStorage, PageRequest, StorageError, Store, Usage};

use crate::hooks;

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

const KEYS: u64 = 1_000;

type Shared = Arc<dyn Store>;

fn key(n: u64) -> String {
    format!("app/large/1/key-{n:04}")
}

fn budget(max_bytes: u64) -> Budget {
    Budget { max_bytes, max_keys: u64::MAX }
}

/// The usage of the counted component, from its listing.
fn recount(storage: &Shared) -> Usage {
    let keys = storage.list_keys(Some("app/large/1/")).unwrap();
    let own = |key: &String| key["app/large/1/".len()..].to_owned();
    let value_len = |key: &String| storage.get(key).unwrap().unwrap().len();
    keys.iter().map(|key| Usage::of(&own(key), value_len(key))).sum()
}

fn set(storage: &Shared, key: &str, value: &str, budget: Budget) -> Result<(), StorageError> {
    storage.commit(Commit::new().set(key, value.into()).with_budget(budget)).map(drop)
}

/// Runs a closure in its own thread, and fails if it does not end in time.
#[track_caller]
fn with_timeout<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || tell.send(run()));
    let Ok(done) = told.recv_timeout(PATIENCE) else {
        panic!("{what} waits for the count, or has failed: {:?}", thread.is_finished());
    };
    done
}

/// Counts the component for its first budget, and calls `during` before anything is counted
/// (0) and after everything is counted (1).
fn during_a_count<T: Send + 'static>(
    storage: &Shared,
    first: impl FnOnce(&Shared) -> Result<(), StorageError> + Send + 'static,
    mut during: impl FnMut(&Shared, usize) -> T,
) -> (Result<(), StorageError>, [T; 2]) {
    let (begun, begins) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let counting = {
        let storage = Arc::clone(storage);
        thread::spawn(move || {
            hooks::hold_the_next_count(move || {
                begun.send(()).unwrap();
                let _ = released.lock().unwrap().recv_timeout(2 * PATIENCE);
            });
            first(&storage)
        })
    };
    let done = [0, 1].map(|moment| {
        begins.recv_timeout(PATIENCE).expect("a count");
        let done = during(storage, moment);
        release.send(()).unwrap();
        done
    });
    (with_timeout("the count itself", || counting.join().unwrap()), done)
}

fn filled(storage: &Shared) {
    for first in (0..KEYS).step_by(250) {
        let value = |n: u64| "v".repeat(n as usize % 50).as_str().into();
        let set = |commit: Commit, n| commit.set(key(n), value(n));
        storage.commit((first..first + 250).fold(Commit::new(), set)).unwrap();
    }
}

/// The usage counter matches a recount.
fn is_exact(storage: &Shared) {
    let used = recount(storage);
    let full = Budget { max_bytes: used.bytes, max_keys: used.keys };
    let now = storage.get(&key(1)).unwrap().unwrap();
    let same = Commit::new().set(key(1), now.clone()).with_budget(full);
    storage.commit(same).unwrap();
    let longer = [now.as_bytes(), b"x"].concat();
    let one_byte = Commit::new().set(key(1), longer.into());
    let refused = storage.commit(one_byte.clone().with_budget(full));
    assert_eq!(refused, Err(StorageError::QuotaExceeded));
    let room = Budget { max_bytes: used.bytes + 1, ..full };
    storage.commit(one_byte.with_budget(room)).unwrap();
    assert_eq!(set(storage, "app/large/1/x", "", budget(used.bytes + 1)), quota_exceeded());
    let one_more = Budget { max_bytes: u64::MAX, max_keys: used.keys };
    assert_eq!(set(storage, "app/large/1/x", "", one_more), quota_exceeded());
    let reported = storage.usage(Some("app/large/1/")).unwrap();
    let names = reported.keys * "app/large/1/".len() as u64;
    assert_eq!(Usage { bytes: reported.bytes - names, ..reported }, recount(storage));
}

fn quota_exceeded() -> Result<(), StorageError> {
    Err(StorageError::QuotaExceeded)
}

fn others_continue(storage: Shared) {
    filled(&storage);
    let first = |storage: &Shared| set(storage, &key(1), "first", Budget::UNLIMITED);
    let (counted, _) = during_a_count(&storage, first, |storage, moment| {
        if moment == 1 {
            let own = Arc::clone(storage);
            with_timeout("what comes late", move || {
                own.set(&key(22), "another length".into()).unwrap();
                own.set(&key(KEYS + 2), "new".into()).unwrap();
                own.delete(&key(23)).unwrap();
                own.commit(Commit::new().delete(key(24)).set(key(25), "".into())).unwrap();
            });
            return;
        }
        let own = Arc::clone(storage);
        with_timeout("a neighbour", move || {
            for n in 0..50 {
                let key = format!("app/small/1/{n}");
                set(&own, &key, "value", budget(10_000)).unwrap();
                assert_eq!(own.get(&key).unwrap(), Some("value".into()));
            }
            let request = PageRequest::new(100).with_prefix("app/small/1/");
            assert_eq!(own.list_page(request).unwrap().keys.len(), 50);
            assert_eq!(own.usage(Some("app/small/1/")).unwrap().keys, 50);
        });
        let own = Arc::clone(storage);
        with_timeout("a copy of all", move || {
            let mut seen = 0;
            let mut visit = |_: &str, _| {
                seen += 1;
                Ok(())
            };
            own.read_snapshot("", None, &mut visit).unwrap();
            assert_eq!(seen, KEYS + 50);
        });
        let own = Arc::clone(storage);
        with_timeout("the component's own other calls", move || {
            assert_eq!(own.get(&key(2)).unwrap(), Some("vv".into()));
            own.set(&key(2), "another length".into()).unwrap();
            own.set(&key(KEYS), "new".into()).unwrap();
            own.set(&key(KEYS + 1), "new and gone".into()).unwrap();
            own.delete(&key(KEYS + 1)).unwrap();
            own.delete(&key(3)).unwrap();
            let nothing = Budget { max_bytes: 0, max_keys: 0 };
            own.commit(Commit::new().delete(key(4)).with_budget(nothing)).unwrap();
            own.commit(Commit::new().delete(key(5)).set(key(6), "".into())).unwrap();
            assert_eq!(own.list_keys(Some("app/large/1/")).unwrap().len(), KEYS as usize - 2);
        });
    });
    counted.unwrap();
    is_exact(&storage);
}

fn waiting_budgets_share_one_count(storage: Shared) {
    filled(&storage);
    let room = recount(&storage).bytes + 100;
    let first = move |storage: &Shared| set(storage, "app/large/1/a", "123456789", budget(room));
    let (counted, others) = during_a_count(&storage, first, |storage, moment| {
        let start = |n: u64| {
            let storage = Arc::clone(storage);
            // 10 bytes each: 10 of all of them have room.
            thread::spawn(move || {
                set(
                    &storage,
                    &format!("app/large/1/{}", (b'b' + n as u8) as char),
                    "123456789",
                    budget(room),
                )
            })
        };
        (0..10).map(|n| start(10 * moment as u64 + n)).collect::<Vec<_>>()
    });
    let others = others
        .into_iter()
        .flatten()
        .map(|other| with_timeout("a writer", || other.join().unwrap()));
    let granted = others.chain([counted]).filter(Result::is_ok).count();
    assert_eq!(granted, 10);
    assert_eq!(recount(&storage).bytes, room);
    is_exact(&storage);
}

macro_rules! for_a_store {
    ($name:ident, $feature:literal, $open:expr) => {
        #[cfg(feature = $feature)]
        mod $name {
            use super::*;

            #[test]
            fn others_continue_during_a_count() {
                let folder = tempfile::tempdir().unwrap();
                let open: fn(&std::path::Path) -> Shared = $open;
                others_continue(open(&folder.path().join("store")));
            }

            #[test]
            fn concurrent_budgets_share_one_count() {
                let folder = tempfile::tempdir().unwrap();
                let open: fn(&std::path::Path) -> Shared = $open;
                waiting_budgets_share_one_count(open(&folder.path().join("store")));
            }
        }
    };
}

for_a_store!(file, "file", |path| {
    let options = crate::FileOptions::default().with_durability(crate::Durability::Os);
    Arc::new(crate::FileStorage::open(path, options).unwrap())
});
for_a_store!(redb, "redb", |path| {
    Arc::new(crate::RedbStorage::open(path, crate::RedbOptions::default()).unwrap())
});
for_a_store!(redb_relaxed, "redb", |path| {
    let options = crate::RedbOptions::default().with_durability(crate::Durability::Interval);
    Arc::new(crate::RedbStorage::open(path, options).unwrap())
});
for_a_store!(rocksdb, "rocksdb", |path| {
    let options = crate::RocksDbOptions::default().with_durability(crate::Durability::Os);
    Arc::new(crate::RocksDbStorage::open(path, options).unwrap())
});
