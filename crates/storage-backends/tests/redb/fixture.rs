//! The first version of the format, as a store on disk: three components, one
//! with a ledger, a loose key, a large value, and a writer that was killed.

use super::*;

fn fixture() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/redb-format-1");
    fs::read(folder.join("store.redb")).unwrap()
}

fn fill(storage: &RedbStorage) {
    let budget = Budget { max_bytes: 1000, max_keys: 10 };
    for (own, value) in [("a", "with a budget"), ("user:\u{e9}", "accent")] {
        let commit = Commit::new().set(format!("app/notes/home/{own}"), value.into());
        storage.commit(commit.with_budget(budget)).unwrap();
    }
    storage.set("app/notes/home/gone", "gone".into()).unwrap();
    storage.set("App/Notes/con/UPPER", "case".into()).unwrap();
    storage.set("app/counter/001/runs", "3".into()).unwrap();
    storage.set("app/counter/001/large", StorageValue::new(vec![0x5a; 3_000])).unwrap();
    storage.set("loose-key", "".into()).unwrap();
    storage.delete("app/notes/home/gone").unwrap();
}

fn expected() -> Contents {
    let small = [
        ("App/Notes/con/UPPER", "case"),
        ("app/counter/001/runs", "3"),
        ("app/notes/home/a", "with a budget"),
        ("app/notes/home/user:\u{e9}", "accent"),
        ("loose-key", ""),
    ];
    let mut expected: Contents =
        small.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    expected.insert("app/counter/001/large".into(), vec![0x5a; 3_000]);
    expected
}

#[test]
fn the_first_format_is_read() {
    let place = Place::with(&fixture());
    assert_eq!(place.has_no_problems().components, 3);
    assert!(contents(&read_only(&place.path())) == expected());
    let writer = open(&place.path());
    assert!(contents(&writer) == expected());
    assert_eq!(writer.store_id(), "4826f5d180ca560874c3013b3c17dd9a");
    let runs = writer.get_versioned("app/counter/001/runs").unwrap().unwrap();
    assert_eq!(runs.revision, Revision::new(5));
    assert!(
        storage_core::put(&writer, "app/counter/001/runs", "4".into()).unwrap() > Revision::new(8)
    );
    // The ledger is the one that was kept.
    let full = Budget { max_bytes: 27, max_keys: 3 };
    let commit = |value: &str| {
        writer.commit(Commit::new().set("app/notes/home/b", value.into()).with_budget(full))
    };
    assert_eq!(commit("1"), Err(StorageError::QuotaExceeded));
}

/// How the fixture was made.
#[test]
fn this_version_writes_the_fixture() {
    let place = Place::new();
    let storage = open(&place.path());
    fill(&storage);
    assert!(contents(&storage) == expected());
    if let Some(folder) = std::env::var_os("REDB_FIXTURE") {
        fs::write(Path::new(&folder).join("store.redb"), place.bytes()).unwrap();
    }
}
