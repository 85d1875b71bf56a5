//! Compacting a store while it is in use.

use super::*;
use storage_core::{Budget, StorageError};

#[test]
fn compacting_returns_the_space_of_deleted_values_and_keeps_the_rest() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    let value = |n: u8| {
        // Does not compress.
        let random = (0..20_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ n);
        StorageValue::new(random.collect())
    };
    for n in 0..100 {
        let commit = Commit::new().set(format!("a/b/c/{n:03}"), value(n));
        storage.commit(commit.with_budget(Budget::UNLIMITED)).unwrap();
    }
    for n in 0..95 {
        storage.delete(&format!("a/b/c/{n:03}")).unwrap();
    }
    let before = contents(&storage);
    let snapshot = storage.read_snapshot("", None, &mut |_, _| {
        storage.compact().unwrap();
        Ok(())
    });
    assert_eq!(snapshot, Ok(()));
    let compacted = storage.compact().unwrap();
    assert!(compacted.bytes_after < 500_000, "{compacted:?}");
    assert!(contents(&storage) == before);
    drop(storage);
    let again = read_only(&dir.path());
    assert!(contents(&again) == before);
    assert_eq!(again.compact(), Err(StorageError::ReadOnly));
    drop(again);
    assert_sound(&dir.path());
}
