//! Changes to the database of a redb store.

use std::path::Path;

pub(crate) type Bytes = &'static [u8];

/// Changes a table with valid page checksums.
pub(crate) fn tamper(
    path: &Path,
    table: &str,
    change: impl FnOnce(&mut redb::Table<'_, Bytes, Bytes>),
) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let definition = redb::TableDefinition::<Bytes, Bytes>::new(table);
    change(&mut transaction.open_table(definition).unwrap());
    transaction.commit().unwrap();
}

/// A value with a checksum over its name and itself.
pub(crate) fn checked(name: &[u8], body: &[u8]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(name);
    hasher.update(body);
    [body, &hasher.finalize().to_le_bytes()].concat()
}
