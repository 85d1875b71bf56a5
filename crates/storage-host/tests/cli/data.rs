//! Many components.

use storage_host::ComponentStorage;

use crate::support::TestDir;

#[test]
fn many_components_are_all_listed() {
    let dir = TestDir::with_file_store();
    let store = dir.hold("file:storage-data?durability=os");
    for n in 0..2_500 {
        store.set(&format!("a/b/{n:05}/key"), "".into()).unwrap();
    }
    drop(store);
    let expected: String = (0..2_500).map(|n| format!("a/b/{n:05}\n")).collect();
    assert_eq!(dir.printed(&["components"]), expected);
}
