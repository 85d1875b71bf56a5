//! The bytes of a value with its revision, the same in every persistent store.
//!
//! ```text
//! offset  size  what
//! 0       1     format, 1
//! 1       1     flags; the upper four are critical: unknown ones are an error
//! 2       8     revision, little-endian, as every number here
//! 10      2     length of all fields together
//! 12      n     fields, each: tag (1), length (2), bytes
//!               tag 1: the full key; tags from 128 up are critical
//! 12+n    m     the value
//! 12+n+m  4     CRC-32 (IEEE) of everything before
//! ```
//!
//! A file holds its full key as a field, because its name may be a hash of the key. An
//! engine stores the key next to the record, so the record does not repeat it. The checksum
//! of such a keyless record covers the full key and then the record. Either way, a torn, altered,
//! truncated or swapped record is detected and never read as a value.

use storage_core::Revision;
#[cfg(feature = "file")]
use storage_core::{StorageValue, VersionedValue};

const FORMAT: u8 = 1;
const CRITICAL_FLAGS: u8 = 0xf0;
const HEADER_BYTES: usize = 12;
#[cfg(feature = "file")]
const FIELD_HEADER_BYTES: usize = 3;
const KEY_TAG: u8 = 1;
const CRITICAL_TAGS: u8 = 0x80;
const CHECKSUM_BYTES: usize = 4;

/// A decoded record with its key.
#[cfg(feature = "file")]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) found: VersionedValue,
}

/// Encodes a record that holds its key.
#[cfg(feature = "file")]
pub(crate) fn encode(key: &str, value: &StorageValue, revision: Revision) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(overhead(key.len()) + value.len());
    push_header(&mut bytes, revision);
    // Fits: a valid full key has at most a few thousand bytes.
    let key_len = u16::try_from(key.len()).unwrap_or(u16::MAX);
    let fields_len = key_len.saturating_add(FIELD_HEADER_BYTES as u16);
    bytes.extend_from_slice(&fields_len.to_le_bytes());
    bytes.push(KEY_TAG);
    bytes.extend_from_slice(&key_len.to_le_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(value.as_bytes());
    seal(bytes)
}

/// Encodes a keyless record. Replaces the content of `bytes`.
#[cfg(any(feature = "redb", feature = "redis", feature = "rocksdb"))]
pub(crate) fn encode_keyless(key: &str, value: &[u8], revision: Revision, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.reserve(KEYLESS_OVERHEAD + value.len());
    push_header(bytes, revision);
    bytes.extend_from_slice(&0_u16.to_le_bytes());
    bytes.extend_from_slice(value);
    seal_with_key(key.as_bytes(), bytes);
}

/// How many bytes [`encode_keyless`] adds to a value.
#[cfg(any(feature = "redb", feature = "redis", feature = "rocksdb"))]
pub(crate) const KEYLESS_OVERHEAD: usize = HEADER_BYTES + CHECKSUM_BYTES;

/// Decodes a keyless record. Returns its value and its revision.
///
/// # Errors
/// What is wrong with it, for example that it belongs to another key.
#[cfg(any(feature = "redb", feature = "redis", feature = "rocksdb"))]
pub(crate) fn decode_keyless<'a>(
    key: &str,
    bytes: &'a [u8],
) -> Result<(&'a [u8], Revision), &'static str> {
    let (revision, _, value) = decode_body(unseal_with_key(key.as_bytes(), bytes)?)?;
    Ok((value, revision))
}

/// The length of the value of a keyless record, computed from the length and the header
/// only, so that a damaged record has one too.
#[cfg(any(feature = "redb", feature = "rocksdb"))]
pub(crate) fn keyless_value_len(bytes: &[u8]) -> usize {
    let fields_len = Reader(bytes.get(HEADER_BYTES - 2..).unwrap_or_default()).u16();
    bytes.len().saturating_sub(KEYLESS_OVERHEAD + usize::from(fields_len.unwrap_or_default()))
}

/// Appends the checksum of a key and these bytes.
#[cfg(any(feature = "redb", feature = "redis", feature = "rocksdb"))]
pub(crate) fn seal_with_key(key: &[u8], bytes: &mut Vec<u8>) {
    let checksum = checksum_with_key(key, bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
}

/// Checks and removes such a checksum.
///
/// # Errors
/// What is wrong with them.
#[cfg(any(feature = "redb", feature = "redis", feature = "rocksdb"))]
pub(crate) fn unseal_with_key<'a>(key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or("it is too short")?;
    if checksum_with_key(key, body) != u32::from_le_bytes(*checksum) {
        return Err("its checksum does not match");
    }
    Ok(body)
}

#[cfg(any(feature = "redb", feature = "redis", feature = "rocksdb"))]
fn checksum_with_key(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

fn push_header(bytes: &mut Vec<u8>, revision: Revision) {
    bytes.push(FORMAT);
    bytes.push(0);
    bytes.extend_from_slice(&revision.get().to_le_bytes());
}

/// The size of a record without its value.
#[cfg(feature = "file")]
pub(crate) fn overhead(key_len: usize) -> usize {
    HEADER_BYTES + FIELD_HEADER_BYTES + key_len + CHECKSUM_BYTES
}

/// Decodes a record that holds its key.
///
/// # Errors
/// What is wrong with it.
#[cfg(feature = "file")]
pub(crate) fn decode(bytes: &[u8]) -> Result<Record, &'static str> {
    let (revision, key, value) = decode_body(unseal(bytes)?)?;
    let key = key.ok_or("it holds no key")?;
    let key = std::str::from_utf8(key).map_err(|_| "its key is not UTF-8")?;
    Ok(Record {
        key: key.to_owned(),
        found: VersionedValue { value: StorageValue::from(value), revision },
    })
}

/// Revision, key field and value.
type Body<'a> = (Revision, Option<&'a [u8]>, &'a [u8]);

/// Decodes a record after its checksum was checked.
fn decode_body(body: &[u8]) -> Result<Body<'_>, &'static str> {
    let mut reader = Reader(body);
    if reader.byte()? != FORMAT {
        return Err("its format is unknown to this version");
    }
    if reader.byte()? & CRITICAL_FLAGS != 0 {
        return Err("it has a flag that is unknown to this version");
    }
    let revision = Revision::new(reader.u64()?);
    let fields_len = reader.u16()?;
    let mut fields = Reader(reader.take(usize::from(fields_len))?);
    let mut key = None;
    while !fields.0.is_empty() {
        let tag = fields.byte()?;
        let len = fields.u16()?;
        let content = fields.take(usize::from(len))?;
        match tag {
            KEY_TAG => key = Some(content),
            CRITICAL_TAGS.. => return Err("it has a field that is unknown to this version"),
            _ => {}
        }
    }
    Ok((revision, key, reader.0))
}

/// The key in the beginning of a record. Checks no checksum.
#[cfg(feature = "file")]
pub(crate) fn key_at_start(bytes: &[u8]) -> Option<String> {
    let mut fields = Reader(bytes.get(HEADER_BYTES..)?);
    if fields.byte().ok()? != KEY_TAG {
        return None;
    }
    let len = fields.u16().ok()?;
    let key = fields.take(usize::from(len)).ok()?;
    String::from_utf8(key.to_vec()).ok()
}

/// Appends the checksum of all bytes.
#[cfg(feature = "file")]
pub(crate) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Checks and removes the checksum.
///
/// # Errors
/// What is wrong with them.
#[cfg(feature = "file")]
pub(crate) fn unseal(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or("it is too short")?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err("its checksum does not match");
    }
    Ok(body)
}

/// Reads numbers and slices from the front, never beyond the end.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("it ends too early")?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    #[cfg(feature = "file")]
    pub(crate) fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

#[cfg(test)]
#[cfg(all(feature = "file", feature = "redb"))]
mod tests {
    use super::*;

    const KEY: &str = "app/notes/home/1";

    fn sample() -> Vec<u8> {
        encode(KEY, &"buy milk".into(), Revision::new(7))
    }

    fn keyless() -> Vec<u8> {
        let mut bytes = b"what was there before".to_vec();
        encode_keyless(KEY, b"buy milk", Revision::new(7), &mut bytes);
        bytes
    }

    #[test]
    fn records_decode_to_what_was_encoded() {
        let record = decode(&sample()).unwrap();
        assert_eq!((&*record.key, record.found.value), (KEY, "buy milk".into()));
        assert_eq!(record.found.revision, Revision::new(7));
        assert_eq!(sample().len(), overhead(KEY.len()) + "buy milk".len());
        let bytes = keyless();
        assert_eq!(bytes.len(), KEYLESS_OVERHEAD + "buy milk".len());
        assert_eq!(decode_keyless(KEY, &bytes), Ok((b"buy milk".as_slice(), Revision::new(7))));
        assert!(decode_keyless("app/notes/home/2", &bytes).is_err());
        assert!(decode_keyless("app/notes/home/", &bytes).is_err());
    }

    #[test]
    fn every_flipped_bit_and_truncation_is_detected() {
        type Decodes = fn(&[u8]) -> bool;
        let kinds: [(Vec<u8>, Decodes); 2] = [
            (sample(), |bytes| decode(bytes).is_ok()),
            (keyless(), |bytes| decode_keyless(KEY, bytes).is_ok()),
        ];
        for (whole, decodes) in kinds {
            for at in 0..whole.len() {
                assert!(!decodes(&whole[..at]), "{at} bytes");
                for bit in 0..8 {
                    let mut bytes = whole.clone();
                    bytes[at] ^= 1 << bit;
                    assert!(!decodes(&bytes), "byte {at}, bit {bit}");
                }
            }
        }
    }

    /// An altered record with a valid checksum, as a later version may write it.
    fn resealed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Record, &'static str> {
        let mut bytes = unseal(&sample()).unwrap().to_vec();
        change(&mut bytes);
        decode(&seal(bytes))
    }

    #[test]
    fn unknown_critical_flags_and_fields_are_refused() {
        assert!(resealed(|bytes| bytes[0] = 2).unwrap_err().contains("format"));
        assert!(resealed(|bytes| bytes[1] = 0x10).unwrap_err().contains("flag"));
        assert!(resealed(|bytes| bytes[1] = 0x01).is_ok());
        let add_field = |tag: u8| {
            resealed(|bytes| {
                let fields_len = u16::from_le_bytes([bytes[10], bytes[11]]);
                bytes[10..12].copy_from_slice(&(fields_len + 4).to_le_bytes());
                bytes.splice(12..12, [tag, 1, 0, 99]);
            })
        };
        assert_eq!(add_field(5).unwrap().found.value, "buy milk".into());
        assert!(add_field(200).unwrap_err().contains("field"));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert!(resealed(|bytes| bytes[10..12].copy_from_slice(&[0xff, 0xff])).is_err());
        assert!(resealed(|bytes| bytes[13..15].copy_from_slice(&[0xff, 0xff])).is_err());
        assert!(resealed(|bytes| bytes[12] = 5).unwrap_err().contains("no key"));
    }
}
