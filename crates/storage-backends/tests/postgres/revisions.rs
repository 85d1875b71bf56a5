//! Where revisions continue.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

fn put(store: &PostgresStorage) -> u64 {
    storage_core::put(store, "app/notes/home/a", "1".into()).unwrap().get()
}

fn nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().try_into().unwrap()
}

#[test]
fn revisions_continue_at_the_clock() {
    let Some(schema) = TestSchema::new() else { return };
    // The server is on this machine.
    let before = nanos();
    let first = put(&schema.open());
    assert!(first >= before, "{first} {before}");
    // As a store that was restored from a dump.
    schema.sql("select setval('revision', 100)");
    let before = nanos();
    assert!(put(&schema.open()) >= before);
}

#[test]
fn revisions_skip_ahead_on_another_server_process() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    let first = put(&store);
    // What the clock of a server says that is an hour behind.
    let ahead = nanos() + 3_600_000_000_000;
    schema.sql(&format!("select setval('revision', {ahead})"));
    assert_eq!(put(&store), ahead + 1);
    schema.sql("update store set server = 'another'");
    // The connection that is open belongs to this process.
    assert_eq!(put(&store), ahead + 2);
    let other = schema.open();
    let skipped = put(&other);
    assert!(skipped > ahead + 1_000_000_000, "{skipped} {ahead} {first}");
    // Only the first connection to a server process skips.
    assert_eq!(put(&schema.open()), skipped + 1);
}
