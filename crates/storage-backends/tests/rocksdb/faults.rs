//! What becomes of a store when its disk is full.
//!
//! Needs root and `mount`: a small tmpfs is the disk.

use std::process::Command;
use std::time::{Duration, Instant};

use storage_core::{Budget, StorageError};

use super::*;

/// A small disk, gone at the end of the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, said on the output, where none can be had.
    #[expect(clippy::print_stdout, reason = "a test says why it was skipped")]
    fn new(megabytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(folder.path())
            .output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("SKIPPED: a tmpfs cannot be mounted here");
            return None;
        }
        Some(Self(folder))
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn value(number: usize) -> StorageValue {
    let bytes: Vec<u8> = (0..2000u32)
        .map(|at| ((at + number as u32).wrapping_mul(2_654_435_761) >> 21) as u8)
        .collect();
    bytes.into()
}

fn key(number: usize) -> String {
    format!("app/notes/{}/{number:05}", number % 3)
}

#[test]
fn a_full_disk_loses_nothing_and_writes_resume() {
    for options in [small(), unsynced()] {
        let Some(disk) = SmallDisk::new(8) else { return };
        fs::write(disk.filler(), vec![1; 3 << 20]).unwrap();
        let storage = RocksDbStorage::open(disk.store(), options.clone()).unwrap();
        let mut acknowledged = Vec::new();
        let mut refused = Vec::new();
        for number in 0..100_000 {
            let commit = Commit::new().set(key(number), value(number));
            let commit = commit.with_budget(Budget::UNLIMITED);
            match storage.commit(commit) {
                Ok(_) => acknowledged.push(number),
                Err(StorageError::IoError(detail)) => {
                    assert!(detail.contains("No space left on device"), "{detail}");
                    refused.push(number);
                    if refused.len() == 20 {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(acknowledged.len() > 200 && refused.len() == 20, "{}", acknowledged.len());
        // What was there is read, and a delete says why it fails.
        for number in &acknowledged {
            assert_eq!(storage.get(&key(*number)), Ok(Some(value(*number))));
        }
        let deleted = storage.delete(&key(acknowledged[0]));
        assert!(
            matches!(&deleted, Err(StorageError::IoError(detail)) if detail.contains("No space left")),
            "{deleted:?}"
        );
        // One write at most is in doubt; the others failed before they began.
        let in_doubt = |storage: &RocksDbStorage| {
            let unavailable = |number: &&usize| match storage.get(&key(**number)) {
                Ok(None) => false,
                Err(StorageError::Unavailable { key: Some(_), .. }) => true,
                other => panic!("{other:?}"),
            };
            refused.iter().filter(unavailable).count()
        };
        assert!(in_doubt(&storage) <= 1, "{}", in_doubt(&storage));

        let again = |storage: &RocksDbStorage| {
            storage.commit(set("app/notes/0/again", "x").with_budget(Budget::UNLIMITED))
        };
        fs::remove_file(disk.filler()).unwrap();
        let began = Instant::now();
        let mut resumed = again(&storage);
        while resumed.is_err() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(100));
            resumed = again(&storage);
        }
        println!("{:?}: {resumed:?} after {:?}", options.durability, began.elapsed());
        drop(storage);
        let storage = RocksDbStorage::open(disk.store(), options.clone()).unwrap();
        again(&storage).unwrap();
        for number in &acknowledged {
            assert_eq!(storage.get(&key(*number)), Ok(Some(value(*number))));
        }
        storage.delete(&key(acknowledged[0])).unwrap();
        drop(storage);
        assert_sound(&disk.store());
    }
}
