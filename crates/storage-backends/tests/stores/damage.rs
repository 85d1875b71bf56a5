//! Damaged files: each result is right or an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::damaged::{Contents, Random, fill, is_whole};

/// Checks a damaged store. Returns whether the damage was detected.
fn is_detected(engine: Engine, dir: &StoreDir, expected: &Contents) -> bool {
    let before = dir.tree();
    let mut detected = match (engine.open_read_only)(&dir.path()) {
        Ok(store) => !is_whole(&store, expected),
        Err(_) => true,
    };
    let mut problems = 0;
    let verified = (engine.verify)(&dir.path(), &mut |_| problems += 1);
    assert!(!detected || verified.is_err() || problems > 0, "verify reports no problem");
    assert!(dir.tree() == before, "a reader changed the store");
    match (engine.open_with)(&dir.path(), Durability::Sync) {
        Ok(store) => {
            detected |= !is_whole(&store, expected);
            match store.set(KEY, "new".into()) {
                Ok(()) => assert_eq!(store.get(KEY), Ok(Some("new".into()))),
                Err(error) => assert!(matches!(error, StorageError::Corrupt { .. }), "{error}"),
            }
        }
        Err(_) => detected = true,
    }
    detected
}

fn damage_is_detected_or_harmless(engine: Engine) {
    let mut expected = Contents::new();
    let mut random = Random(42);
    let whole = StoreDir::new();
    for _ in 0..4 {
        fill(&engine.open(&whole.path()), &mut random, &mut expected);
    }
    let files: Vec<(std::path::PathBuf, Vec<u8>)> =
        whole.tree().into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    let mut detected = 0;
    for round in 0..120 {
        let (path, bytes) = &files[random.below(files.len())];
        let mut damaged = bytes.clone();
        let at = random.below(bytes.len());
        match round % 4 {
            // A lost block.
            0 => damaged[at / 4096 * 4096..].iter_mut().take(4096).for_each(|byte| *byte = 0),
            _ => damaged[at] ^= [0x01, 0x80, 0xff][round % 3],
        }
        let dir = whole.copy();
        let file = match engine.is_directory {
            true => dir.path().join(path.strip_prefix(whole.path()).unwrap()),
            false => dir.path(),
        };
        fs::write(file, &damaged).unwrap();
        let found = catch_unwind(AssertUnwindSafe(|| is_detected(engine, &dir, &expected)))
            .unwrap_or_else(|_| panic!("{}, byte {at}, round {round}", path.display()));
        detected += usize::from(found);
    }
    assert!(detected > 20, "{detected} of 120 were detected");
}

test_each_engine! { damage_is_detected_or_harmless }
