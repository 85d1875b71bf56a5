//! Access to on-disk formats and to readers of replies, for the fuzz targets and the durability
//! suite of this repository. Not part of the interface.

use storage_core::{Revision, StorageValue, Usage, VersionedValue};

pub use crate::file::internals::*;
use crate::redb::internals as redb;
#[cfg(feature = "redis")]
pub use crate::redis::internals as redis;
use crate::{first_revision, record};

/// Makes later openings ignore the clock, so that a broken counter repeats revisions.
pub fn stop_the_clock() {
    first_revision::clock::stop();
}

/// Encodes a record of the file store.
pub fn record(key: &str, value: &StorageValue, revision: Revision) -> Vec<u8> {
    record::encode(key, value, revision)
}

/// Decodes a record of the file store.
///
/// # Errors
/// Describes the damage.
pub fn read_record(bytes: &[u8]) -> Result<(String, VersionedValue), &'static str> {
    record::decode(bytes).map(|record| (record.key, record.found))
}

/// Reads the key of a truncated record.
pub fn key_at_start_of_record(bytes: &[u8]) -> Option<String> {
    record::key_at_start(bytes)
}

/// Encodes a keyless record.
pub fn keyless_record(key: &str, value: &[u8], revision: Revision) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::encode_keyless(key, value, revision, &mut bytes);
    bytes
}

/// Decodes a keyless record.
///
/// # Errors
/// Describes the damage.
pub fn read_keyless_record<'a>(
    key: &str,
    bytes: &'a [u8],
) -> Result<(&'a [u8], Revision), &'static str> {
    record::decode_keyless(key, bytes)
}

/// Appends the checksum of a file.
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    record::seal(bytes.to_vec())
}

/// Appends the checksum of a key and these bytes.
pub fn sealed_with_key(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    record::seal_with_key(key, &mut bytes);
    bytes
}

/// Encodes a usage counter of redb.
pub fn usage_counter(component: &[u8], usage: Usage) -> Vec<u8> {
    redb::encode_counter(component, usage)
}

/// Decodes a usage counter of redb; `None` if it is damaged.
pub fn read_usage_counter(component: &[u8], bytes: &[u8]) -> Option<Usage> {
    redb::decode_counter(component, bytes)
}

/// The smallest text after all texts that begin with `prefix`.
pub fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    redb::end_of_prefix(prefix)
}
