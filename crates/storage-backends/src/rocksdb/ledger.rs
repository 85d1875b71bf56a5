//! What partitions use, in the column family `ledgers`, by the partition's name.
//!
//! ```text
//! offset  size  what
//! 0       1     1: a total; 2: a change, which is added to it; 3: broken
//! 1       8     bytes of own keys and values, little-endian, signed in a change
//! 9       8     keys, likewise
//! 17      4     CRC-32 of the partition's name and all before
//! ```
//!
//! A partition has a total once a budget has asked for it. From then on every
//! write to the partition adds its change in the same batch.

use ::rocksdb::MergeOperands;
use storage_core::Usage;

use crate::record;

/// The name of the merge, which RocksDB keeps with the data.
pub(super) const MERGE_NAME: &str = "airssys.ledger.1";

const TOTAL: u8 = 1;
const CHANGE: u8 = 2;
const BROKEN: u8 = 3;
const BODY_BYTES: usize = 17;

/// By how much a write changes what a partition uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Change {
    bytes: i64,
    keys: i64,
}

impl Change {
    /// The change from what a key took up to what it takes up.
    pub(super) fn between(old: Usage, new: Usage) -> Self {
        let difference = |old: u64, new: u64| {
            // No store comes near the limits of the type.
            i64::try_from(i128::from(new) - i128::from(old)).unwrap_or_default()
        };
        Self { bytes: difference(old.bytes, new.bytes), keys: difference(old.keys, new.keys) }
    }

    /// This change and then another.
    #[must_use]
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            keys: self.keys.saturating_add(other.keys),
        }
    }

    /// What is used after it.
    pub(super) fn applied_to(self, usage: Usage) -> Usage {
        Usage {
            bytes: usage.bytes.saturating_add_signed(self.bytes),
            keys: usage.keys.saturating_add_signed(self.keys),
        }
    }

    /// The part of it that takes up more.
    #[must_use]
    pub(super) fn growth(self) -> Self {
        Self { bytes: self.bytes.max(0), keys: self.keys.max(0) }
    }

    /// The part of it that takes up less.
    #[must_use]
    pub(super) fn shrinkage(self) -> Self {
        Self { bytes: self.bytes.min(0), keys: self.keys.min(0) }
    }

    /// What undoes it.
    #[must_use]
    pub(super) fn undone(self) -> Self {
        Self { bytes: self.bytes.saturating_neg(), keys: self.keys.saturating_neg() }
    }

    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// The bytes of a total.
pub(super) fn total(partition: &str, usage: Usage) -> Vec<u8> {
    sealed(partition.as_bytes(), TOTAL, usage.bytes.to_le_bytes(), usage.keys.to_le_bytes())
}

/// The bytes of a change, a merge operand.
pub(super) fn change(partition: &str, change: Change) -> Vec<u8> {
    sealed(partition.as_bytes(), CHANGE, change.bytes.to_le_bytes(), change.keys.to_le_bytes())
}

/// Reads a total; `None` if it is not one, and so cannot be trusted.
pub(super) fn read(partition: &str, bytes: &[u8]) -> Option<Usage> {
    match parse(partition.as_bytes(), bytes) {
        Some(Entry::Total(usage)) => Some(usage),
        _ => None,
    }
}

/// Adds up changes, onto a total if there is one: RocksDB's merge.
///
/// It never fails, because a merge that does keeps RocksDB from writing files.
/// What it cannot read it marks as broken for whoever reads the result.
pub(super) fn merge(
    partition: &[u8],
    existing: Option<&[u8]>,
    operands: &MergeOperands,
) -> Option<Vec<u8>> {
    Some(merged(partition, existing, operands.iter()))
}

fn merged<'a>(
    partition: &[u8],
    existing: Option<&'a [u8]>,
    operands: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut base = None;
    let mut sum = Change::default();
    for bytes in existing.into_iter().chain(operands) {
        match parse(partition, bytes) {
            Some(Entry::Total(usage)) => (base, sum) = (Some(usage), Change::default()),
            Some(Entry::Change(change)) => sum = sum.and(change),
            None => return sealed(partition, BROKEN, [0; 8], [0; 8]),
        }
    }
    match base {
        Some(base) => {
            let usage = sum.applied_to(base);
            sealed(partition, TOTAL, usage.bytes.to_le_bytes(), usage.keys.to_le_bytes())
        }
        None => sealed(partition, CHANGE, sum.bytes.to_le_bytes(), sum.keys.to_le_bytes()),
    }
}

enum Entry {
    Total(Usage),
    Change(Change),
}

fn sealed(partition: &[u8], kind: u8, bytes: [u8; 8], keys: [u8; 8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(BODY_BYTES + 4);
    entry.push(kind);
    entry.extend_from_slice(&bytes);
    entry.extend_from_slice(&keys);
    record::seal_beside_key(partition, &mut entry);
    entry
}

fn parse(partition: &[u8], entry: &[u8]) -> Option<Entry> {
    let body = record::unseal_beside_key(partition, entry).ok()?;
    let (kind, numbers) = body.split_first()?;
    let (bytes, keys) = numbers.split_first_chunk::<8>()?;
    let keys: [u8; 8] = keys.try_into().ok()?;
    match *kind {
        TOTAL => Some(Entry::Total(Usage {
            bytes: u64::from_le_bytes(*bytes),
            keys: u64::from_le_bytes(keys),
        })),
        CHANGE => Some(Entry::Change(Change {
            bytes: i64::from_le_bytes(*bytes),
            keys: i64::from_le_bytes(keys),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "app/notes/home/";

    fn usage(bytes: u64, keys: u64) -> Usage {
        Usage { bytes, keys }
    }

    #[test]
    fn changes_add_up_in_whatever_groups_they_are_merged() {
        let changes: Vec<Vec<u8>> = [(0, 10), (10, 3), (7, 7), (100, 0), (0, 250)]
            .map(|(old, new)| change(NAME, Change::between(usage(old, 1), usage(new, 2))))
            .into();
        let base = total(NAME, usage(1000, 3));
        let slices: Vec<&[u8]> = changes.iter().map(Vec::as_slice).collect();
        let whole = merged(NAME.as_bytes(), Some(&base), slices.iter().copied());
        assert_eq!(read(NAME, &whole), Some(usage(1153, 8)));
        for split in 0..=slices.len() {
            let (early, late) = slices.split_at(split);
            let late = merged(NAME.as_bytes(), None, late.iter().copied());
            assert_eq!(read(NAME, &late), None);
            let early = merged(NAME.as_bytes(), Some(&base), early.iter().copied());
            let both = merged(NAME.as_bytes(), Some(&early), [late.as_slice()].into_iter());
            assert_eq!(both, whole, "{split}");
        }
    }

    #[test]
    fn what_is_broken_stays_broken_until_a_new_total() {
        let good = change(NAME, Change::between(usage(0, 0), usage(1, 1)));
        let mut bad = good.clone();
        bad[3] ^= 1;
        let base = total(NAME, usage(5, 1));
        for operand in [bad, change("app/notes/work/", Change::default()), Vec::new()] {
            let broken = merged(NAME.as_bytes(), Some(&base), [operand.as_slice()].into_iter());
            assert_eq!(read(NAME, &broken), None);
            let still = merged(NAME.as_bytes(), Some(&broken), [good.as_slice()].into_iter());
            assert_eq!(read(NAME, &still), None);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_total_is_found() {
        let whole = total(NAME, usage(77, 3));
        assert_eq!(read(NAME, &whole), Some(usage(77, 3)));
        assert_eq!(read("app/notes/work/", &whole), None);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert_eq!(read(NAME, &bytes), None, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn growth_and_shrinkage_are_the_two_halves_of_a_change() {
        let change = Change::between(usage(10, 0), usage(4, 1));
        assert_eq!(change.growth().and(change.shrinkage()), change);
        assert_eq!(change.growth().applied_to(usage(100, 5)), usage(100, 6));
        assert_eq!(change.shrinkage().applied_to(usage(100, 5)), usage(94, 5));
        assert!(change.and(change.undone()).is_nothing());
    }
}
