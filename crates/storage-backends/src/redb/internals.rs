//! redb's part of what the fuzz targets reach.

use storage_core::Usage;

use super::tables;

pub(crate) fn ledger(partition: &[u8], usage: Usage) -> Vec<u8> {
    tables::ledger_bytes(partition, usage)
}

pub(crate) fn read_ledger(partition: &[u8], bytes: &[u8]) -> Option<Usage> {
    tables::read_ledger(partition, bytes)
}

pub(crate) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    tables::end_of_prefix(prefix)
}
