//! Damaged files, and logs that a power cut leaves.

use storage_core::{Budget, StorageError};

use super::*;
use crate::damaged::{Contents, Random, fill, is_whole};

#[test]
fn truncated_and_missing_files_are_detected() {
    let whole = StoreDir::new();
    let (mut expected, mut random) = (Contents::new(), Random(42));
    for _ in 0..2 {
        fill(&open(&whole.path()), &mut random, &mut expected);
    }
    for (path, bytes) in whole.tree() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let step = match &*name {
            "CURRENT" | "CLOSED" => 1,
            name if name.starts_with("MANIFEST") => 5,
            name if name.ends_with(".sst") => bytes.len() / 3,
            _ => continue,
        };
        let lens = (0..bytes.len()).step_by(step).chain([bytes.len() - 1]).map(Some);
        let gone = (name != "CLOSED").then_some(None);
        for len in lens.chain(gone) {
            let dir = whole.copy();
            let path = dir.path().join(&name);
            match len {
                Some(len) => fs::write(path, &bytes[..len]).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            for result in [
                RocksDbStorage::open_read_only(dir.path(), small()),
                RocksDbStorage::open(dir.path(), small()),
            ] {
                match result {
                    Ok(storage) => assert!(!is_whole(&storage, &expected), "{name} {len:?}"),
                    Err(StorageError::Corrupt { .. }) => {}
                    Err(error) => panic!("{name} {len:?}: {error}"),
                }
            }
        }
    }
}

#[test]
fn the_close_marker_is_ignored_after_the_next_opening_for_writing() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    storage.set("app/notes/home/a", "1".into()).unwrap();
    assert!(!dir.path().join("CLOSED").exists());
    let copy = StoreDir::new();
    storage.checkpoint(&copy.path()).unwrap();
    drop(storage);
    for dir in [&dir, &copy] {
        assert!(dir.path().join("CLOSED").exists());
        drop(read_only(&dir.path()));
        let storage = open(&dir.path());
        storage.set("app/notes/home/b", "2".into()).unwrap();
        let killed = dir.copy();
        assert_eq!(numbers(&read_only(&killed.path())), 2);
        assert_eq!(numbers(&open(&killed.path())), 2);
        drop(storage);
        raw(&dir.path(), |database| database.put("app/notes/home/c", "").unwrap());
        assert_eq!(numbers(&open(&dir.path())), 3);
    }
}

/// A store that was not closed, its log, and the offset of the last record.
fn killed_store() -> (StoreDir, PathBuf, Vec<u8>, usize) {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    for number in 0..20 {
        let value = StorageValue::from(vec![b'v'; 300]);
        storage.set(&format!("app/notes/home/{number:02}"), value).unwrap();
    }
    let log = |dir: &StoreDir| {
        let logs = dir.tree().into_iter();
        let mut logs = logs.filter(|(path, _)| path.extension().is_some_and(|end| end == "log"));
        logs.next_back().unwrap()
    };
    let (_, before) = log(&dir);
    storage.set("app/notes/home/20", vec![b'l'; 3000].into()).unwrap();
    let killed = dir.copy();
    let (path, bytes) = log(&killed);
    (killed, path, bytes, before.len())
}

fn numbers(storage: &RocksDbStorage) -> usize {
    storage.list_keys(None).unwrap().len()
}

#[test]
fn a_truncated_log_loses_only_the_write_at_its_end() {
    let (dir, log, bytes, last) = killed_store();
    assert_eq!(numbers(&read_only(&dir.path())), 21);
    let cut = (last..bytes.len()).step_by(373).map(|len| bytes[..len].to_vec());
    // Preallocated space.
    let longer = [&bytes[..last], &[0; 9000]].concat();
    for torn in cut.chain([longer]) {
        let again = dir.copy();
        let path = again.path().join(log.file_name().unwrap());
        fs::write(path, torn).unwrap();
        assert_eq!(numbers(&read_only(&again.path())), 20);
        assert_sound(&again.path());
        let storage = open(&again.path());
        assert_eq!(numbers(&storage), 20);
        storage.set("app/notes/home/new", "after".into()).unwrap();
        drop(storage);
        assert_eq!(numbers(&open(&again.path())), 21);
    }
}

#[test]
fn damage_to_the_log_of_a_synced_store_is_an_error() {
    let (dir, log, bytes, last) = killed_store();
    for at in [0, 100, last / 2, last - 1, last, last + 1000] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&log, damaged).unwrap();
        let before = dir.tree();
        for result in [
            RocksDbStorage::open_read_only(dir.path(), small()),
            RocksDbStorage::open(dir.path(), small()),
        ] {
            let Err(StorageError::Corrupt { detail, .. }) = &result else {
                panic!("byte {at}: {result:?}");
            };
            assert!(detail.contains("checksum mismatch"), "{detail}");
        }
        assert_eq!(verify(&dir.path()).1.len(), 1);
        let ours = |(path, _): &(PathBuf, Vec<u8>)| !path.ends_with("WRITER");
        assert!(dir.tree().into_iter().filter(ours).eq(before.into_iter().filter(ours)));
    }
    fs::write(&log, bytes).unwrap();
    assert_eq!(numbers(&open(&dir.path())), 21);
}

#[test]
fn an_unsynced_store_keeps_the_writes_before_a_torn_part_of_the_log() {
    let dir = StoreDir::new();
    let storage = RocksDbStorage::open(dir.path(), unsynced()).unwrap();
    for number in 0..100 {
        let value = StorageValue::from(vec![b'v'; 300]);
        storage.set(&format!("app/notes/home/{number:02}"), value).unwrap();
    }
    storage.flush().unwrap();
    let cut = dir.copy();
    drop(storage);
    let log =
        cut.tree().into_keys().filter(|path| path.extension().is_some_and(|end| end == "log"));
    let log = log.max().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0);
    fs::write(&log, bytes).unwrap();
    let found = numbers(&read_only(&cut.path()));
    assert!((40..60).contains(&found), "{found}");
    let storage = open(&cut.path());
    assert_eq!(numbers(&storage), found);
    assert!(!cut.path().join("UNSYNCED").exists());
    drop(storage);
    assert_sound(&cut.path());
}

/// A damaged block also hides the old lengths that a usage counter needs.
#[test]
fn keys_in_a_damaged_block_can_be_written_and_deleted() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    let mut random = Random(7);
    for number in 0..200 {
        // Values that do not compress.
        let value: Vec<u8> = (0..500).map(|_| random.below(256) as u8).collect();
        let commit = Commit::new().set(format!("app/notes/home/{number:03}"), value.into());
        storage.commit(commit.with_budget(Budget::UNLIMITED)).unwrap();
    }
    drop(storage);
    let (largest, mut bytes) = dir.tree().into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    assert_eq!(largest.extension().unwrap(), "sst");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();

    let storage = open(&dir.path());
    let keys: Vec<String> = (0..200).map(|number| format!("app/notes/home/{number:03}")).collect();
    let (whole, broken): (Vec<&String>, Vec<&String>) =
        keys.iter().partition(|key| storage.get(key).is_ok());
    assert!(!broken.is_empty() && whole.len() > 150, "{broken:?}");
    // The budget of a component with unreadable keys cannot be checked, so this fails.
    let commit = set(broken[0], "new").with_budget(Budget::UNLIMITED);
    assert!(matches!(storage.commit(commit), Err(StorageError::Corrupt { .. })));
    for (number, key) in broken.iter().enumerate() {
        match number % 3 {
            0 => storage.set(key, "whole again".into()).unwrap(),
            1 => storage.delete(key).unwrap(),
            _ => drop(
                storage.commit(Commit::new().delete(*key).with_budget(Budget::UNLIMITED)).unwrap(),
            ),
        }
        let right = (number % 3 == 0).then(|| "whole again".into());
        assert_eq!(storage.get(key), Ok(right));
    }
    for key in whole {
        assert!(storage.get(key).unwrap().is_some());
    }
    // The usage is unknown now.
    drop(storage);
    raw(&dir.path(), |database| {
        let counters = database.cf_handle("ledgers").unwrap();
        assert_eq!(database.get_cf(counters, "app/notes/home/").unwrap(), None);
    });
}
