//! Listings of components, and of unscoped keys between them.

use super::*;

/// A snapshot of a component does not read records of its neighbours.
#[test]
fn damage_in_another_component_has_no_effect() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    for instance in ["001", "002", "003"] {
        storage.set(&format!("a/b/{instance}/k"), "value".into()).unwrap();
    }
    drop(storage);
    raw(&dir.path(), |database| {
        database.put("a/b/001/z", "no record").unwrap();
        database.put("a/b/003/a", "no record").unwrap();
    });
    let storage = open(&dir.path());
    let mut found = Vec::new();
    storage
        .read_snapshot("a/b/002/", None, &mut |key, _| {
            found.push(key.to_owned());
            Ok(())
        })
        .unwrap();
    assert_eq!(found, ["a/b/002/k"]);
    assert!(storage.read_snapshot("", None, &mut |_, _| Ok(())).is_err());
}

#[test]
fn components_are_listed_between_unscoped_keys() {
    let dir = StoreDir::new();
    let storage = RocksDbStorage::open(dir.path(), unsynced()).unwrap();
    let mut expected = Vec::new();
    for number in 0..300 {
        for loose in [format!("{number:04}"), format!("{number:04}/b/c")] {
            storage.set(&loose, "".into()).unwrap();
        }
        if number % 50 == 0 {
            storage.set(&format!("{number:04}/b/c/key"), "".into()).unwrap();
            storage.set(&format!("{number:04}/b/c/other"), "".into()).unwrap();
            expected.push(format!("{number:04}/b/c/"));
        }
    }
    let page = storage.list_components(None, 100).unwrap();
    assert_eq!((page.keys, page.more), (expected.clone(), false));
    let page = storage.list_components(Some(&expected[1]), 2).unwrap();
    assert_eq!((page.keys, page.more), (expected[2..4].to_vec(), true));
    // In byte order, although the two kinds are stored apart.
    let keys = storage.list_keys(None).unwrap();
    assert_eq!(keys.len(), 612);
    assert!(keys.is_sorted());
    assert_eq!(
        storage.list_keys(Some("0050/b")).unwrap(),
        ["0050/b/c", "0050/b/c/key", "0050/b/c/other"]
    );
}
