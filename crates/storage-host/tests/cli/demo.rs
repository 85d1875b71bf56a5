//! `demo` on each kind of store; `snapshots/demo.snap` shows the rest.

use crate::support::TestDir;

#[test]
fn every_persistent_store_works() {
    let stores = [
        ("file:d", cfg!(feature = "file")),
        ("redb:d", cfg!(feature = "redb")),
        ("rocksdb:d", cfg!(feature = "rocksdb")),
    ];
    for (store, _) in stores.iter().filter(|(_, compiled_in)| *compiled_in) {
        let dir = TestDir::new();
        for runs in ["0 to 2", "2 to 4"] {
            let shown = dir.printed(&["--store", store, "demo"]);
            assert!(shown.contains(&format!("counted on from {runs}")), "{shown}");
            assert!(!shown.contains("FAILED"), "{shown}");
        }
    }
}
