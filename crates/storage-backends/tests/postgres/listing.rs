//! Listings, isolation and snapshots.

use super::*;

#[test]
fn components_do_not_see_each_other() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    let keys = [
        "app/notes/001/k",
        "app/notes/0011/k",
        "app/notes/001-/k",
        "App/notes/001/k",
        "app/notes/%/k",
        "app/notes/_/k",
        "app//001/k",
        "a'b/\"c\"/\\/k",
        "k",
        "app/notes",
    ];
    returned::components_do_not_see_each_other(&store, &keys);
    let mut sorted: Vec<&str> = keys.into();
    sorted.sort_unstable();
    let mut read = Vec::new();
    store
        .read_snapshot("", None, &mut |key, value| {
            assert_eq!(value, key.into());
            read.push(key.to_owned());
            Ok(())
        })
        .unwrap();
    assert_eq!(read, sorted);
}

#[test]
fn pages_from_every_key_with_every_prefix_agree_with_a_sorted_list() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    returned::pages_agree_with_a_sorted_list(&store, |_| true);
}

#[test]
fn listings_are_longer_than_a_page() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    returned::listings_are_longer_than_a_page(&store);
}

#[test]
fn a_snapshot_does_not_see_later_writes_and_can_be_ended() {
    let Some(schema) = TestSchema::new() else { return };
    let store = schema.open();
    for n in 0..100 {
        store.set(&format!("app/notes/home/{n:02}"), "old".into()).unwrap();
    }
    let mut read = 0;
    store
        .read_snapshot("", None, &mut |_, value| {
            if read == 0 {
                store.set("app/notes/home/99", "new".into()).unwrap();
            }
            assert_eq!(value, "old".into());
            read += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(read, 100);
    let ended = store.read_snapshot("", None, &mut |_, _| Err(StorageError::ReadOnly));
    assert_eq!(ended, Err(StorageError::ReadOnly));
    assert_eq!(store.get("app/notes/home/99").unwrap(), Some("new".into()));
}

#[test]
fn calls_work_inside_of_a_runtime() {
    let Some(schema) = TestSchema::new() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = schema.open();
        store.set("app/notes/home/a", "1".into()).unwrap();
        assert_eq!(store.get("app/notes/home/a").unwrap(), Some("1".into()));
        drop(store);
    });
}
