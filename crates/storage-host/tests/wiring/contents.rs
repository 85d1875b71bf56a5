//! The contents of whole stores, for copies and archives.

use std::collections::BTreeMap;

use storage_core::Store;

pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

pub(crate) fn contents(storage: &dyn Store) -> Contents {
    let mut contents = Contents::new();
    storage
        .read_snapshot("", None, &mut |key, value| {
            contents.insert(key.to_owned(), value.into_bytes());
            Ok(())
        })
        .unwrap();
    contents
}

pub(crate) fn fill(storage: &dyn Store, contents: &Contents) {
    for (key, value) in contents {
        storage.set(key, value.clone().into()).unwrap();
    }
    storage.flush().unwrap();
}

/// Every kind of store in this build, with its path as PATH.
pub(crate) fn kinds() -> Vec<&'static str> {
    let mut kinds = vec!["memory:", "file:PATH?durability=os"];
    if cfg!(feature = "redb") {
        kinds.push("redb:PATH?durability=relaxed");
    }
    if cfg!(feature = "rocksdb") {
        kinds.push("rocksdb:PATH?durability=os");
    }
    kinds
}
