//! Damaged files: each result is right or an error.

use super::*;
use crate::damaged::{Contents, Random, fill, is_whole};

fn closed() -> (Contents, Vec<u8>) {
    let dir = StoreDir::new();
    let (mut expected, mut random) = (Contents::new(), Random(2024));
    let storage = open(&dir.path());
    for _ in 0..5 {
        fill(&storage, &mut random, &mut expected);
    }
    drop(storage);
    (expected, file_bytes(&dir))
}

/// Flips a bit of a byte that is not zero. Returns the byte's offset.
fn flip(bytes: &mut [u8], random: &mut Random) -> usize {
    loop {
        let at = random.below(bytes.len());
        if bytes[at] != 0 {
            bytes[at] ^= 1 << random.below(8);
            return at;
        }
    }
}

#[test]
fn a_truncated_file_is_detected() {
    let (expected, whole) = closed();
    let mut random = Random(7);
    for round in 0..60 {
        let len = match round {
            0..15 => 1 + round * 37,
            15..30 => random.below(whole.len() / 4096).max(1) * 4096,
            _ => random.below(whole.len()).max(1),
        };
        let dir = with_file(&whole[..len]);
        for options in [RedbOptions::default(), RedbOptions::default().with_check_up_to_bytes(0)] {
            if let Ok(reader) = RedbStorage::open_read_only(dir.path(), options) {
                assert!(!is_whole(&reader, &expected), "cut to {len}");
            }
        }
        assert!(file_bytes(&dir) == whole[..len], "a reader changed the store");
    }
}

/// Damage in a file that is too large for the check at opening.
#[test]
fn without_the_check_no_value_is_wrong() {
    let (expected, whole) = closed();
    let mut random = Random(99);
    let options = RedbOptions::default().with_check_up_to_bytes(0).with_cache_bytes(0);
    let mut detected = 0;
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let at = flip(&mut bytes, &mut random);
        let dir = with_file(&bytes);
        let Ok(reader) = RedbStorage::open_read_only(dir.path(), options.clone()) else {
            detected += 1;
            continue;
        };
        let is_damaged = |(key, value): (&String, &StorageValue)| match reader.get(key) {
            Ok(Some(found)) if found == *value => false,
            // The damage may hide keys, which the check would find.
            Ok(None) | Err(StorageError::Corrupt { .. }) => true,
            other => panic!("byte {at}, {key}: {other:?}"),
        };
        detected += u32::from(expected.iter().filter(|entry| is_damaged(*entry)).count() > 0);
    }
    assert!(detected > 30, "{detected}");
}

/// After a kill the engine returns to the previous commit if the newest is torn. It cannot
/// distinguish damage to it from a power cut.
#[test]
fn damage_after_a_kill_is_detected_or_like_a_power_cut() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    fill(&storage, &mut Random(5), &mut Contents::new());
    let before = contents(&storage);
    storage.set("app/notes/0/last", "last".into()).unwrap();
    let after = contents(&storage);
    let whole = file_bytes(&dir);
    drop(storage);
    let mut random = Random(5);
    let mut detected = 0;
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let at = flip(&mut bytes, &mut random);
        let dir = with_file(&bytes);
        match RedbStorage::open_read_only(dir.path(), RedbOptions::default()) {
            Ok(reader) => {
                let found = contents(&reader);
                assert!(found == after || found == before, "byte {at}");
            }
            Err(_) => detected += 1,
        }
    }
    assert!(detected > 0);
}
