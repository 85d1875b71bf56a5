//! The format of the tables.
//!
//! | table | key | value |
//! |---|---|---|
//! | `data` | full key | record ([`crate::record`]) |
//! | `ledgers` | component prefix | usage counter: bytes (8), keys (8), CRC-32 (4) |
//! | `meta` | `format` | 1 (4), CRC-32 (4) |
//! | | `store-id` | 32 hexadecimal digits, CRC-32 (4) |
//! | | `revisions` | the first revision that is not reserved (8), CRC-32 (4) |
//!
//! Numbers are little-endian. Checksums cover the key, then the value.

use ::redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition};
use storage_core::{StorageError, Usage};

use super::error::Error;
use crate::record::{self, Reader};

/// Keys are bytes, not text: with `str` the engine would panic on damaged UTF-8.
pub(super) type Bytes = &'static [u8];

pub(super) const DATA: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("data");
pub(super) const USAGE_COUNTERS: TableDefinition<'static, Bytes, Bytes> =
    TableDefinition::new("ledgers");
pub(super) const META: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("meta");

pub(super) type ReadTable = ReadOnlyTable<Bytes, Bytes>;
pub(super) type WriteTable<'txn> = Table<'txn, Bytes, Bytes>;

/// The version of the format.
pub(super) const FORMAT: u32 = 1;

const FORMAT_KEY: &[u8] = b"format";
const STORE_ID_KEY: &[u8] = b"store-id";
const REVISIONS_KEY: &[u8] = b"revisions";

fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    record::seal_with_key(key, &mut bytes);
    bytes
}

fn unseal<'a>(key: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    record::unseal_with_key(key, bytes).ok()
}

/// The metadata of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) store_id: String,
    /// The first revision that is not reserved.
    pub(super) reserved_up_to: u64,
}

/// Why the metadata cannot be used.
#[derive(Debug)]
pub(super) enum BadMeta {
    OtherFormat(u32),
    /// Names the damaged part.
    Damaged(&'static str),
}

impl Meta {
    pub(super) fn read(
        table: &impl ReadableTable<Bytes, Bytes>,
    ) -> Result<Result<Self, BadMeta>, Error> {
        let value = |key: &[u8]| -> Result<Option<Vec<u8>>, Error> {
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
            return Ok(Err(BadMeta::Damaged("its revision counter")));
        };
        Ok(Ok(Self { store_id, reserved_up_to }))
    }

    pub(super) fn write(&self, table: &mut WriteTable<'_>) -> Result<(), Error> {
        let format = seal(FORMAT_KEY, &FORMAT.to_le_bytes());
        table.insert(FORMAT_KEY, format.as_slice())?;
        let id = seal(STORE_ID_KEY, self.store_id.as_bytes());
        table.insert(STORE_ID_KEY, id.as_slice())?;
        write_reserved(table, self.reserved_up_to)
    }
}

pub(super) fn write_reserved(table: &mut WriteTable<'_>, up_to: u64) -> Result<(), Error> {
    let value = seal(REVISIONS_KEY, &up_to.to_le_bytes());
    table.insert(REVISIONS_KEY, value.as_slice())?;
    Ok(())
}

/// Decodes a usage counter; `None` if it is damaged.
pub(super) fn decode_counter(component: &[u8], bytes: &[u8]) -> Option<Usage> {
    let mut body = Reader(unseal(component, bytes)?);
    let usage = Usage { bytes: body.u64().ok()?, keys: body.u64().ok()? };
    body.0.is_empty().then_some(usage)
}

/// Reads the usage counter of a component; `None` if it has none or a damaged one, so
/// that its keys must be counted.
pub(super) fn usage_counter(
    table: &impl ReadableTable<Bytes, Bytes>,
    component: &str,
) -> Result<Option<Usage>, Error> {
    let found = table.get(component.as_bytes())?;
    Ok(found.and_then(|found| decode_counter(component.as_bytes(), found.value())))
}

pub(super) fn encode_counter(component: &[u8], usage: Usage) -> Vec<u8> {
    let mut body = usage.bytes.to_le_bytes().to_vec();
    body.extend_from_slice(&usage.keys.to_le_bytes());
    seal(component, &body)
}

/// Reads a stored key.
///
/// # Errors
/// [`StorageError::Corrupt`] if it is not UTF-8.
pub(super) fn key_text(bytes: &[u8]) -> Result<&str, StorageError> {
    std::str::from_utf8(bytes).map_err(|_| StorageError::Corrupt {
        key: None,
        detail: "a key is not UTF-8; restore the file from a copy".into(),
    })
}

/// The smallest text after all texts that begin with `prefix`; `None` if there is none.
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
    fn a_usage_counter_round_trips_and_damage_is_detected() {
        let usage = Usage { bytes: 1 << 40, keys: 77 };
        let bytes = encode_counter(b"app/notes/home/", usage);
        assert_eq!(decode_counter(b"app/notes/home/", &bytes), Some(usage));
        assert_eq!(decode_counter(b"app/notes/work/", &bytes), None);
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(decode_counter(b"app/notes/home/", &bytes), None, "byte {at}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_after_all_texts_with_it() {
        assert_eq!(end_of_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(end_of_prefix(b"\xff\xff"), None);
        assert_eq!(end_of_prefix(b""), None);
    }
}
