//! Budgets, and the ledgers that they are checked against.

use proptest::prelude::*;

use super::*;

const HOME: &str = "app/notes/home/";

fn budget(max_bytes: u64, max_keys: u64) -> Budget {
    Budget { max_bytes, max_keys }
}

fn set(storage: &RedbStorage, own: &str, value: &str, budget: Budget) -> Result<(), StorageError> {
    let commit = Commit::new().set(format!("{HOME}{own}"), value.into()).with_budget(budget);
    storage.commit(commit).map(drop)
}

#[test]
fn a_budget_counts_earlier_keys() {
    let place = Place::new();
    let storage = open(&place.path());
    for n in 0..10 {
        storage.set(&format!("{HOME}{n}"), "123456789".into()).unwrap();
    }
    storage.set("app/notes/home2/x", "not counted".into()).unwrap();
    storage.set("app/notes/hom/x", "not counted".into()).unwrap();
    assert_eq!(set(&storage, "a", "", budget(100, 11)), Err(StorageError::QuotaExceeded));
    assert_eq!(set(&storage, "a", "", budget(101, 10)), Err(StorageError::QuotaExceeded));
    assert_eq!(set(&storage, "a", "", budget(101, 11)), Ok(()));
    drop(storage);
    place.has_no_problems();
}

#[test]
fn writes_without_a_budget_update_the_counter() {
    let place = Place::new();
    let storage = open(&place.path());
    set(&storage, "a", "1234", budget(5, 1)).unwrap();
    storage.set(&format!("{HOME}b"), "12345".into()).unwrap();
    assert_eq!(set(&storage, "c", "", budget(11, 9)), Err(StorageError::QuotaExceeded));
    storage.delete(&format!("{HOME}a")).unwrap();
    storage.commit(Commit::new().set(format!("{HOME}b"), "1".into())).unwrap();
    assert_eq!(set(&storage, "c", "", budget(2, 9)), Err(StorageError::QuotaExceeded));
    assert_eq!(set(&storage, "c", "", budget(3, 2)), Ok(()));
    let own = Usage { bytes: 3 + 2 * HOME.len() as u64, keys: 2 };
    assert_eq!(storage.usage(Some(HOME)), Ok(own));
    drop(storage);
    assert_eq!(read_only(&place.path()).usage(Some(HOME)), Ok(own));
    place.has_no_problems();
}

#[test]
fn a_refused_budget_changes_nothing() {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set(&format!("{HOME}a"), "1".into()).unwrap();
    let before = contents(&storage);
    for _ in 0..2 {
        assert_eq!(set(&storage, "b", "12345", budget(5, 5)), Err(StorageError::QuotaExceeded));
        assert!(contents(&storage) == before);
    }
    drop(storage);
    assert!(contents(&open(&place.path())) == before);
    place.has_no_problems();
}

#[test]
fn an_emptied_component_has_no_counter() {
    let place = Place::new();
    let storage = open(&place.path());
    set(&storage, "a", "1", budget(5, 5)).unwrap();
    storage.set("app/notes/work/a", "1".into()).unwrap();
    storage.delete(&format!("{HOME}a")).unwrap();
    drop(storage);
    let mut kept = Vec::new();
    verify::tamper(&place, "ledgers", |table| {
        use redb::ReadableTable;
        let entries = table.iter().unwrap();
        kept.extend(entries.map(|entry| entry.unwrap().0.value().to_vec()));
    });
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn unscoped_keys_have_a_budget() {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set("app/notes/home/a", "not counted".into()).unwrap();
    storage.set("loose", "12345".into()).unwrap();
    let commit = |max_bytes| {
        let commit = Commit::new().set("zz", "123".into());
        storage.commit(commit.with_budget(budget(max_bytes, 9)))
    };
    assert_eq!(commit(14), Err(StorageError::QuotaExceeded));
    commit(15).unwrap();
    drop(storage);
    place.has_no_problems();
}

#[test]
fn a_damaged_counter_is_recounted() {
    let place = Place::new();
    let storage = open(&place.path());
    set(&storage, "a", "1234", budget(100, 100)).unwrap();
    drop(storage);
    verify::tamper(&place, "ledgers", |table| {
        table.insert(HOME.as_bytes(), b"nonsense".as_slice()).unwrap();
    });
    assert_eq!(place.verify().0.problems, 1);
    let storage = open(&place.path());
    assert_eq!(storage.usage(Some(HOME)).unwrap().keys, 1);
    assert_eq!(set(&storage, "b", "", budget(5, 9)), Err(StorageError::QuotaExceeded));
    set(&storage, "b", "", budget(6, 9)).unwrap();
    drop(storage);
    place.has_no_problems();
}

#[derive(Debug, Clone)]
enum Step {
    Set { key: usize, len: usize, budget: Option<u64> },
    Delete { key: usize, budgeted: bool },
    Several { keys: Vec<(usize, Option<usize>)>, budgeted: bool },
    Reopen,
}

const KEYS: [&str; 6] = ["a/b/c/1", "a/b/c/2", "a/b/c/3", "a/b/d/1", "a/b", "loose"];

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    prop_oneof![
        4 => (key.clone(), 0..40_usize, proptest::option::of(0..120_u64))
            .prop_map(|(key, len, budget)| Step::Set { key, len, budget }),
        2 => (key.clone(), any::<bool>())
            .prop_map(|(key, budgeted)| Step::Delete { key, budgeted }),
        2 => (proptest::collection::vec((key, proptest::option::of(0..40_usize)), 0..4), any::<bool>())
            .prop_map(|(keys, budgeted)| Step::Several { keys, budgeted }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Budgets against a count of what is there, whatever was written how.
    #[test]
    fn a_budget_is_exact_after_any_writes(steps in proptest::collection::vec(step(), 1..40)) {
        let place = Place::new();
        let mut storage = RedbStorage::open(place.path(), relaxed()).unwrap();
        let mut model = Contents::new();
        let partition = |key: &str| storage_core::split_full_key(key).0.to_owned();
        let used = |model: &Contents, of: &str| -> u64 {
            let inside = model.iter().filter(|(key, _)| partition(key) == of);
            inside.map(|(key, value)| (key.len() - of.len() + value.len()) as u64).sum()
        };
        for step in steps {
            match step {
                Step::Reopen => {
                    drop(storage);
                    storage = RedbStorage::open(place.path(), relaxed()).unwrap();
                }
                Step::Set { key, len, budget } => {
                    let (key, value) = (KEYS[key], vec![b'x'; len]);
                    let mut after = model.clone();
                    after.insert(key.to_owned(), value.clone());
                    let mut commit = Commit::new().set(key, value.into());
                    let mut allowed = true;
                    if let Some(max_bytes) = budget {
                        commit = commit.with_budget(Budget { max_bytes, max_keys: 9 });
                        let of = partition(key);
                        let (before, after) = (used(&model, &of), used(&after, &of));
                        allowed = after <= before || after <= max_bytes;
                    }
                    let result = storage.commit(commit).map(drop);
                    if allowed {
                        prop_assert_eq!(result, Ok(()));
                        model = after;
                    } else {
                        prop_assert_eq!(result, Err(StorageError::QuotaExceeded));
                    }
                }
                Step::Delete { key, budgeted } => {
                    let mut commit = Commit::new().delete(KEYS[key]);
                    if budgeted {
                        commit = commit.with_budget(Budget::UNLIMITED);
                    }
                    storage.commit(commit).unwrap();
                    model.remove(KEYS[key]);
                }
                Step::Several { keys, budgeted } => {
                    let mut commit = Commit::new();
                    let mut after = model.clone();
                    for (key, len) in keys {
                        match len {
                            Some(len) => {
                                commit = commit.set(KEYS[key], vec![b'y'; len].into());
                                after.insert(KEYS[key].to_owned(), vec![b'y'; len]);
                            }
                            None => {
                                commit = commit.delete(KEYS[key]);
                                after.remove(KEYS[key]);
                            }
                        }
                    }
                    if budgeted {
                        commit = commit.with_budget(Budget::UNLIMITED);
                    }
                    match storage.commit(commit) {
                        Ok(_) => model = after,
                        Err(StorageError::InvalidKey(_)) => prop_assert!(budgeted),
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
            prop_assert_eq!(&contents(&storage), &model);
            for of in ["a/b/c/", "a/b/d/"] {
                let own = storage.usage(Some(of)).unwrap();
                prop_assert_eq!(own.bytes - own.keys * of.len() as u64, used(&model, of));
            }
        }
        drop(storage);
        place.has_no_problems();
    }
}
