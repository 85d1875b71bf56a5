//! Flipped bytes, truncated files and power cuts give the right values or `Corrupt`.

use storage_core::{Budget, StorageError, Store};

use super::*;

/// Marsaglia's xorshift: the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// How many damaged stores a test examines.
fn samples(default: usize) -> usize {
    let more = std::env::var("STORAGE_TEST_ROCKSDB_SAMPLES").ok();
    more.and_then(|number| number.parse().ok()).unwrap_or(default)
}

type Contents = BTreeMap<String, StorageValue>;
type Open = fn(&Path) -> Result<RocksDbStorage, StorageError>;

/// Writes, overwrites and deletes; every round in files of its own.
fn fill(dir: &StoreDir, rounds: usize) -> (RocksDbStorage, Contents) {
    let mut expected = Contents::new();
    let mut random = Random(42);
    let mut storage = open(&dir.path());
    for round in 0..rounds {
        if round > 0 {
            drop(storage);
            storage = open(&dir.path());
        }
        for number in 0..40 {
            let key = format!("app/notes/{}/{}", random.below(3), random.below(30));
            let value: Vec<u8> = (0..random.below(600)).map(|_| random.below(256) as u8).collect();
            let value = StorageValue::from(value);
            match number % 8 {
                0 => {
                    storage.delete(&key).unwrap();
                    expected.remove(&key);
                    continue;
                }
                1 => {
                    let commit = Commit::new().set(&key, value.clone());
                    storage.commit(commit.with_budget(Budget::UNLIMITED)).unwrap();
                }
                2 => {
                    let commit = Commit::new().set(&key, value.clone()).set("loose", value.clone());
                    storage.commit(commit).unwrap();
                    expected.insert("loose".to_owned(), value.clone());
                }
                _ => storage.set(&key, value.clone()).unwrap(),
            }
            expected.insert(key, value);
        }
    }
    (storage, expected)
}

/// Checks that every result is right or `Corrupt`.
fn is_right_or_corrupt(storage: &RocksDbStorage, expected: &Contents) -> Result<bool, String> {
    fn judge<T: PartialEq + std::fmt::Debug>(
        what: &str,
        found: Result<T, StorageError>,
        right: &T,
    ) -> Result<bool, String> {
        match found {
            Ok(found) if found == *right => Ok(true),
            Err(StorageError::Corrupt { .. }) => Ok(false),
            other => Err(format!("{what}: {other:?}")),
        }
    }
    let mut whole = true;
    for component in 0..3 {
        for number in 0..30 {
            let key = format!("app/notes/{component}/{number}");
            let right = expected.get(&key).cloned();
            whole &= judge(&key, storage.get(&key), &right)?;
            whole &= judge(&key, storage.exists(&key), &right.is_some())?;
        }
        let prefix = format!("app/notes/{component}/");
        let keys: Vec<String> =
            expected.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
        whole &= judge("list", storage.list_keys(Some(&prefix)), &keys)?;
        let bytes = |key: &String| key.len() + expected.get(key).map_or(0, StorageValue::len);
        let usage = storage_core::Usage {
            bytes: keys.iter().map(bytes).sum::<usize>() as u64,
            keys: keys.len() as u64,
        };
        whole &= judge("usage", storage.usage(Some(&prefix)), &usage)?;
    }
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    let values: Vec<_> = expected.values().cloned().map(Some).collect();
    whole &= judge("get_many", storage.get_many(&names), &values)?;
    let mut found = Contents::new();
    let walked = storage.read_snapshot("", None, &mut |key, value| {
        found.insert(key.to_owned(), value);
        Ok(())
    });
    whole &= judge("snapshot", walked.map(|()| found), expected)?;
    Ok(whole)
}

/// Opens the damaged store in both ways. Returns whether damage was detected.
fn look_at(dir: &StoreDir, expected: &Contents) -> Result<bool, String> {
    let before = dir.tree();
    let ways: [Open; 2] = [
        |path| RocksDbStorage::open_read_only(path, small()),
        |path| RocksDbStorage::open(path, small()),
    ];
    let mut found = false;
    for (number, way) in ways.iter().enumerate() {
        match way(&dir.path()) {
            Ok(storage) => found |= !is_right_or_corrupt(&storage, expected)?,
            Err(StorageError::Corrupt { .. }) => found = true,
            Err(error) => return Err(format!("opening: {error}")),
        }
        if number == 0 && dir.tree() != before {
            return Err("a reader changed something".to_owned());
        }
    }
    Ok(found)
}

/// Flips bytes of the files that `of` accepts, one at a time.
fn flip(
    whole: &StoreDir,
    expected: &Contents,
    count: usize,
    seed: u64,
    of: impl Fn(&str) -> bool,
) -> usize {
    let files: Vec<(String, Vec<u8>)> = whole
        .tree()
        .into_iter()
        .map(|(path, bytes)| (path.file_name().unwrap().to_string_lossy().into_owned(), bytes))
        .filter(|(name, bytes)| !bytes.is_empty() && of(name))
        .collect();
    assert!(!files.is_empty());
    let mut random = Random(seed);
    let mut found = 0;
    for _ in 0..count {
        let (name, bytes) = &files[random.below(files.len())];
        let at = random.below(bytes.len());
        let mask = [0x01, 0x80, 0xff, 0x10][random.below(4)];
        let dir = whole.copy();
        let mut damaged = bytes.clone();
        damaged[at] ^= mask;
        fs::write(dir.path().join(name), damaged).unwrap();
        match look_at(&dir, expected) {
            Ok(was_found) => found += usize::from(was_found),
            Err(problem) => panic!("{name}, byte {at} ^ {mask:#x}: {problem}"),
        }
    }
    found
}

fn holds_data(name: &str) -> bool {
    name.ends_with(".sst") || name.ends_with(".log") || name.starts_with("MANIFEST")
}

#[test]
fn flipped_bytes_of_a_closed_store_are_detected_or_harmless() {
    let dir = StoreDir::new();
    let (storage, expected) = fill(&dir, 4);
    drop(storage);
    flip(&dir, &expected, samples(60), 1, |_| true);
    let count = samples(60);
    let found = flip(&dir, &expected, count, 2, holds_data);
    assert!(found > count / 2, "the flips do no harm: {found} of {count} were found");
}

#[test]
fn flipped_bytes_after_a_kill_are_detected_or_harmless() {
    let dir = StoreDir::new();
    let (storage, expected) = fill(&dir, 3);
    let killed = dir.copy();
    drop(storage);
    flip(&killed, &expected, samples(60), 3, holds_data);
    let count = samples(60);
    let found = flip(&killed, &expected, count, 4, |name| name.ends_with(".log"));
    assert!(found > count * 9 / 10, "{found} of {count} were found");
}

#[test]
fn truncated_and_missing_files_are_detected() {
    let whole = StoreDir::new();
    let (storage, expected) = fill(&whole, 2);
    drop(storage);
    for (path, bytes) in whole.tree() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // A list of files that ends at the edge of an entry looks like a whole one.
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
            assert_eq!(look_at(&dir, &expected), Ok(true), "{name} {len:?}");
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
    // Preallocated room.
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
        // Nothing that could be compressed.
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
    // A budget cannot be kept for what cannot be read, and says so.
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
        let ledgers = database.cf_handle("ledgers").unwrap();
        assert_eq!(database.get_cf(ledgers, "app/notes/home/").unwrap(), None);
    });
}
