//! The relaxed mode: what may be lost, and what may not.

use std::time::Duration;

use super::*;

fn open_relaxed(dir: &StoreDir) -> RedbStorage {
    RedbStorage::open(dir.path(), relaxed()).unwrap()
}

#[test]
fn a_flush_makes_writes_durable() {
    let dir = StoreDir::new();
    let storage = open_relaxed(&dir);
    storage.set("a/b/c/key", "value".into()).unwrap();
    assert_eq!(storage.get("a/b/c/key"), Ok(Some("value".into())));
    storage.flush().unwrap();
    assert_eq!(read_only(&dir.copy().path()).get("a/b/c/key"), Ok(Some("value".into())));
}

#[test]
fn writes_become_durable_without_a_flush() {
    let dir = StoreDir::new();
    let storage = open_relaxed(&dir);
    storage.set("a/b/c/key", "value".into()).unwrap();
    // It takes 100 ms; the test waits for much longer before it gives up.
    let is_durable = || read_only(&dir.copy().path()).get("a/b/c/key").unwrap().is_some();
    let mut tries = 0;
    while !is_durable() {
        assert!(tries < 3000, "not durable after a minute");
        tries += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(storage.get("a/b/c/key"), Ok(Some("value".into())));
}

#[test]
fn a_lost_revision_is_not_reused() {
    let dir = StoreDir::new();
    let mut last = Revision::new(0);
    let mut lost = false;
    for round in 0..20 {
        let storage = open_relaxed(&dir);
        for n in 0..20 {
            last = last.max(
                storage_core::put(&storage, "a/b/c/key", format!("{round} {n}").as_str().into())
                    .unwrap(),
            );
        }
        let killed = dir.copy();
        drop(storage);
        // The clock would hide it if the counter had fallen behind.
        assert!(verify::reserved_up_to(&killed) > last.get());
        let again = open_relaxed(&killed);
        let found = again.get_versioned("a/b/c/key").unwrap();
        lost |= found.is_none_or(|found| found.revision < last);
        let next = storage_core::put(&again, "a/b/c/other", "".into()).unwrap();
        assert!(next > last, "{next} after {last}");
        let deleted = again.commit(Commit::new().delete("a/b/c/other")).unwrap();
        assert!(deleted > next);
        last = last.max(deleted);
        drop(again);
        has_no_problems(&killed);
        fs::copy(killed.path(), dir.path()).unwrap();
    }
    assert!(lost, "nothing was lost in any round");
}

#[test]
fn a_kill_leaves_an_earlier_state() {
    let dir = StoreDir::new();
    let storage = open_relaxed(&dir);
    let states: Vec<Contents> = (0..200_u32)
        .map(|n| {
            let value = StorageValue::from(n.to_string().as_str());
            let commit = Commit::new().set("a/b/c/1", value.clone()).set("a/b/d/2", value);
            storage.commit(commit).unwrap();
            contents(&storage)
        })
        .collect();
    let killed = dir.copy();
    let left = contents(&read_only(&killed.path()));
    assert!(left.is_empty() || states.contains(&left), "{left:?}");
    has_no_problems(&killed);
}
