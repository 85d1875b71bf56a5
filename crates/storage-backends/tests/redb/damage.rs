//! Flipped, torn and cut files: damage, or the right answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// A sequence of numbers that is the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % below
    }
}

fn value_of(n: usize) -> StorageValue {
    StorageValue::new(vec![n as u8; 10 + n * 7 % 400])
}

/// Several components, some with a ledger, with pages that were used before.
fn fill(storage: &RedbStorage) {
    for n in 0..300 {
        let key = format!("app/c{}/home/{n:03}", n % 7);
        let commit = Commit::new().set(key, value_of(n));
        let commit = if n % 2 == 0 { commit.with_budget(Budget::UNLIMITED) } else { commit };
        storage.commit(commit).unwrap();
    }
    for n in (0..300).step_by(5) {
        storage.delete(&format!("app/c{}/home/{n:03}", n % 7)).unwrap();
    }
    storage.set("app/c0/home/large", StorageValue::new(vec![9; 30_000])).unwrap();
}

fn closed() -> (Contents, Vec<u8>) {
    let dir = StoreDir::new();
    // Not relaxed: which page lies where would depend on time.
    let storage = open(&dir.path());
    fill(&storage);
    let contents = contents(&storage);
    drop(storage);
    (contents, bytes(&dir))
}

fn is_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Corrupt { .. } => true,
        // The first bytes say what it is, and so does the engine's version.
        StorageError::IoError(why) => why.contains("is not a redb database"),
        StorageError::Unsupported(why) => why.contains("of the engine's format"),
        _ => false,
    }
}

/// Every way to read, each of which gives what was written or says that it is
/// damaged. Tells whether everything could be read.
fn read_all(storage: &RedbStorage, expected: &Contents) -> bool {
    let mut whole = true;
    let mut note = |error: StorageError| {
        assert!(is_damage(&error), "{error:?}");
        whole = false;
    };
    match storage.list_keys(None) {
        Ok(keys) => assert!(keys.iter().eq(expected.keys()), "a wrong listing"),
        Err(error) => note(error),
    }
    for (key, value) in expected {
        match storage.get(key) {
            Ok(Some(found)) => assert!(found.as_bytes() == value, "a wrong value"),
            Ok(None) => panic!("a key that is gone"),
            Err(error) => note(error),
        }
    }
    match storage.get("app/c3/home/none") {
        Ok(found) => assert_eq!(found, None),
        Err(error) => note(error),
    }
    let total = |prefix: &str| -> Usage {
        let keys = expected.iter().filter(|(key, _)| key.starts_with(prefix));
        keys.map(|(key, value)| Usage::of(key, value.len())).sum()
    };
    for prefix in ["", "app/c0/home/", "app/c1/home/", "app/c2/home/1"] {
        match storage.usage(Some(prefix)) {
            Ok(usage) => assert_eq!(usage, total(prefix)),
            Err(error) => note(error),
        }
    }
    match storage.list_components(None, 100) {
        Ok(page) => assert_eq!(page.keys.len(), 7),
        Err(error) => note(error),
    }
    let mut seen = Contents::new();
    let snapshot = storage.read_snapshot("", None, &mut |key, value| {
        seen.insert(key.to_owned(), value.into_bytes());
        Ok(())
    });
    match snapshot {
        Ok(()) => assert!(seen == *expected),
        Err(error) => note(error),
    }
    whole
}

/// Opens a damaged file for reading and for writing. Tells whether anything was
/// found out.
fn try_damaged(bytes: &[u8], expected: &Contents, context: &str) -> bool {
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let dir = with_file(bytes);
        let mut found = false;
        match RedbStorage::open_read_only(dir.path(), RedbOptions::default()) {
            Ok(reader) => found |= !read_all(&reader, expected),
            Err(error) => {
                assert!(is_damage(&error), "{error:?}");
                found = true;
            }
        }
        assert!(bytes(&dir) == bytes, "a reader wrote");
        let verified = RedbStorage::verify(dir.path(), &mut |_| {});
        match verified {
            Ok(verified) => assert!(verified.problems > 0 || !found, "verify has found nothing"),
            Err(error) => assert!(is_damage(&error), "{error:?}"),
        }
        assert!(bytes(&dir) == bytes, "the check wrote");
        match RedbStorage::open(dir.path(), RedbOptions::default()) {
            Err(error) => {
                assert!(is_damage(&error), "{error:?}");
                found = true;
            }
            Ok(storage) => {
                found |= !read_all(&storage, expected);
                match storage.set("app/c3/home/none", "new".into()) {
                    Ok(()) => {
                        assert_eq!(storage.get("app/c3/home/none"), Ok(Some("new".into())));
                        storage.delete("app/c3/home/none").unwrap();
                        found |= !read_all(&storage, expected);
                    }
                    Err(error) => assert!(is_damage(&error), "{error:?}"),
                }
            }
        }
        found
    }));
    tried.unwrap_or_else(|_| panic!("{context}"))
}

#[test]
fn a_flipped_byte_is_detected_or_harmless() {
    let (expected, whole) = closed();
    let mut numbers = Numbers(2024);
    let mut found = 0;
    for round in 0..400 {
        let mut bytes = whole.clone();
        // The header more often than its share, and what is zero less often.
        let at = match round % 8 {
            0 => numbers.next(512),
            1 => numbers.next(bytes.len()),
            _ => loop {
                let at = numbers.next(bytes.len());
                if bytes[at] != 0 {
                    break at;
                }
            },
        };
        let flip = if round % 3 == 0 { 0xff } else { 1 << numbers.next(8) };
        bytes[at] ^= flip;
        let context = format!("byte {at} of {} by {flip:#x}", bytes.len());
        found += u32::from(try_damaged(&bytes, &expected, &context));
    }
    assert!(found > 50, "{found} of 400 were found out");
}

#[test]
fn a_lost_page_is_detected_or_harmless() {
    let (expected, whole) = closed();
    for page in 0..whole.len() / 4096 {
        for lost in [[0; 4096], [0xa5; 4096]] {
            let mut bytes = whole.clone();
            bytes[page * 4096..][..4096].copy_from_slice(&lost);
            try_damaged(&bytes, &expected, &format!("page {page} is {:#x}", lost[0]));
        }
    }
}

#[test]
fn a_truncated_file_is_detected() {
    let (expected, whole) = closed();
    let mut numbers = Numbers(7);
    for round in 0..60 {
        let len = match round {
            0..15 => 1 + round * 37,
            15..30 => numbers.next(whole.len() / 4096).max(1) * 4096,
            _ => numbers.next(whole.len()).max(1),
        };
        let context = format!("cut to {len}");
        assert!(try_damaged(&whole[..len], &expected, &context), "{context}");
    }
}

/// Damage that comes while the store is open, and past the check at opening.
#[test]
fn without_the_check_no_value_is_wrong() {
    let (expected, whole) = closed();
    let mut numbers = Numbers(99);
    let options = RedbOptions::default().with_check_up_to_bytes(0).with_cache_bytes(0);
    let mut found = 0;
    for _ in 0..300 {
        let mut bytes = whole.clone();
        let at = loop {
            let at = numbers.next(bytes.len());
            if bytes[at] != 0 {
                break at;
            }
        };
        bytes[at] ^= 1 << numbers.next(8);
        let dir = with_file(&bytes);
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let reader = match RedbStorage::open_read_only(dir.path(), options.clone()) {
                Ok(reader) => reader,
                Err(error) => {
                    assert!(is_damage(&error), "{error:?}");
                    return true;
                }
            };
            let mut damaged = false;
            for (key, value) in &expected {
                match reader.get(key) {
                    Ok(Some(found)) => assert!(found.as_bytes() == value),
                    // Hidden: what the check is for.
                    Ok(None) => damaged = true,
                    Err(error) => {
                        assert!(is_damage(&error), "{error:?}");
                        damaged = true;
                    }
                }
            }
            damaged
        }));
        found += u32::from(tried.unwrap_or_else(|_| panic!("byte {at}")));
    }
    assert!(found > 50, "{found}");
}

/// After a kill the engine goes back to the commit before if the newest one is
/// torn: it cannot tell damage there from a power cut.
#[test]
fn damage_after_a_kill_is_detected_or_like_a_power_cut() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    for n in 0..60 {
        storage.set(&format!("app/c{}/home/{n:03}", n % 7), value_of(n)).unwrap();
    }
    let before = contents(&storage);
    storage.set("app/c0/home/last", "last".into()).unwrap();
    let after = contents(&storage);
    let whole = bytes(&dir);
    drop(storage);
    let mut numbers = Numbers(5);
    let (mut rolled_back, mut damaged) = (0, 0);
    for _ in 0..200 {
        let mut bytes = whole.clone();
        let at = loop {
            let at = numbers.next(bytes.len());
            if bytes[at] != 0 {
                break at;
            }
        };
        bytes[at] ^= 1 << numbers.next(8);
        let dir = with_file(&bytes);
        match RedbStorage::open_read_only(dir.path(), RedbOptions::default()) {
            Ok(reader) => {
                let found = contents(&reader);
                assert!(found == after || found == before, "byte {at}");
                rolled_back += u32::from(found == before);
            }
            Err(error) => {
                assert!(is_damage(&error), "byte {at}: {error:?}");
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0, "{damaged} damaged, {rolled_back} rolled back");
}
