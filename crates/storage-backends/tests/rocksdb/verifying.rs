//! `verify` finds what is wrong and changes nothing.

use storage_core::{Budget, Usage};

use super::*;

fn filled() -> Place {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set("app/notes/home/a", "12345".into()).unwrap();
    storage.commit(set("app/notes/work/b", "1").with_budget(Budget::UNLIMITED)).unwrap();
    storage.set("loose", "x".into()).unwrap();
    drop(storage);
    place
}

#[test]
fn a_sound_store_is_counted() {
    let place = filled();
    let (verified, problems) = verify(&place.path());
    assert_eq!(problems, []);
    assert_eq!(verified.usage, Usage { bytes: 16 + 5 + 16 + 1 + 5 + 1, keys: 3 });
    assert_eq!(verified.components, 2);
}

/// What is put into the database, and the one problem that follows.
#[test]
fn every_kind_of_problem_is_reported() {
    type Change = fn(&mut ::rocksdb::DB);
    let ledger: Change = |database| {
        let ledgers = database.cf_handle("ledgers").unwrap();
        let other = database.get_cf(ledgers, "app/notes/work/").unwrap().unwrap();
        database.put_cf(ledgers, "app/notes/home/", other).unwrap();
    };
    let cases: [(&str, Option<&str>, Change); 8] = [
        ("its checksum does not match", Some("app/notes/home/a"), |database| {
            let mut record = database.get("app/notes/home/a").unwrap().unwrap();
            record[13] ^= 1;
            database.put("app/notes/home/a", record).unwrap();
        }),
        ("its checksum does not match", Some("app/notes/home/z"), |database| {
            let record = database.get("app/notes/home/a").unwrap().unwrap();
            database.put("app/notes/home/z", record).unwrap();
        }),
        ("stored as another kind of key", Some("unloosed"), |database| {
            database.put("unloosed", "").unwrap();
        }),
        ("stored as another kind of key", Some("a/b/c/d"), |database| {
            database.put("\0a/b/c/d", "").unwrap();
        }),
        ("no control characters", Some("a/b/c/\n"), |database| {
            database.put("a/b/c/\n", "").unwrap();
        }),
        ("not UTF-8", None, |database| database.put(b"a/b/c/\xff", "").unwrap()),
        ("beyond the revision counter", Some("app/notes/home/a"), |database| {
            let meta = database.cf_handle("meta").unwrap();
            database.delete("\0loose").unwrap();
            database.delete("app/notes/work/b").unwrap();
            database.delete_cf(database.cf_handle("ledgers").unwrap(), "app/notes/work/").unwrap();
            database.put_cf(meta, "revisions", 1u64.to_le_bytes()).unwrap();
        }),
        ("the usage counter of \"app/notes/home/\" is damaged", None, ledger),
    ];
    for (detail, key, change) in cases {
        let place = filled();
        opening::raw(&place, change);
        let before = place.tree();
        let (_, problems) = verify(&place.path());
        assert_eq!(problems.len(), 1, "{detail}: {problems:?}");
        assert!(problems[0].detail.contains(detail), "{detail}: {problems:?}");
        assert_eq!(problems[0].key.as_deref(), key, "{problems:?}");
        assert_eq!(place.tree(), before);
    }
}

#[test]
fn a_wrong_counter_is_reported() {
    for change in [
        (|database| database.delete("app/notes/work/b").unwrap()) as fn(&mut ::rocksdb::DB),
        |database| {
            let record = database.get("app/notes/work/b").unwrap().unwrap();
            database.put("app/notes/work/b", [record, vec![0]].concat()).unwrap();
        },
    ] {
        let place = filled();
        opening::raw(&place, change);
        let (_, problems) = verify(&place.path());
        let found = problems.iter().any(|problem| {
            problem
                .detail
                .starts_with("the usage counter of \"app/notes/work/\" is 2 bytes in 1 keys")
        });
        assert!(found, "{problems:?}");
    }
}

/// Of many files one is damaged: the rest is read, and nothing is said of
/// ledgers that could not be counted.
#[test]
fn keys_after_damage_are_verified() {
    let place = Place::new();
    let storage = RocksDbStorage::open(place.path(), unsynced()).unwrap();
    for component in 0..30 {
        for number in 0..40 {
            let key = format!("app/notes/{component:02}/{number:02}");
            // Nothing that could be compressed.
            let value: Vec<u8> = (0..500u32)
                .map(|at| (at.wrapping_mul(2_654_435_761 + component * 77 + number) >> 24) as u8)
                .collect();
            let commit = Commit::new().set(key, value.into());
            storage.commit(commit.with_budget(Budget::UNLIMITED)).unwrap();
        }
    }
    drop(storage);
    let (sound, problems) = verify(&place.path());
    assert_eq!((sound.usage.keys, problems), (1200, Vec::new()));
    let (largest, mut bytes) =
        place.tree().into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    assert_eq!(largest.extension().unwrap(), "sst");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    let before = place.tree();
    let (verified, problems) = verify(&place.path());
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].detail.contains(&*largest.file_name().unwrap().to_string_lossy()));
    assert!(verified.usage.keys < 1200 && verified.usage.keys > 300, "{verified:?}");
    assert_eq!(place.tree(), before);
}

#[test]
fn foreign_files_are_warnings() {
    let place = filled();
    for name in [".DS_Store", "notes.txt"] {
        fs::write(place.path().join(name), "x").unwrap();
    }
    fs::create_dir(place.path().join("lost+found")).unwrap();
    let (verified, problems) = verify(&place.path());
    let shown: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}: {}", problem.kind, problem.location))
        .map(|line| line.replace(&*place.path().to_string_lossy(), "STORE"))
        .collect();
    let foreign = ["STORE/.DS_Store", "STORE/lost+found", "STORE/notes.txt"];
    assert_eq!(shown, foreign.map(|path| format!("foreign_file: {path}")));
    assert_eq!((verified.problems, verified.usage.keys), (0, 3));
    // They keep nothing shut, and stay.
    assert_eq!(contents(&open(&place.path())).len(), 3);
    assert!(place.path().join("notes.txt").exists());
}

#[cfg(unix)]
#[test]
fn an_open_directory_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let place = filled();
    let warnings = |mode: u32| {
        fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
        let mut found = Vec::new();
        let mut report = |problem: Problem| found.push(problem);
        let verified = RocksDbStorage::verify(place.path(), &mut report).unwrap();
        assert_eq!((verified.problems, verified.warnings), (0, found.len() as u64));
        assert!(found.iter().all(|problem| problem.kind == ProblemKind::Permissions));
        found.len()
    };
    assert_eq!(warnings(0o700), 0);
    assert_eq!(warnings(0o755), 1);
    assert_eq!(warnings(0o770), 1);
}
