//! Writers whose commits share a transaction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::*;

const WRITERS: u64 = 8;

/// Commits whose checks hold share transactions with commits whose checks fail.
#[rstest]
#[case::synced(RedbOptions::default(), 40)]
#[case::relaxed(relaxed(), 200)]
fn each_writer_has_its_own_checks(#[case] options: RedbOptions, #[case] rounds: u64) {
    let dir = StoreDir::new();
    let storage = RedbStorage::open(dir.path(), options).unwrap();
    storage.set("a/b/c/counter", "0".into()).unwrap();
    let conflicts = AtomicU64::new(0);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (storage, conflicts) = (&storage, &conflicts);
            scope.spawn(move || {
                let own = format!("a/b/{writer}/own");
                for round in 0..rounds {
                    // Increment the shared counter, and retry after a conflict.
                    loop {
                        let found = storage.get_versioned("a/b/c/counter").unwrap().unwrap();
                        let count: u64 =
                            String::from_utf8(found.value.into_bytes()).unwrap().parse().unwrap();
                        let commit = Commit::new()
                            .require_revision("a/b/c/counter", found.revision)
                            .set("a/b/c/counter", (count + 1).to_string().as_str().into())
                            .set(format!("a/b/c/won-{count}"), writer.to_string().as_str().into());
                        match storage.commit(commit) {
                            Ok(revision) => {
                                assert!(revision > found.revision);
                                break;
                            }
                            Err(StorageError::Conflict(key)) => {
                                assert_eq!(key, "a/b/c/counter");
                                conflicts.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                    // One of several creators of a key succeeds.
                    let create = Commit::new()
                        .require_absent(format!("a/b/c/created-{round}"))
                        .set(format!("a/b/c/created-{round}"), "".into())
                        .set(format!("a/b/c/creator-{round}-{writer}"), "".into());
                    match storage.commit(create) {
                        Ok(_) | Err(StorageError::AlreadyExists(_)) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                    // A commit that its budget refuses.
                    let budget = Budget { max_bytes: 0, max_keys: 0 };
                    let stopped = Commit::new().set(&*own, "x".into()).with_budget(budget);
                    assert_eq!(storage.commit(stopped), Err(StorageError::QuotaExceeded));
                    assert_eq!(storage.get(&own), Ok(None));
                }
            });
        }
    });
    let total = WRITERS * rounds;
    let expected = StorageValue::from(total.to_string().as_str());
    assert_eq!(storage.get("a/b/c/counter"), Ok(Some(expected)));
    assert_eq!(storage.list_keys(Some("a/b/c/won-")).unwrap().len() as u64, total);
    assert_eq!(storage.list_keys(Some("a/b/c/created-")).unwrap().len() as u64, rounds);
    assert_eq!(storage.list_keys(Some("a/b/c/creator-")).unwrap().len() as u64, rounds);
    assert!(conflicts.into_inner() > 0, "no commit had a conflict");
    drop(storage);
    has_no_problems(&dir);
}
