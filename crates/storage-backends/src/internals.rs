//! What lies on disk, byte for byte, for the fuzz targets and the durability suite
//! of this repository: no part of the interface, and free to change.

use storage_core::{Revision, StorageValue, Usage, VersionedValue};

pub use crate::file::internals::*;
use crate::redb::internals as redb;
use crate::rocksdb_log::{self, Kind, Verdict};
use crate::{first_revision, record};

/// From here on no opening looks at the clock, so that revisions are given twice
/// if the counter fails.
pub fn stop_the_clock() {
    first_revision::clock::stop();
}

/// The record of a file.
pub fn record(key: &str, value: &StorageValue, revision: Revision) -> Vec<u8> {
    record::encode(key, value, revision)
}

/// The key and the value of a file's record.
///
/// # Errors
/// What is wrong with it.
pub fn read_record(bytes: &[u8]) -> Result<(String, VersionedValue), &'static str> {
    record::decode(bytes).map(|record| (record.key, record.found))
}

/// The key of a record of which only the beginning is there.
pub fn key_at_start_of_record(bytes: &[u8]) -> Option<String> {
    record::key_at_start(bytes)
}

/// The record of an engine that has the key beside it.
pub fn record_beside_key(key: &str, value: &[u8], revision: Revision) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::encode_beside_key(key, value, revision, &mut bytes);
    bytes
}

/// The value of such a record.
///
/// # Errors
/// What is wrong with it.
pub fn read_record_beside_key<'a>(
    key: &str,
    bytes: &'a [u8],
) -> Result<(&'a [u8], Revision), &'static str> {
    record::decode_beside_key(key, bytes)
}

/// These bytes with the checksum that a file needs.
pub fn sealed(bytes: &[u8]) -> Vec<u8> {
    record::seal(bytes.to_vec())
}

/// These bytes with the checksum that an engine's value needs.
pub fn sealed_beside_key(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    record::seal_beside_key(key, &mut bytes);
    bytes
}

/// The ledger of a partition in redb.
pub fn ledger(partition: &[u8], usage: Usage) -> Vec<u8> {
    redb::encode_counter(partition, usage)
}

/// What such a ledger says; `None` if it is damaged.
pub fn read_ledger(partition: &[u8], bytes: &[u8]) -> Option<Usage> {
    redb::decode_counter(partition, bytes)
}

/// What lies behind every text that begins with `prefix`.
pub fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    redb::end_of_prefix(prefix)
}

/// What RocksDB's log is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// All of it is right.
    Whole,
    /// It ends as a power cut leaves it, from here on.
    Torn(usize),
    /// What was durable is not what was written, here.
    Damaged(usize),
}

/// Judges a log of writes, or of files.
pub fn judge_log(bytes: &[u8], manifest: bool) -> Log {
    match rocksdb_log::judge(bytes, if manifest { Kind::Manifest } else { Kind::Writes }) {
        Verdict::Whole { .. } => Log::Whole,
        Verdict::Torn { offset } => Log::Torn(offset),
        Verdict::Damaged { offset } => Log::Damaged(offset),
    }
}
