//! What components use, with and without budgets, one after the other and at
//! once. That every ledger is right is what `verify` says.

use std::thread;

use storage_core::{Budget, StorageError, Usage};

use super::*;

const BUDGET: Budget = Budget { max_bytes: 1_000_000, max_keys: 100 };

fn own_usage(storage: &RocksDbStorage, partition: &str) -> Usage {
    let full = storage.usage(Some(partition)).unwrap();
    Usage { bytes: full.bytes - full.keys * partition.len() as u64, keys: full.keys }
}

/// Leaves the total where it is read from: in memory, in the database, or
/// nowhere yet.
fn places(then: impl Fn(&RocksDbStorage)) {
    for reopen in [false, true] {
        let place = Place::new();
        let mut storage = open(&place.path());
        for key in ["a", "bb", "ccc"] {
            storage.set(&format!("app/notes/home/{key}"), "12345".into()).unwrap();
        }
        storage.commit(set("app/notes/home/dddd", "12345").with_budget(BUDGET)).unwrap();
        if reopen {
            drop(storage);
            storage = open(&place.path());
        }
        then(&storage);
        drop(storage);
        assert_sound(&place.path());
    }
}

#[test]
fn a_single_write_updates_the_counter() {
    places(|storage| {
        let before = own_usage(storage, "app/notes/home/");
        assert_eq!(before, Usage { bytes: 10 + 20, keys: 4 });
        storage.set("app/notes/home/new", "1".into()).unwrap();
        storage.set("app/notes/home/a", "123456789".into()).unwrap();
        storage.delete("app/notes/home/bb").unwrap();
        storage.delete("app/notes/home/missing").unwrap();
        storage.commit(set("app/notes/home/ccc", "").delete("app/notes/home/dddd")).unwrap();
        let after = Usage { bytes: 3 + 1 + 1 + 9 + 3, keys: 3 };
        assert_eq!(own_usage(storage, "app/notes/home/"), after);
        let one_more = |max_keys| {
            let budget = Budget { max_bytes: 1000, max_keys };
            storage.commit(set("app/notes/home/more", "1").with_budget(budget))
        };
        assert_eq!(one_more(3), Err(StorageError::QuotaExceeded));
        one_more(4).unwrap();
    });
}

#[test]
fn a_commit_updates_the_counters_of_all_components() {
    places(|storage| {
        storage.commit(set("app/notes/work/a", "1").with_budget(BUDGET)).unwrap();
        let commit = set("app/notes/home/a", "1")
            .set("app/notes/work/b", "22".into())
            .set("app/notes/none/c", "333".into())
            .set("loose", "4444".into())
            .delete("app/notes/home/bb");
        storage.commit(commit).unwrap();
        assert_eq!(own_usage(storage, "app/notes/home/"), Usage { bytes: 8 + 11, keys: 3 });
        assert_eq!(own_usage(storage, "app/notes/work/"), Usage { bytes: 5, keys: 2 });
        assert_eq!(own_usage(storage, "app/notes/none/"), Usage { bytes: 4, keys: 1 });
    });
}

#[test]
fn unscoped_keys_have_a_counter() {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set("a", "1".into()).unwrap();
    storage.set("a/b/c/d", "1".into()).unwrap();
    let budget = Budget { max_bytes: 100, max_keys: 2 };
    storage.commit(set("z/z/z", "1").with_budget(budget)).unwrap();
    let refused = storage.commit(set("b", "1").with_budget(budget));
    assert_eq!(refused, Err(StorageError::QuotaExceeded));
    storage.delete("a").unwrap();
    storage.commit(set("b", "1").with_budget(budget)).unwrap();
    drop(storage);
    assert_sound(&place.path());
}

#[test]
fn counters_are_right_after_a_kill() {
    let place = Place::new();
    let storage = open(&place.path());
    for number in 0..50 {
        let key = format!("app/notes/{}/{number}", number % 3);
        storage.commit(set(&key, "value").with_budget(BUDGET)).unwrap();
        storage.set("app/notes/1/plain", number.to_string().as_str().into()).unwrap();
        let killed = as_if_killed(&place);
        assert_sound(&killed.path());
        if number % 10 == 0 {
            drop(open(&killed.path()));
            assert_sound(&killed.path());
        }
    }
}

/// Many changes become one total now and then, also while others write.
#[test]
fn counters_are_right_after_concurrent_writes() {
    let place = Place::new();
    let storage = RocksDbStorage::open(place.path(), unsynced()).unwrap();
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
    let in_use = verify(&place.path());
    assert_eq!(in_use.1, []);
    for partition in ["app/notes/0/", "app/notes/1/"] {
        let keys = storage.list_keys(Some(partition)).unwrap().len() as u64;
        assert_eq!(own_usage(&storage, partition).keys, keys);
    }
    drop(storage);
    assert_sound(&place.path());
}

#[test]
fn concurrent_writers_never_exceed_a_budget_and_use_it_up() {
    let place = Place::new();
    let storage = RocksDbStorage::open(place.path(), unsynced()).unwrap();
    // Some are there before there is a ledger.
    for number in 0..10 {
        storage.set(&format!("app/notes/home/old-{number}"), "".into()).unwrap();
    }
    let written: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let storage = &storage;
                scope.spawn(move || {
                    let attempts = (0..30).map(|number| {
                        let key = format!("app/notes/home/{thread}-{number}");
                        storage.commit(set(&key, "x").with_budget(BUDGET)).is_ok()
                    });
                    attempts.filter(|written| *written).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(written, 90);
    assert_eq!(storage.list_keys(None).unwrap().len(), 100);
    drop(storage);
    assert_sound(&place.path());
}

/// The first budget of a component counts its keys while others write to it.
#[test]
fn a_count_includes_concurrent_writes() {
    let place = Place::new();
    let storage = RocksDbStorage::open(place.path(), unsynced()).unwrap();
    for round in 0..20 {
        let partition = format!("app/notes/{round}/");
        let key = |thread: usize, number: usize| format!("{partition}{thread}-{}", number % 40);
        for number in 0..40 {
            storage.set(&key(0, number), "before".into()).unwrap();
        }
        let budget = Budget::UNLIMITED;
        thread::scope(|scope| {
            for thread in 0..2 {
                let (storage, key) = (&storage, &key);
                scope.spawn(move || {
                    for number in 0..60 {
                        let value = "w".repeat(number % 9);
                        storage.set(&key(thread, number), value.as_str().into()).unwrap();
                        storage.delete(&key(thread, number * 3)).unwrap();
                    }
                });
            }
            scope.spawn(|| storage.commit(set(&key(2, 0), "x").with_budget(budget)).unwrap());
        });
    }
    drop(storage);
    let (verified, problems) = verify(&place.path());
    assert_eq!((problems, verified.components), (Vec::new(), 20));
}

#[test]
fn evicted_counters_are_read_again() {
    let place = Place::new();
    let storage = RocksDbStorage::open(place.path(), unsynced()).unwrap();
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
    assert_sound(&place.path());
}

#[test]
fn a_damaged_counter_is_recounted() {
    for broken in [b"".as_slice(), b"nonsense", &[1; 21]] {
        let place = Place::new();
        let storage = open(&place.path());
        storage.commit(set("app/notes/home/a", "1").with_budget(BUDGET)).unwrap();
        drop(storage);
        opening::raw(&place, |database| {
            let ledgers = database.cf_handle("ledgers").unwrap();
            database.put_cf(ledgers, "app/notes/home/", broken).unwrap();
        });
        assert_eq!(verify(&place.path()).1.len(), 1);
        let storage = open(&place.path());
        // Reads do without, and plain writes keep it broken.
        assert_eq!(own_usage(&storage, "app/notes/home/"), Usage { bytes: 2, keys: 1 });
        storage.set("app/notes/home/b", "1".into()).unwrap();
        assert_eq!(own_usage(&storage, "app/notes/home/"), Usage { bytes: 4, keys: 2 });
        let budget = Budget { max_bytes: 6, max_keys: 3 };
        storage.commit(set("app/notes/home/c", "1").with_budget(budget)).unwrap();
        let refused = storage.commit(set("app/notes/home/d", "").with_budget(budget));
        assert_eq!(refused, Err(StorageError::QuotaExceeded));
        drop(storage);
        assert_sound(&place.path());
    }
}
