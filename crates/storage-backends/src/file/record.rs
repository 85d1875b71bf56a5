//! The bytes of a value's file.
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
//! The checksum and the key in the record are why a torn, flipped, truncated or
//! swapped file is found out and never read as a value.

use storage_core::{Revision, StorageValue, VersionedValue};

const FORMAT: u8 = 1;
const CRITICAL_FLAGS: u8 = 0xf0;
const HEADER_BYTES: usize = 12;
const FIELD_HEADER_BYTES: usize = 3;
const KEY_TAG: u8 = 1;
const CRITICAL_TAGS: u8 = 0x80;
const CHECKSUM_BYTES: usize = 4;

/// A record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: String,
    pub(super) found: VersionedValue,
}

/// The bytes of a record.
pub(super) fn encode(key: &str, value: &StorageValue, revision: Revision) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(overhead(key) + value.len());
    bytes.push(FORMAT);
    bytes.push(0);
    bytes.extend_from_slice(&revision.get().to_le_bytes());
    // A full key is at most a few thousand bytes: it was checked at the door.
    let key_len = u16::try_from(key.len()).unwrap_or(u16::MAX);
    let fields_len = key_len.saturating_add(FIELD_HEADER_BYTES as u16);
    bytes.extend_from_slice(&fields_len.to_le_bytes());
    bytes.push(KEY_TAG);
    bytes.extend_from_slice(&key_len.to_le_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(value.as_bytes());
    seal(bytes)
}

/// How many bytes a record has beside its value.
pub(super) fn overhead(key: &str) -> usize {
    HEADER_BYTES + FIELD_HEADER_BYTES + key.len() + CHECKSUM_BYTES
}

/// Reads a record.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode(bytes: &[u8]) -> Result<Record, &'static str> {
    let body = unseal(bytes)?;
    let mut reader = Reader(body);
    if reader.byte()? != FORMAT {
        return Err("its format is not one that this version knows");
    }
    if reader.byte()? & CRITICAL_FLAGS != 0 {
        return Err("it has a flag that this version does not know");
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
            CRITICAL_TAGS.. => return Err("it has a field that this version does not know"),
            _ => {}
        }
    }
    let key = key.ok_or("it holds no key")?;
    let key = std::str::from_utf8(key).map_err(|_| "its key is not UTF-8")?;
    Ok(Record {
        key: key.to_owned(),
        found: VersionedValue { value: StorageValue::from(reader.0), revision },
    })
}

/// The key of a record of which only the beginning was read, unchecked.
pub(super) fn key_at_start(bytes: &[u8]) -> Option<String> {
    let mut fields = Reader(bytes.get(HEADER_BYTES..)?);
    if fields.byte().ok()? != KEY_TAG {
        return None;
    }
    let len = fields.u16().ok()?;
    let key = fields.take(usize::from(len)).ok()?;
    String::from_utf8(key.to_vec()).ok()
}

/// Appends the checksum of everything before it.
pub(super) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The bytes that a seal covers.
///
/// # Errors
/// What is wrong with them.
pub(super) fn unseal(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let (body, checksum) =
        bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or("it is too short to be whole")?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err("its checksum does not match");
    }
    Ok(body)
}

/// Takes numbers and slices off the front, and never past the end.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("it ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("it ends too early")?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, &'static str> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, &'static str> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        encode("app/notes/home/1", &"buy milk".into(), Revision::new(7))
    }

    #[test]
    fn a_record_comes_back_whole() {
        let record = decode(&sample()).unwrap();
        assert_eq!(record.key, "app/notes/home/1");
        assert_eq!(record.found.value, "buy milk".into());
        assert_eq!(record.found.revision, Revision::new(7));
        assert_eq!(sample().len(), overhead(&record.key) + "buy milk".len());
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for at in 0..sample().len() {
            for bit in 0..8 {
                let mut bytes = sample();
                bytes[at] ^= 1 << bit;
                assert!(decode(&bytes).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn every_truncation_is_found() {
        for len in 0..sample().len() {
            assert!(decode(&sample()[..len]).is_err(), "{len} bytes");
        }
    }

    /// A record with other bytes and a right checksum, as a later version might
    /// write it.
    fn resealed(change: impl FnOnce(&mut Vec<u8>)) -> Result<Record, &'static str> {
        let mut bytes = unseal(&sample()).unwrap().to_vec();
        change(&mut bytes);
        decode(&seal(bytes))
    }

    #[test]
    fn what_a_later_version_may_add() {
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
    fn lengths_that_lie_are_refused() {
        assert!(resealed(|bytes| bytes[10..12].copy_from_slice(&[0xff, 0xff])).is_err());
        assert!(resealed(|bytes| bytes[13..15].copy_from_slice(&[0xff, 0xff])).is_err());
        assert!(resealed(|bytes| bytes[12] = 5).unwrap_err().contains("no key"));
    }
}
