//! What is opened, what is refused, and what reading leaves alone.

use super::*;

fn refusal(result: Result<RedbStorage, StorageError>, place: &Place) -> String {
    let message = result.unwrap_err().to_string();
    message
        .replace(&*place.path().to_string_lossy(), "STORE")
        .replace(&std::process::id().to_string(), "PID")
}

/// What a writer and a reader are told, neither of whom changes anything.
fn both(place: &Place) -> String {
    let before = place.path().is_file().then(|| place.bytes());
    let told = [
        refusal(RedbStorage::open(place.path(), RedbOptions::default()), place),
        refusal(RedbStorage::open_read_only(place.path(), RedbOptions::default()), place),
    ];
    assert_eq!(place.path().is_file().then(|| place.bytes()), before);
    assert_eq!(place.names(), ["store.redb"]);
    told.join("\n")
}

#[test]
fn a_missing_store_is_created_by_writers_only() {
    let place = Place::new();
    let result = RedbStorage::open_read_only(place.path(), RedbOptions::default());
    insta::assert_snapshot!(refusal(result, &place), @"storage failed: STORE does not exist; a store is created when it is first opened for writing");
    assert!(place.names().is_empty(), "a reader makes nothing");
    drop(open(&place.path()));
    assert_eq!(place.names(), ["store.redb"]);
    read_only(&place.path());
}

#[test]
fn missing_directories_are_created() {
    let place = Place::new();
    let path = place.0.path().join("var/lib/store.redb");
    open(&path).set("a/b/c/key", "value".into()).unwrap();
    assert_eq!(read_only(&path).get("a/b/c/key"), Ok(Some("value".into())));
}

#[cfg(unix)]
#[test]
fn a_new_store_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    drop(open(&place.path()));
    assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_empty_file_counts_as_missing() {
    let place = Place::with(b"");
    let result = RedbStorage::open_read_only(place.path(), RedbOptions::default());
    assert!(matches!(result, Err(StorageError::IoError(_))));
    open(&place.path()).set("a/b/c/key", "value".into()).unwrap();
    assert_eq!(place.names(), ["store.redb"]);
}

#[test]
fn a_foreign_file_is_refused_and_unchanged() {
    insta::assert_snapshot!(both(&Place::with(b"a thesis")), @r"
    storage failed: STORE is not a redb database; give the path of a store, or a new path
    storage failed: STORE is not a redb database; give the path of a store, or a new path
    ");
    insta::assert_snapshot!(both(&Place::with(&[7; 100_000])), @r"
    storage failed: STORE is not a redb database; give the path of a store, or a new path
    storage failed: STORE is not a redb database; give the path of a store, or a new path
    ");
    let folder = Place::new();
    fs::create_dir(folder.path()).unwrap();
    insta::assert_snapshot!(both(&folder), @r"
    storage failed: STORE is a directory, not a store file
    storage failed: STORE is a directory, not a store file
    ");
}

#[test]
fn a_foreign_database_is_refused_and_unchanged() {
    let place = Place::new();
    let db = redb::Database::create(place.path()).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<&str, u64>::new("theirs")).unwrap();
    txn.commit().unwrap();
    drop(db);
    insta::assert_snapshot!(both(&place), @r"
    storage failed: STORE is a redb database of another program, not a store; give the path of a store, or a new path
    storage failed: STORE is a redb database of another program, not a store; give the path of a store, or a new path
    ");
}

#[test]
fn the_last_revision_is_used_once() {
    let place = Place::new();
    drop(open(&place.path()));
    verify::tamper(&place, "meta", |table| {
        let body = (u64::MAX - 1).to_le_bytes();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(b"revisions");
        hasher.update(&body);
        let value = [body.as_slice(), &hasher.finalize().to_le_bytes()].concat();
        table.insert(b"revisions".as_slice(), value.as_slice()).unwrap();
    });
    let storage = open(&place.path());
    assert_eq!(storage_core::put(&storage, "a/b/c/1", "1".into()), Ok(Revision::new(u64::MAX - 1)));
    for _ in 0..2 {
        let put = storage_core::put(&storage, "a/b/c/1", "2".into());
        assert!(matches!(put, Err(StorageError::Corrupt { .. })), "{put:?}");
    }
    assert_eq!(storage.get("a/b/c/1"), Ok(Some("1".into())));
}

#[test]
fn another_format_is_refused_with_its_version() {
    let place = Place::new();
    drop(open(&place.path()));
    verify::tamper(&place, "meta", |table| {
        let body = 12_u32.to_le_bytes();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(b"format");
        hasher.update(&body);
        let value = [body, hasher.finalize().to_le_bytes()].concat();
        table.insert(b"format".as_slice(), value.as_slice()).unwrap();
    });
    insta::assert_snapshot!(both(&place), @r"
    not supported: the store in STORE has format 12, but this program reads format 1; use the release that wrote it
    not supported: the store in STORE has format 12, but this program reads format 1; use the release that wrote it
    ");
}

#[test]
fn a_second_opening_names_the_writer() {
    let place = Place::new();
    let first = open(&place.path());
    let second = RedbStorage::open(place.path(), RedbOptions::default());
    assert!(matches!(second, Err(StorageError::Locked(_))));
    let told = refusal(second, &place);
    let reader = RedbStorage::open_read_only(place.path(), RedbOptions::default());
    assert!(matches!(reader, Err(StorageError::Locked(_))));
    assert_eq!(refusal(reader, &place), told);
    let verified = RedbStorage::verify(place.path(), &mut |_| {});
    assert!(matches!(verified, Err(StorageError::Locked(_))));
    if cfg!(target_os = "linux") {
        insta::assert_snapshot!(told, @"the store STORE is locked: this process has it open for writing; close it first");
    }
    first.set("a/b/c/still", "works".into()).unwrap();
    drop(first);
    open(&place.path());
}

#[test]
fn readers_exclude_writers_but_not_each_other() {
    let place = Place::new();
    open(&place.path()).set("a/b/c/key", "value".into()).unwrap();
    let readers = [read_only(&place.path()), read_only(&place.path())];
    for reader in &readers {
        assert_eq!(reader.get("a/b/c/key"), Ok(Some("value".into())));
    }
    place.has_no_problems();
    let writer = RedbStorage::open(place.path(), RedbOptions::default());
    assert!(matches!(writer, Err(StorageError::Locked(_))));
    drop(readers);
    open(&place.path());
}

#[test]
fn concurrent_creations_make_one_store() {
    for _ in 0..20 {
        let place = Place::new();
        let ids: Vec<Option<String>> = std::thread::scope(|scope| {
            let make = || match RedbStorage::open(place.path(), RedbOptions::default()) {
                Ok(storage) => Some(storage.store_id().to_owned()),
                Err(StorageError::Locked(_)) => None,
                Err(other) => panic!("{other:?}"),
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let id = open(&place.path()).store_id().to_owned();
        assert!(ids.iter().flatten().all(|made| *made == id), "one store was made");
        assert!(ids.iter().any(Option::is_some));
        assert_eq!(place.names(), ["store.redb"]);
    }
}

#[test]
fn each_store_has_its_own_id() {
    let [one, other] = [Place::new(), Place::new()];
    let id = open(&one.path()).store_id().to_owned();
    assert_eq!(read_only(&one.path()).store_id(), id);
    assert_ne!(open(&other.path()).store_id(), id);
    assert_eq!(id.len(), 32);
}

#[test]
fn a_reader_changes_nothing() {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set("a/b/c/key", "value".into()).unwrap();
    drop(storage);
    // Closed, and as a killed process leaves it.
    let storage = open(&place.path());
    storage.set("a/b/c/key", "killed".into()).unwrap();
    let killed = place.killed();
    storage.set("a/b/c/key", "closed".into()).unwrap();
    drop(storage);
    for (place, expected) in [(place, "closed"), (killed, "killed")] {
        let before = place.bytes();
        for check in [0, u64::MAX] {
            let options = RedbOptions::default().with_check_up_to_bytes(check);
            let reader = RedbStorage::open_read_only(place.path(), options).unwrap();
            assert_eq!(reader.get("a/b/c/key"), Ok(Some(expected.into())));
            assert_eq!(reader.get_many(&["a/b/c/key", "x"]).unwrap().len(), 2);
            assert!(reader.exists("a/b/c/key").unwrap());
            assert_eq!(reader.usage(None).unwrap().keys, 1);
            assert_eq!(reader.list_components(None, 10).unwrap().keys, ["a/b/c/"]);
            reader.flush().unwrap();
            let refused = [
                reader.set("a/b/c/d", "x".into()),
                reader.delete("a/b/c/key"),
                storage_core::put(&reader, "a/b/c/d", "x".into()).map(drop),
                reader.commit(Commit::new()).map(drop),
            ];
            assert!(refused.iter().all(|result| *result == Err(StorageError::ReadOnly)));
        }
        place.has_no_problems();
        assert_eq!(place.bytes(), before);
        assert_eq!(place.names(), ["store.redb"]);
    }
}

#[test]
fn a_killed_process_loses_no_acknowledged_write() {
    let place = Place::new();
    let storage = open(&place.path());
    let first = storage_core::put(&storage, "a/b/c/first", "".into()).unwrap();
    let mut last = first;
    for n in 0..40 {
        let value = StorageValue::new(vec![n; usize::from(n) * 500]);
        last = storage_core::put(&storage, &format!("a/b/c/{n:02}"), value).unwrap();
        if n % 3 == 0 {
            storage.delete("a/b/c/00").unwrap();
        }
        let expected = contents(&storage);
        let killed = place.killed();
        assert!(contents(&read_only(&killed.path())) == expected, "{n}");
        let again = open(&killed.path());
        assert!(contents(&again) == expected, "{n}");
        assert!(storage_core::put(&again, "a/b/c/00", "".into()).unwrap() > last);
        drop(again);
        killed.has_no_problems();
    }
    assert!(last.get() - first.get() < 100, "revisions are not wasted: {first} to {last}");
}

#[test]
fn a_snapshot_ignores_later_writes() {
    let place = Place::new();
    let storage = open(&place.path());
    for n in 0..100 {
        storage.set(&format!("a/b/c/{n:03}"), StorageValue::new(vec![1; 1000])).unwrap();
    }
    let mut seen = 0;
    let walk = storage.read_snapshot("a/b/", None, &mut |_, value| {
        // A writer need not wait.
        let commit = Commit::new().set("a/b/c/099", "new".into()).set("a/b/c/999", "new".into());
        storage.commit(commit).unwrap();
        assert_eq!(value.as_bytes(), [1; 1000]);
        seen += 1;
        Ok(())
    });
    walk.unwrap();
    assert_eq!(seen, 100);
}

#[test]
fn a_panicking_visitor_leaves_the_store_usable() {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set("a/b/c/key", "value".into()).unwrap();
    let walk = || storage.read_snapshot("", None, &mut |_, _| panic!("the visitor"));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(walk)).unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the visitor");
    storage.set("a/b/c/key", "later".into()).unwrap();
    assert_eq!(storage.get("a/b/c/key"), Ok(Some("later".into())));
}

#[test]
fn a_restored_copy_uses_new_revisions() {
    restored::a_restored_copy_uses_new_revisions(open);
}

#[test]
fn look_for_writer_finds_writers_only() {
    use storage_backends::look_for_writer;
    let place = Place::new();
    assert_eq!(look_for_writer(place.path()), Ok(()), "there is no store");
    let writer = open(&place.path());
    assert!(matches!(look_for_writer(place.path()), Err(StorageError::Locked(_))));
    drop(writer);
    let reader = read_only(&place.path());
    assert_eq!(look_for_writer(place.path()), Ok(()));
    drop(reader);
    let before = place.bytes();
    assert_eq!(look_for_writer(place.path()), Ok(()));
    assert!(place.bytes() == before);
    open(&place.path());
}
