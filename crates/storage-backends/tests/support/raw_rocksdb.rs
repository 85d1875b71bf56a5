//! Changes to the database of a RocksDB store.

use std::path::Path;

/// Opens the database without the store, and flushes the changes.
pub(crate) fn raw(path: &Path, change: impl FnOnce(&mut ::rocksdb::DB)) {
    let options = ::rocksdb::Options::default();
    let names = ["default", "meta", "ledgers"];
    let mut merging = ::rocksdb::Options::default();
    merging.set_merge_operator_associative("airssys.ledger.1", |_, _, _| None);
    let families = names.map(|name| {
        let options = if name == "ledgers" { merging.clone() } else { options.clone() };
        ::rocksdb::ColumnFamilyDescriptor::new(name, options)
    });
    let mut database = ::rocksdb::DB::open_cf_descriptors(&options, path, families).unwrap();
    change(&mut database);
    for name in names {
        database.flush_cf(database.cf_handle(name).unwrap()).unwrap();
    }
}
