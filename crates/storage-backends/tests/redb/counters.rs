//! Usage counters on disk.

use super::*;

const HOME: &str = "app/notes/home/";

fn budget(max_bytes: u64, max_keys: u64) -> Budget {
    Budget { max_bytes, max_keys }
}

fn set(
    storage: &RedbStorage,
    user_key: &str,
    value: &str,
    budget: Budget,
) -> Result<(), StorageError> {
    let commit = Commit::new().set(format!("{HOME}{user_key}"), value.into()).with_budget(budget);
    storage.commit(commit).map(drop)
}

#[test]
fn an_emptied_component_has_no_counter() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    set(&storage, "a", "1", budget(5, 5)).unwrap();
    storage.set("app/notes/work/a", "1".into()).unwrap();
    storage.delete(&format!("{HOME}a")).unwrap();
    drop(storage);
    let mut kept = Vec::new();
    tamper(&dir.path(), "ledgers", |table| {
        use redb::ReadableTable;
        let entries = table.iter().unwrap();
        kept.extend(entries.map(|entry| entry.unwrap().0.value().to_vec()));
    });
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn a_damaged_counter_is_recounted() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    set(&storage, "a", "1234", budget(100, 100)).unwrap();
    drop(storage);
    tamper(&dir.path(), "ledgers", |table| {
        table.insert(HOME.as_bytes(), b"nonsense".as_slice()).unwrap();
    });
    assert_eq!(problems_of(&dir).0.problems, 1);
    let storage = open(&dir.path());
    assert_eq!(storage.usage(Some(HOME)).unwrap().keys, 1);
    assert_eq!(set(&storage, "b", "", budget(5, 9)), Err(StorageError::QuotaExceeded));
    set(&storage, "b", "", budget(6, 9)).unwrap();
    drop(storage);
    has_no_problems(&dir);
}
