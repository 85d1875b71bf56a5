//! Usage counters on disk. Verify checks that they are right.

use std::thread;

use storage_core::{Budget, StorageError, Usage};

use super::*;

const BUDGET: Budget = Budget { max_bytes: 1_000_000, max_keys: 100 };

fn own_usage(storage: &RocksDbStorage, component: &str) -> Usage {
    let full = storage.usage(Some(component)).unwrap();
    Usage { bytes: full.bytes - full.keys * component.len() as u64, keys: full.keys }
}

/// The store merges many changes into one total from time to time, even during writes.
#[test]
fn counters_are_right_after_concurrent_writes() {
    let dir = StoreDir::new();
    let storage = RocksDbStorage::open(dir.path(), unsynced()).unwrap();
    thread::scope(|scope| {
        for number in 0..4 {
            let storage = &storage;
            scope.spawn(move || {
                for round in 0..1500 {
                    let key = format!("app/notes/{}/{}", round % 2, round * 7 % 50);
                    let value = "v".repeat((round * 31 + number * 17) % 60);
                    match (round + number) % 5 {
                        0 => storage.set(&key, value.as_str().into()).unwrap(),
                        1 => storage.delete(&key).unwrap(),
                        _ => match storage.commit(set(&key, &value).with_budget(BUDGET)) {
                            Ok(_) | Err(StorageError::QuotaExceeded) => {}
                            Err(error) => panic!("{error}"),
                        },
                    }
                }
            });
        }
    });
    let in_use = verify(&dir.path());
    assert_eq!(in_use.1, []);
    for component in ["app/notes/0/", "app/notes/1/"] {
        let keys = storage.list_keys(Some(component)).unwrap().len() as u64;
        assert_eq!(own_usage(&storage, component).keys, keys);
    }
    drop(storage);
    assert_sound(&dir.path());
}

#[test]
fn evicted_counters_are_read_again() {
    let dir = StoreDir::new();
    let storage = RocksDbStorage::open(dir.path(), unsynced()).unwrap();
    let budget = Budget { max_bytes: 1000, max_keys: 2 };
    let key = |number: usize, round: usize| format!("app/many/{number}/{round}");
    for round in 0..2 {
        for number in 0..17_000 {
            storage.commit(set(&key(number, round), "x").with_budget(budget)).unwrap();
        }
    }
    for number in (0..17_000).step_by(97) {
        let refused = storage.commit(set(&key(number, 2), "x").with_budget(budget));
        assert_eq!(refused, Err(StorageError::QuotaExceeded));
    }
    drop(storage);
    assert_sound(&dir.path());
}

#[test]
fn a_damaged_counter_is_recounted() {
    for broken in [b"".as_slice(), b"nonsense", &[1; 21]] {
        let dir = StoreDir::new();
        let storage = open(&dir.path());
        storage.commit(set("app/notes/home/a", "1").with_budget(BUDGET)).unwrap();
        drop(storage);
        raw(&dir.path(), |database| {
            let counters = database.cf_handle("ledgers").unwrap();
            database.put_cf(counters, "app/notes/home/", broken).unwrap();
        });
        assert_eq!(verify(&dir.path()).1.len(), 1);
        let storage = open(&dir.path());
        // Reads do not need it, and writes without a budget do not repair it.
        assert_eq!(own_usage(&storage, "app/notes/home/"), Usage { bytes: 2, keys: 1 });
        storage.set("app/notes/home/b", "1".into()).unwrap();
        assert_eq!(own_usage(&storage, "app/notes/home/"), Usage { bytes: 4, keys: 2 });
        let budget = Budget { max_bytes: 6, max_keys: 3 };
        storage.commit(set("app/notes/home/c", "1").with_budget(budget)).unwrap();
        let refused = storage.commit(set("app/notes/home/d", "").with_budget(budget));
        assert_eq!(refused, Err(StorageError::QuotaExceeded));
        drop(storage);
        assert_sound(&dir.path());
    }
}
