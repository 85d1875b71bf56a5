//! Where revisions continue.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

const KEY: &str = "app/notes/home/a";

fn put(store: &RedisStorage, key: &str) -> u64 {
    storage_core::put(store, key, "1".into()).unwrap().get()
}

/// The revision of a commit now, in the first shard.
fn now() -> u64 {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    u64::try_from(micros).unwrap() << 8
}

#[test]
fn revisions_continue_at_the_clock() {
    let Some(test) = TestStore::single() else { return };
    let store = test.open();
    // The server is on this machine.
    let before = now();
    let first = put(&store, KEY);
    assert!((before..=now()).contains(&first), "{first}");
    // As a server that lost its last writes, and the number of the last commit with them.
    test.raw().run(&format!("DEL {}", test.name("n", "")));
    assert!(put(&store, KEY) > first);
}

#[test]
fn revisions_grow_while_the_clock_is_behind() {
    let Some(test) = TestStore::single() else { return };
    let store = test.open();
    // What the clock of a server said that is an hour ahead.
    let ahead = (now() >> 8) + 3_600_000_000;
    test.raw().run(&format!("SET {} {ahead}", test.name("n", "")));
    for n in 1..4 {
        assert_eq!(put(&store, KEY), (ahead + n) << 8);
        let found = store.get_versioned(KEY).unwrap().unwrap();
        assert_eq!(found.revision.get(), (ahead + n) << 8);
    }
    let revisions = store.shared().unwrap().component_revisions(&["app/notes/home/"]).unwrap();
    assert_eq!(revisions, [Some(Revision::new((ahead + 3) << 8))]);
    // A commit of checks takes one, too.
    let checked = store.commit(Commit::new().require_present(KEY)).unwrap();
    assert_eq!(checked.get(), (ahead + 4) << 8);
    assert_eq!(put(&store, KEY), (ahead + 5) << 8);
    assert_eq!(verifying::problems(&store), []);
}

/// Later ones would not grow, or not be revisions.
#[test]
fn a_last_revision_that_cannot_be_one_is_refused_before_anything_is_written() {
    let Some(test) = TestStore::single() else { return };
    let store = test.open();
    put(&store, KEY);
    for damaged in ["9007199254740991", "9007199254740993", "1e30", "inf", "nan", "x", "-"] {
        test.raw().run(&format!("SET {} {damaged}", test.name("n", "")));
        let error = store.set(KEY, "2".into()).unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { key: None, .. }), "{damaged}: {error}");
        assert_eq!(store.get(KEY).unwrap(), Some("1".into()), "{damaged}");
    }
    test.raw().run(&format!("DEL {}", test.name("n", "")));
    put(&store, KEY);
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn revisions_of_different_shards_are_different() {
    let Some(test) = TestStore::cluster() else { return };
    let store = test.open();
    let mut revisions: Vec<u64> =
        (0..600).map(|n| put(&store, &format!("app/notes/{n}/a"))).collect();
    let shards: std::collections::BTreeSet<u64> = revisions.iter().map(|one| one & 0xff).collect();
    assert!(shards.len() > 200, "{shards:?}");
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 600);
}
