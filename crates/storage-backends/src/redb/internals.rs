//! Access to private formats for the fuzz targets.

use storage_core::Usage;

use super::tables;

pub(crate) fn encode_counter(component: &[u8], usage: Usage) -> Vec<u8> {
    tables::encode_counter(component, usage)
}

pub(crate) fn decode_counter(component: &[u8], bytes: &[u8]) -> Option<Usage> {
    tables::decode_counter(component, bytes)
}

pub(crate) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    tables::end_of_prefix(prefix)
}
