//! Verify reports each kind of damage and changes nothing.

use storage_core::Budget;

use super::*;

fn filled() -> StoreDir {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    storage.set("app/notes/home/a", "12345".into()).unwrap();
    storage.commit(set("app/notes/work/b", "1").with_budget(Budget::UNLIMITED)).unwrap();
    storage.set("loose", "x".into()).unwrap();
    drop(storage);
    dir
}

/// A change to the database, and the problem that verify reports.
#[test]
fn every_kind_of_problem_is_reported() {
    type Change = fn(&mut ::rocksdb::DB);
    let wrong_counter: Change = |database| {
        let counters = database.cf_handle("ledgers").unwrap();
        let other = database.get_cf(counters, "app/notes/work/").unwrap().unwrap();
        database.put_cf(counters, "app/notes/home/", other).unwrap();
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
        ("stored in the wrong range", Some("unloosed"), |database| {
            database.put("unloosed", "").unwrap();
        }),
        ("stored in the wrong range", Some("a/b/c/d"), |database| {
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
        ("the usage counter of \"app/notes/home/\" is damaged", None, wrong_counter),
    ];
    for (detail, key, change) in cases {
        let dir = filled();
        raw(&dir.path(), change);
        let before = dir.tree();
        let (_, problems) = verify(&dir.path());
        assert_eq!(problems.len(), 1, "{detail}: {problems:?}");
        assert!(problems[0].detail.contains(detail), "{detail}: {problems:?}");
        assert_eq!(problems[0].key.as_deref(), key, "{problems:?}");
        assert_eq!(dir.tree(), before);
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
        let dir = filled();
        raw(&dir.path(), change);
        let (_, problems) = verify(&dir.path());
        let found = problems.iter().any(|problem| {
            problem
                .detail
                .starts_with("the usage counter of \"app/notes/work/\" is 2 bytes in 1 keys")
        });
        assert!(found, "{problems:?}");
    }
}

/// One of many files is damaged. Verify reads the rest and reports no usage counters that
/// it could not check.
#[test]
fn keys_after_damage_are_verified() {
    let dir = StoreDir::new();
    let storage = RocksDbStorage::open(dir.path(), unsynced()).unwrap();
    for component in 0..30 {
        for number in 0..40 {
            let key = format!("app/notes/{component:02}/{number:02}");
            // Values that do not compress.
            let value: Vec<u8> = (0..500u32)
                .map(|at| (at.wrapping_mul(2_654_435_761 + component * 77 + number) >> 24) as u8)
                .collect();
            let commit = Commit::new().set(key, value.into());
            storage.commit(commit.with_budget(Budget::UNLIMITED)).unwrap();
        }
    }
    drop(storage);
    let (sound, problems) = verify(&dir.path());
    assert_eq!((sound.usage.keys, problems), (1200, Vec::new()));
    let (largest, mut bytes) = dir.tree().into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    assert_eq!(largest.extension().unwrap(), "sst");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    let before = dir.tree();
    let (verified, problems) = verify(&dir.path());
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].detail.contains(&*largest.file_name().unwrap().to_string_lossy()));
    assert!(verified.usage.keys < 1200 && verified.usage.keys > 300, "{verified:?}");
    assert_eq!(dir.tree(), before);
}

#[test]
fn foreign_files_are_warnings() {
    let dir = filled();
    for name in [".DS_Store", "notes.txt"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    let (verified, problems) = verify(&dir.path());
    let shown: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}: {}", problem.kind, problem.location))
        .map(|line| line.replace(&*dir.path().to_string_lossy(), "STORE"))
        .collect();
    let foreign = ["STORE/.DS_Store", "STORE/lost+found", "STORE/notes.txt"];
    assert_eq!(shown, foreign.map(|path| format!("foreign_file: {path}")));
    assert_eq!((verified.problems, verified.usage.keys), (0, 3));
    // The store opens and keeps them.
    assert_eq!(contents(&open(&dir.path())).len(), 3);
    assert!(dir.path().join("notes.txt").exists());
}
