//! Verify.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

use raw_redb::Bytes;

/// The first revision that is not reserved.
pub(super) fn reserved_up_to(dir: &StoreDir) -> u64 {
    // Opening recovers the database, and the original must not change.
    let copy = dir.copy();
    let db = redb::Database::open(copy.path()).unwrap();
    let definition = redb::TableDefinition::<Bytes, Bytes>::new("meta");
    let table = redb::ReadableDatabase::begin_read(&db).unwrap().open_table(definition).unwrap();
    let value = redb::ReadableTable::get(&table, b"revisions".as_slice()).unwrap().unwrap();
    u64::from_le_bytes(value.value()[..8].try_into().unwrap())
}

fn filled() -> StoreDir {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    for n in 0..20 {
        let key = format!("app/notes/home/{n:02}");
        let commit = Commit::new().set(key, "value".into()).with_budget(Budget::UNLIMITED);
        storage.commit(commit).unwrap();
        storage.set(&format!("app/notes/work/{n:02}"), "value".into()).unwrap();
    }
    storage.set("unscoped", "value".into()).unwrap();
    drop(storage);
    dir
}

/// The problems as text. Verify must not change the file.
fn shown(dir: &StoreDir) -> String {
    let before = file_bytes(dir);
    let (_, problems) = problems_of(dir);
    assert!(file_bytes(dir) == before);
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n").replace(&*dir.path().to_string_lossy(), "STORE")
}

#[test]
fn invalid_keys_are_reported() {
    let dir = filled();
    tamper(&dir.path(), "data", |table| {
        table.insert(b"app/notes/home/\xff".as_slice(), b"".as_slice()).unwrap();
    });
    insta::assert_snapshot!(shown(&dir), @r#"data: a key is not UTF-8: "app/notes/home/\xff""#);
    let storage = open(&dir.path());
    assert!(matches!(storage.list_keys(None), Err(StorageError::Corrupt { .. })));
    assert_eq!(storage.list_keys(Some("app/notes/work/")).unwrap().len(), 20);
}

#[test]
fn wrong_counters_are_reported() {
    let dir = filled();
    tamper(&dir.path(), "ledgers", |table| {
        for (component, keys) in [("app/notes/home/", 19_u64), ("", 1), ("app/gone/home/", 1)] {
            let body = [140_u64.to_le_bytes(), keys.to_le_bytes()].concat();
            let value = checked(component.as_bytes(), &body);
            table.insert(component.as_bytes(), value.as_slice()).unwrap();
        }
        table.insert(b"app/notes/work/".as_slice(), b"nonsense".as_slice()).unwrap();
    });
    insta::assert_snapshot!(shown(&dir), @r#"
    usage counters: the usage counter of "app/notes/home/" is 140 bytes in 19 keys, but there are 140 bytes in 20 keys
    usage counters: the usage counter of "app/notes/work/" is damaged
    usage counters: the usage counter of "" is 140 bytes in 1 keys, but there are 13 bytes in 1 keys
    usage counters: a usage counter of "app/gone/home/", which has no keys
    "#);
}

#[test]
fn revisions_beyond_the_counter_are_reported() {
    let dir = filled();
    let found = read_only(&dir.path()).get_versioned("app/notes/work/19").unwrap().unwrap();
    let revision = found.revision.get();
    let value = checked(b"revisions", &revision.to_le_bytes());
    tamper(&dir.path(), "meta", |table| {
        table.insert(b"revisions".as_slice(), value.as_slice()).unwrap();
    });
    let shown = shown(&dir).replace(&revision.to_string(), "N");
    insta::assert_snapshot!(shown.replace(&(revision + 1).to_string(), "N+1"), @r#"
    data: key "app/notes/work/19": its revision N is beyond the revision counter
    data: key "unscoped": its revision N+1 is beyond the revision counter
    "#);
}

#[test]
fn the_rest_is_verified_after_damaged_metadata() {
    let dir = filled();
    tamper(&dir.path(), "meta", |table| {
        table.insert(b"store-id".as_slice(), b"nonsense".as_slice()).unwrap();
    });
    insta::assert_snapshot!(shown(&dir), @r#"meta: STORE: its id is damaged; restore the file from a copy"#);
    assert_eq!(problems_of(&dir).0.usage.keys, 41);
    for result in [
        RedbStorage::open(dir.path(), RedbOptions::default()),
        RedbStorage::open_read_only(dir.path(), RedbOptions::default()),
    ] {
        assert!(matches!(result, Err(StorageError::Corrupt { key: None, .. })));
    }
}

/// A store that is open is verified while it is written to, and all of it.
#[rstest]
#[case::synced(RedbOptions::default(), 100)]
#[case::relaxed(relaxed(), 2_000)]
fn an_open_store_is_verified_beside_its_writers(
    #[case] options: RedbOptions,
    #[case] rounds: usize,
) {
    let dir = StoreDir::new();
    let storage = RedbStorage::open(dir.path(), options).unwrap();
    let budget = Budget { max_bytes: 1 << 30, max_keys: 1 << 20 };
    let write = |thread: usize, round: usize| {
        let key = |n: usize| format!("app/{thread}/c{}/{:04}", n % 3, n % 500);
        let value = StorageValue::new(vec![b'v'; round % 3_000]);
        let commit = Commit::new().set(key(round), value).delete(key(round / 2 + 1));
        // Of one component, because a budget is.
        storage.set(&key(round + 1), "x".into()).unwrap();
        storage.commit(commit).unwrap();
        let counted = Commit::new().set(format!("app/{thread}/counted/{round}"), "".into());
        storage.commit(counted.with_budget(budget)).unwrap();
    };
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..3 {
            let (write, done) = (&write, &done);
            scope.spawn(move || {
                (0..rounds).for_each(|round| write(thread, round));
                done.fetch_add(1, Ordering::Release);
            });
        }
        while done.load(Ordering::Acquire) < 3 {
            let verified = storage.verify(&mut |problem| panic!("{problem}"));
            assert_eq!(verified.unwrap().problems, 0);
        }
    });
    let mut keys = 0;
    let mut count = |_: &str, _| {
        keys += 1;
        Ok(())
    };
    storage.read_snapshot("", None, &mut count).unwrap();
    assert_eq!(storage.verify(&mut |_| {}).unwrap().usage.keys, keys);
}

/// The engine has the value in memory.
#[test]
fn damage_in_the_file_of_an_open_store_is_found() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    let value = "a value that is nowhere else";
    storage.set("a/b/c/key", value.into()).unwrap();
    assert_eq!(storage.get("a/b/c/key").unwrap(), Some(value.into()));
    let mut bytes = file_bytes(&dir);
    let places = bytes.windows(value.len()).enumerate();
    let places: Vec<usize> =
        places.filter(|(_, window)| *window == value.as_bytes()).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    std::fs::write(dir.path(), bytes).unwrap();
    let mut found = Vec::new();
    let verified = storage.verify(&mut |problem| found.push(problem)).unwrap();
    assert_eq!((verified.problems, verified.usage.keys), (1, 0), "{found:?}");
    assert!(found.iter().any(|problem| problem.key.as_deref() == Some("a/b/c/key")), "{found:?}");
}
