//! A stored value: its revision, which the server assigns, and its record, which the client
//! makes.

use storage_core::{Revision, StorageError, StorageValue, VersionedValue};

use super::shard::Shard;
use crate::record;

/// Bytes of the revision before the record.
const REVISION_BYTES: usize = 8;

/// Bytes of a stored value beyond those of the value. The script of commits knows it too.
pub(super) const OVERHEAD: usize = REVISION_BYTES + record::KEYLESS_OVERHEAD;

/// The number of the commit that a revision names, in its shard.
pub(super) fn number(revision: Revision) -> u64 {
    revision.get() >> 8
}

/// The shard whose commit a revision names.
pub(super) fn shard_of(revision: Revision) -> u8 {
    let [.., shard] = revision.get().to_be_bytes();
    shard
}

/// The record of a value. Its revision is 0, because the server assigns the revision: so the
/// record of a value is always the same, and the server can compare values.
pub(super) fn record(key: &str, value: &StorageValue) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::encode_keyless(key, value.as_bytes(), Revision::new(0), &mut bytes);
    bytes
}

/// Reads a stored value.
///
/// # Errors
/// [`StorageError::Corrupt`].
pub(super) fn decode(key: &str, stored: &[u8]) -> Result<VersionedValue, StorageError> {
    let corrupt = |detail: &str| StorageError::Corrupt {
        key: Some(key.to_owned()),
        detail: format!("{detail}; restore the value from a backup, or delete it"),
    };
    let (revision, record) =
        stored.split_first_chunk::<REVISION_BYTES>().ok_or_else(|| corrupt("it is too short"))?;
    let (value, _) = record::decode_keyless(key, record).map_err(corrupt)?;
    let revision = Revision::new(u64::from_be_bytes(*revision));
    Ok(VersionedValue { value: StorageValue::from(value), revision })
}

/// The revision of a stored value, which may be damaged.
pub(super) fn revision(stored: &[u8]) -> Option<Revision> {
    let bytes = stored.first_chunk::<REVISION_BYTES>()?;
    Some(Revision::new(u64::from_be_bytes(*bytes)))
}

/// Whether a revision is one of a shard.
pub(super) fn is_of(revision: Revision, shard: Shard) -> bool {
    shard_of(revision) == shard.number()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "app/notes/home/1";

    #[test]
    fn stored_values_decode_to_what_was_encoded() {
        let value = StorageValue::from("buy milk");
        let revision = Revision::new(0x0102_0304_0506_0725);
        let stored = [&revision.get().to_be_bytes()[..], &record(KEY, &value)].concat();
        assert_eq!(stored.len(), OVERHEAD + value.len());
        assert_eq!(decode(KEY, &stored), Ok(VersionedValue { value, revision }));
        assert_eq!(number(revision), 0x0001_0203_0405_0607);
        assert_eq!(shard_of(revision), 0x25);
        for len in 0..stored.len() {
            let error = decode(KEY, &stored[..len]).unwrap_err();
            assert!(matches!(error, StorageError::Corrupt { key: Some(_), .. }), "{len}");
        }
        assert!(decode("app/notes/home/2", &stored).is_err());
    }
}
