//! The format of usage counters: the column family `ledgers`, by component prefix.
//!
//! ```text
//! offset  size  what
//! 0       1     1: a total; 2: a change, added to it by a merge; 3: damaged
//! 1       8     bytes of user keys and values, little-endian, signed in a change
//! 9       8     keys, likewise
//! 17      4     CRC-32 of the component prefix and all before
//! ```
//!
//! A component has a total once a budget needed it. From then on every write to the
//! component adds its change in the same batch.

use ::rocksdb::MergeOperands;
use storage_core::{Usage, UsageChange};

use crate::record;

/// The name of the merge operator, which RocksDB stores with the data.
pub(super) const MERGE_NAME: &str = "airssys.ledger.1";

const TOTAL: u8 = 1;
const CHANGE: u8 = 2;
const DAMAGED: u8 = 3;
const BODY_BYTES: usize = 17;

/// A sum of changes, as it is stored.
#[derive(Clone, Copy, Default)]
struct Difference {
    bytes: i64,
    keys: i64,
}

impl Difference {
    fn of(change: UsageChange) -> Self {
        let signed = |added: u64, removed: u64| {
            i64::try_from(i128::from(added) - i128::from(removed)).unwrap_or_default()
        };
        Self {
            bytes: signed(change.added.bytes, change.removed.bytes),
            keys: signed(change.added.keys, change.removed.keys),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            keys: self.keys.saturating_add(other.keys),
        }
    }

    fn applied_to(self, usage: Usage) -> Usage {
        Usage {
            bytes: usage.bytes.saturating_add_signed(self.bytes),
            keys: usage.keys.saturating_add_signed(self.keys),
        }
    }
}

pub(super) fn encode_total(component: &str, usage: Usage) -> Vec<u8> {
    sealed(component.as_bytes(), TOTAL, usage.bytes.to_le_bytes(), usage.keys.to_le_bytes())
}

/// Encodes a change, a merge operand.
pub(super) fn encode_change(component: &str, change: UsageChange) -> Vec<u8> {
    let change = Difference::of(change);
    sealed(component.as_bytes(), CHANGE, change.bytes.to_le_bytes(), change.keys.to_le_bytes())
}

/// Decodes a total; `None` if it is damaged.
pub(super) fn decode_total(component: &str, bytes: &[u8]) -> Option<Usage> {
    match parse(component.as_bytes(), bytes) {
        Some(Entry::Total(usage)) => Some(usage),
        _ => None,
    }
}

/// Adds changes to a total, if there is one: RocksDB's merge operator.
///
/// It never fails, because a failing merge prevents RocksDB from writing files. It marks
/// the result as damaged instead.
pub(super) fn merge(
    component: &[u8],
    existing: Option<&[u8]>,
    operands: &MergeOperands,
) -> Option<Vec<u8>> {
    Some(merged(component, existing, operands.iter()))
}

fn merged<'a>(
    component: &[u8],
    existing: Option<&'a [u8]>,
    operands: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut base = None;
    let mut sum = Difference::default();
    for bytes in existing.into_iter().chain(operands) {
        match parse(component, bytes) {
            Some(Entry::Total(usage)) => (base, sum) = (Some(usage), Difference::default()),
            Some(Entry::Change(change)) => sum = sum.and(change),
            None => return sealed(component, DAMAGED, [0; 8], [0; 8]),
        }
    }
    match base {
        Some(base) => {
            let usage = sum.applied_to(base);
            sealed(component, TOTAL, usage.bytes.to_le_bytes(), usage.keys.to_le_bytes())
        }
        None => sealed(component, CHANGE, sum.bytes.to_le_bytes(), sum.keys.to_le_bytes()),
    }
}

enum Entry {
    Total(Usage),
    Change(Difference),
}

fn sealed(component: &[u8], kind: u8, bytes: [u8; 8], keys: [u8; 8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(BODY_BYTES + 4);
    entry.push(kind);
    entry.extend_from_slice(&bytes);
    entry.extend_from_slice(&keys);
    record::seal_with_key(component, &mut entry);
    entry
}

fn parse(component: &[u8], entry: &[u8]) -> Option<Entry> {
    let body = record::unseal_with_key(component, entry).ok()?;
    let (kind, numbers) = body.split_first()?;
    let (bytes, keys) = numbers.split_first_chunk::<8>()?;
    let keys: [u8; 8] = keys.try_into().ok()?;
    match *kind {
        TOTAL => Some(Entry::Total(Usage {
            bytes: u64::from_le_bytes(*bytes),
            keys: u64::from_le_bytes(keys),
        })),
        CHANGE => Some(Entry::Change(Difference {
            bytes: i64::from_le_bytes(*bytes),
            keys: i64::from_le_bytes(keys),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &str = "app/notes/home/";

    fn usage(bytes: u64, keys: u64) -> Usage {
        Usage { bytes, keys }
    }

    fn change(old: Usage, new: Usage) -> Vec<u8> {
        encode_change(COMPONENT, UsageChange { added: new, removed: old })
    }

    #[test]
    fn changes_add_up_in_any_grouping() {
        let changes: Vec<Vec<u8>> = [(0, 10), (10, 3), (7, 7), (100, 0), (0, 250)]
            .map(|(old, new)| change(usage(old, 1), usage(new, 2)))
            .into();
        let base = encode_total(COMPONENT, usage(1000, 3));
        let slices: Vec<&[u8]> = changes.iter().map(Vec::as_slice).collect();
        let whole = merged(COMPONENT.as_bytes(), Some(&base), slices.iter().copied());
        assert_eq!(decode_total(COMPONENT, &whole), Some(usage(1153, 8)));
        for split in 0..=slices.len() {
            let (early, late) = slices.split_at(split);
            let late = merged(COMPONENT.as_bytes(), None, late.iter().copied());
            assert_eq!(decode_total(COMPONENT, &late), None);
            let early = merged(COMPONENT.as_bytes(), Some(&base), early.iter().copied());
            let both = merged(COMPONENT.as_bytes(), Some(&early), [late.as_slice()].into_iter());
            assert_eq!(both, whole, "{split}");
        }
    }

    #[test]
    fn damage_stays_until_a_new_total() {
        let good = change(usage(0, 0), usage(1, 1));
        let mut bad = good.clone();
        bad[3] ^= 1;
        let base = encode_total(COMPONENT, usage(5, 1));
        let other = encode_change("app/notes/work/", UsageChange::default());
        for operand in [bad, other, Vec::new()] {
            let damaged =
                merged(COMPONENT.as_bytes(), Some(&base), [operand.as_slice()].into_iter());
            assert_eq!(decode_total(COMPONENT, &damaged), None);
            let still = merged(COMPONENT.as_bytes(), Some(&damaged), [good.as_slice()].into_iter());
            assert_eq!(decode_total(COMPONENT, &still), None);
        }
    }
}
