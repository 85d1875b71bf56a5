//! The check of a whole store.

use super::*;

type Bytes = &'static [u8];

/// Changes a table behind the store's back, with checksums of pages that are
/// right.
pub(super) fn tamper(
    place: &Place,
    table: &str,
    change: impl FnOnce(&mut redb::Table<'_, Bytes, Bytes>),
) {
    let db = redb::Database::open(place.path()).unwrap();
    let txn = db.begin_write().unwrap();
    let definition = redb::TableDefinition::<Bytes, Bytes>::new(table);
    change(&mut txn.open_table(definition).unwrap());
    txn.commit().unwrap();
}

/// The first revision that is not reserved, as the file says.
pub(super) fn reserved_up_to(place: &Place) -> u64 {
    // Opening it recovers what a kill left behind, which is not to be changed.
    let copy = place.killed();
    let db = redb::Database::open(copy.path()).unwrap();
    let definition = redb::TableDefinition::<Bytes, Bytes>::new("meta");
    let table = redb::ReadableDatabase::begin_read(&db).unwrap().open_table(definition).unwrap();
    let value = redb::ReadableTable::get(&table, b"revisions".as_slice()).unwrap().unwrap();
    u64::from_le_bytes(value.value()[..8].try_into().unwrap())
}

fn filled() -> Place {
    let place = Place::new();
    let storage = open(&place.path());
    for n in 0..20 {
        let key = format!("app/notes/home/{n:02}");
        let commit = Commit::new().set(key, "value".into()).with_budget(Budget::UNLIMITED);
        storage.commit(commit).unwrap();
        storage.set(&format!("app/notes/work/{n:02}"), "value".into()).unwrap();
    }
    storage.set("loose", "value".into()).unwrap();
    drop(storage);
    place
}

/// The problems, in words; the file is the same afterwards.
fn told(place: &Place) -> String {
    let before = place.bytes();
    let (verified, problems) = place.verify();
    assert_eq!(verified.problems + verified.warnings, problems.len() as u64);
    assert!(place.bytes() == before);
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n").replace(&*place.path().to_string_lossy(), "STORE")
}

#[test]
fn a_sound_store_has_no_problems() {
    let place = filled();
    let verified = place.has_no_problems();
    let usage = read_only(&place.path()).usage(None).unwrap();
    assert_eq!((verified.usage, verified.components, verified.problems), (usage, 2, 0));
    assert_eq!(usage.keys, 41);
    let empty = Place::new();
    drop(open(&empty.path()));
    assert_eq!(empty.has_no_problems(), Verified::default());
}

#[test]
fn damaged_records_are_reported() {
    let place = filled();
    tamper(&place, "data", |table| {
        use redb::ReadableTable;
        let record = table.get(b"app/notes/home/04".as_slice()).unwrap().unwrap().value().to_vec();
        // One of another key, and one with a flipped byte.
        table.insert(b"app/notes/work/05".as_slice(), record.as_slice()).unwrap();
        let mut record =
            table.get(b"app/notes/home/03".as_slice()).unwrap().unwrap().value().to_vec();
        record[14] ^= 0x20;
        table.insert(b"app/notes/home/03".as_slice(), record.as_slice()).unwrap();
    });
    insta::assert_snapshot!(told(&place), @r#"
    data: key "app/notes/home/03": its record: its checksum does not match
    data: key "app/notes/work/05": its record: its checksum does not match
    "#);
    let storage = open(&place.path());
    for key in ["app/notes/home/03", "app/notes/work/05"] {
        match storage.get(key) {
            Err(StorageError::Corrupt { key: Some(named), detail }) => {
                assert_eq!(named, key);
                assert!(detail.contains("restore the store"), "{detail}");
            }
            other => panic!("{other:?}"),
        }
        let swap = Commit::new().require_value(key, "value".into()).delete(key);
        assert!(matches!(storage.commit(swap), Err(StorageError::Corrupt { key: Some(_), .. })));
    }
    assert!(matches!(
        storage.read_snapshot("", None, &mut |_, _| Ok(())),
        Err(StorageError::Corrupt { key: Some(_), .. })
    ));
    // Others are not concerned, and a write or a delete ends it.
    assert_eq!(storage.get("app/notes/home/04"), Ok(Some("value".into())));
    storage.set("app/notes/home/03", "new".into()).unwrap();
    storage.delete("app/notes/work/05").unwrap();
    drop(storage);
    place.has_no_problems();
}

#[test]
fn invalid_keys_are_reported() {
    let place = filled();
    tamper(&place, "data", |table| {
        table.insert(b"app/notes/home/\xff".as_slice(), b"".as_slice()).unwrap();
    });
    insta::assert_snapshot!(told(&place), @r#"data: a key is not UTF-8: "app/notes/home/\xff""#);
    let storage = open(&place.path());
    assert!(matches!(storage.list_keys(None), Err(StorageError::Corrupt { .. })));
    assert_eq!(storage.list_keys(Some("app/notes/work/")).unwrap().len(), 20);
}

#[test]
fn wrong_counters_are_reported() {
    let place = filled();
    let ledger = |bytes: u64, keys: u64, partition: &str| {
        let body = [bytes.to_le_bytes(), keys.to_le_bytes()].concat();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(partition.as_bytes());
        hasher.update(&body);
        [body.as_slice(), &hasher.finalize().to_le_bytes()].concat()
    };
    tamper(&place, "ledgers", |table| {
        for (partition, keys) in [("app/notes/home/", 19), ("", 1), ("app/gone/home/", 1)] {
            let value = ledger(140, keys, partition);
            table.insert(partition.as_bytes(), value.as_slice()).unwrap();
        }
        table.insert(b"app/notes/work/".as_slice(), b"nonsense".as_slice()).unwrap();
    });
    insta::assert_snapshot!(told(&place), @r#"
    usage counters: the usage counter of "app/notes/home/" is 140 bytes in 19 keys, but there are 140 bytes in 20 keys
    usage counters: the usage counter of "app/notes/work/" is damaged
    usage counters: the usage counter of "" is 140 bytes in 1 keys, but there are 10 bytes in 1 keys
    usage counters: a usage counter of "app/gone/home/", which has no keys
    "#);
}

#[test]
fn revisions_beyond_the_counter_are_reported() {
    let place = filled();
    let found = read_only(&place.path()).get_versioned("app/notes/work/19").unwrap().unwrap();
    let revision = found.revision.get();
    tamper(&place, "meta", |table| {
        let body = revision.to_le_bytes();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(b"revisions");
        hasher.update(&body);
        let value = [body.as_slice(), &hasher.finalize().to_le_bytes()].concat();
        table.insert(b"revisions".as_slice(), value.as_slice()).unwrap();
    });
    let told = told(&place).replace(&revision.to_string(), "N");
    insta::assert_snapshot!(told.replace(&(revision + 1).to_string(), "N+1"), @r#"
    data: key "app/notes/work/19": its revision N is beyond the revision counter
    data: key "loose": its revision N+1 is beyond the revision counter
    "#);
}

#[test]
fn the_rest_is_verified_after_damaged_metadata() {
    let place = filled();
    tamper(&place, "meta", |table| {
        table.insert(b"store-id".as_slice(), b"nonsense".as_slice()).unwrap();
    });
    insta::assert_snapshot!(told(&place), @r#"meta: STORE: its id is damaged; restore the file from a copy"#);
    assert_eq!(place.verify().0.usage.keys, 41);
    for result in [
        RedbStorage::open(place.path(), RedbOptions::default()),
        RedbStorage::open_read_only(place.path(), RedbOptions::default()),
    ] {
        assert!(matches!(result, Err(StorageError::Corrupt { key: None, .. })));
    }
}

#[test]
fn a_foreign_file_is_an_error_not_a_problem() {
    let place = Place::with(b"a thesis");
    let error = RedbStorage::verify(place.path(), &mut |_| panic!()).unwrap_err();
    assert!(matches!(error, StorageError::IoError(_)));
    let nothing = Place::new();
    let error = RedbStorage::verify(nothing.path(), &mut |_| panic!()).unwrap_err();
    assert!(matches!(error, StorageError::IoError(why) if why.contains("does not exist")));
    assert!(nothing.names().is_empty());
}

#[test]
fn a_panic_of_the_reporter_propagates() {
    let place = filled();
    tamper(&place, "data", |table| {
        table.insert(b"app/notes/home/03".as_slice(), b"short".as_slice()).unwrap();
    });
    let check = || RedbStorage::verify(place.path(), &mut |_| panic!("the reporter"));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the reporter");
}
