//! The tables of a store, and what is in the two small ones.
//!
//! | table | key | value |
//! |---|---|---|
//! | `data` | full key | record ([`crate::record`]) |
//! | `ledgers` | partition | bytes (8), keys (8), CRC-32 (4) |
//! | `meta` | `format` | 1 (4), CRC-32 (4) |
//! | | `store-id` | 32 hexadecimal digits, CRC-32 (4) |
//! | | `revisions` | the first revision that is not reserved (8), CRC-32 (4) |
//!
//! Numbers are little-endian. The checksums cover the key, then the value.

use ::redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition};
use storage_core::{StorageError, Usage};

use super::fail::Fail;
use crate::record::{self, Reader};

/// Keys are bytes, not text: what is no UTF-8 is damage, and no panic.
pub(super) type Bytes = &'static [u8];

pub(super) const DATA: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("data");
pub(super) const LEDGERS: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("ledgers");
pub(super) const META: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("meta");

pub(super) type ReadTable = ReadOnlyTable<Bytes, Bytes>;
pub(super) type WriteTable<'txn> = Table<'txn, Bytes, Bytes>;

/// The format of the tables that this program knows.
pub(super) const FORMAT: u32 = 1;

const FORMAT_KEY: &[u8] = b"format";
const STORE_ID_KEY: &[u8] = b"store-id";
const REVISIONS_KEY: &[u8] = b"revisions";

fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    record::seal_beside_key(key, &mut bytes);
    bytes
}

fn unseal<'a>(key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    record::unseal_beside_key(key, bytes).ok()
}

/// What a store says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) store_id: String,
    /// The first revision that no earlier opening can have given.
    pub(super) reserved_up_to: u64,
}

/// Why the metadata cannot be used.
#[derive(Debug)]
pub(super) enum BadMeta {
    /// The store has this format.
    OtherFormat(u32),
    Damaged(&'static str),
}

impl Meta {
    pub(super) fn read(
        table: &impl ReadableTable<Bytes, Bytes>,
    ) -> Result<Result<Self, BadMeta>, Fail> {
        let value = |key: &[u8]| -> Result<Option<Vec<u8>>, Fail> {
            let found = table.get(key)?;
            Ok(found.and_then(|found| unseal(key, found.value()).map(<[u8]>::to_vec)))
        };
        let format =
            value(FORMAT_KEY)?.and_then(|body| Some(u32::from_le_bytes(body.try_into().ok()?)));
        match format {
            Some(FORMAT) => {}
            Some(other) => return Ok(Err(BadMeta::OtherFormat(other))),
            None => return Ok(Err(BadMeta::Damaged("its format"))),
        }
        let Some(store_id) = value(STORE_ID_KEY)?.and_then(|id| String::from_utf8(id).ok()) else {
            return Ok(Err(BadMeta::Damaged("its id")));
        };
        let reserved_up_to = value(REVISIONS_KEY)?;
        let Some(reserved_up_to) =
            reserved_up_to.and_then(|body| Some(u64::from_le_bytes(body.try_into().ok()?)))
        else {
            return Ok(Err(BadMeta::Damaged("its counter of revisions")));
        };
        Ok(Ok(Self { store_id, reserved_up_to }))
    }

    pub(super) fn write(&self, table: &mut WriteTable<'_>) -> Result<(), Fail> {
        let format = seal(FORMAT_KEY, &FORMAT.to_le_bytes());
        table.insert(FORMAT_KEY, format.as_slice())?;
        let id = seal(STORE_ID_KEY, self.store_id.as_bytes());
        table.insert(STORE_ID_KEY, id.as_slice())?;
        write_reserved(table, self.reserved_up_to)
    }
}

pub(super) fn write_reserved(table: &mut WriteTable<'_>, up_to: u64) -> Result<(), Fail> {
    let value = seal(REVISIONS_KEY, &up_to.to_le_bytes());
    table.insert(REVISIONS_KEY, value.as_slice())?;
    Ok(())
}

/// What a ledger says that the own keys of a partition and their values take
/// up; `None` if it is damaged.
pub(super) fn read_ledger(partition: &[u8], bytes: &[u8]) -> Option<Usage> {
    let mut body = Reader(unseal(partition, bytes)?);
    let usage = Usage { bytes: body.u64().ok()?, keys: body.u64().ok()? };
    body.0.is_empty().then_some(usage)
}

/// The ledger of a partition; `None` if it has none, or one that is damaged: what
/// that said can be counted.
pub(super) fn stored_ledger(
    table: &impl ReadableTable<Bytes, Bytes>,
    partition: &str,
) -> Result<Option<Usage>, Fail> {
    let found = table.get(partition.as_bytes())?;
    Ok(found.and_then(|found| read_ledger(partition.as_bytes(), found.value())))
}

pub(super) fn ledger_bytes(partition: &[u8], usage: Usage) -> Vec<u8> {
    let mut body = usage.bytes.to_le_bytes().to_vec();
    body.extend_from_slice(&usage.keys.to_le_bytes());
    seal(partition, &body)
}

/// A key as it is stored.
///
/// # Errors
/// [`StorageError::Corrupt`] if it is no text.
pub(super) fn key_text(bytes: &[u8]) -> Result<&str, StorageError> {
    std::str::from_utf8(bytes).map_err(|_| StorageError::Corrupt {
        key: None,
        detail: "a key is not UTF-8; restore the file from a copy".into(),
    })
}

/// What lies behind every text that begins with `prefix`; `None` for the end.
pub(super) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_comes_back_and_damage_to_it_is_found() {
        let usage = Usage { bytes: 1 << 40, keys: 77 };
        let bytes = ledger_bytes(b"app/notes/home/", usage);
        assert_eq!(read_ledger(b"app/notes/home/", &bytes), Some(usage));
        assert_eq!(read_ledger(b"app/notes/work/", &bytes), None);
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(read_ledger(b"app/notes/home/", &bytes), None, "byte {at}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_all_that_begins_with_it() {
        assert_eq!(end_of_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(end_of_prefix(b"\xff\xff"), None);
        assert_eq!(end_of_prefix(b""), None);
    }
}
