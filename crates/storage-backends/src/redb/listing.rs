//! Listings and counts: ranges of the one ordered table.
//!
//! Components lie one behind the other in the order of their names, with keys of
//! no component between them.

use std::ops::Bound;

use ::redb::{ReadTransaction, ReadableTable};
use storage_core::{KeyPage, PageRequest, Usage, split_full_key};

use super::fail::Fail;
use super::tables::{self, Bytes, DATA, LEDGERS, end_of_prefix, key_text};
use super::write::value_len;

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of the keys that begin with `prefix` and lie behind `after`;
/// `None` if none can.
pub(super) fn bounds<'a>(
    prefix: &'a str,
    after: Option<&'a str>,
    end: Option<&'a [u8]>,
) -> Option<Bounds<'a>> {
    let (prefix, after) = (prefix.as_bytes(), after.map(str::as_bytes));
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    if let (Bound::Excluded(start), Some(end)) = (start, end)
        && start >= end
    {
        // An empty range is a panic.
        return None;
    }
    Some((start, end.map_or(Bound::Unbounded, Bound::Excluded)))
}

/// Calls `visit` with the keys that begin with `prefix` and lie behind `after`,
/// and their records, until it answers `false`.
pub(super) fn walk(
    table: &impl ReadableTable<Bytes, Bytes>,
    prefix: &str,
    after: Option<&str>,
    mut visit: impl FnMut(&str, &[u8]) -> Result<bool, Fail>,
) -> Result<(), Fail> {
    let end = end_of_prefix(prefix.as_bytes());
    let Some(bounds) = bounds(prefix, after, end.as_deref()) else { return Ok(()) };
    for entry in table.range::<&[u8]>(bounds)? {
        let (key, record) = entry?;
        if !visit(key_text(key.value())?, record.value())? {
            break;
        }
    }
    Ok(())
}

/// A page, as [`list_page`](storage_core::ComponentStorage::list_page).
pub(super) fn page(txn: &ReadTransaction, request: PageRequest<'_>) -> Result<KeyPage, Fail> {
    let table = txn.open_table(DATA)?;
    // One key more than the limit tells whether more follow.
    let wanted = request.limit.saturating_add(1);
    let mut keys = Vec::new();
    let end = end_of_prefix(request.prefix.as_bytes());
    if let Some(bounds) = bounds(request.prefix, request.after, end.as_deref()) {
        // Not by `walk`, which looks at every record too.
        for entry in table.range::<&[u8]>(bounds)? {
            keys.push(key_text(entry?.0.value())?.to_owned());
            if keys.len() == wanted {
                break;
            }
        }
    }
    Ok(KeyPage::cut(keys, request.limit))
}

/// Partitions, as
/// [`list_components`](storage_core::Store::list_components): a look
/// into the table for each, and a step for each key of no component on the way.
pub(super) fn partitions(
    txn: &ReadTransaction,
    after: Option<&str>,
    limit: usize,
) -> Result<KeyPage, Fail> {
    let table = txn.open_table(DATA)?;
    let wanted = limit.saturating_add(1);
    let mut found: Vec<String> = Vec::new();
    let mut from = Some(after.map_or_else(Vec::new, |after| after.as_bytes().to_vec()));
    while let Some(start) = from.take()
        && found.len() < wanted
    {
        for entry in table.range(start.as_slice()..)? {
            let (key, _) = entry?;
            let (partition, _) = split_full_key(key_text(key.value())?);
            if !partition.is_empty() {
                from = end_of_prefix(partition.as_bytes());
                if after.is_none_or(|after| partition > after) {
                    found.push(partition.to_owned());
                }
                break;
            }
        }
    }
    Ok(KeyPage::cut(found, limit))
}

/// What the keys that begin with `prefix` take up, from the ledger where there
/// is one for exactly these.
pub(super) fn usage(txn: &ReadTransaction, prefix: &str) -> Result<Usage, Fail> {
    if split_full_key(prefix).0 == prefix && !prefix.is_empty() {
        let ledgers = txn.open_table(LEDGERS)?;
        if let Some(own) = tables::stored_ledger(&ledgers, prefix)? {
            let names = own.keys.saturating_mul(prefix.len() as u64);
            return Ok(own + Usage { bytes: names, keys: 0 });
        }
    }
    let mut usage = Usage::default();
    walk(&txn.open_table(DATA)?, prefix, None, |key, record| {
        usage = usage + Usage::of(key, value_len(record));
        Ok(true)
    })?;
    Ok(usage)
}

/// What the own keys of a partition and their values take up; `None` if finding
/// out takes more than `looks` looks into the table.
pub(super) fn count_own(
    table: &impl ReadableTable<Bytes, Bytes>,
    partition: &str,
    mut looks: usize,
) -> Result<Option<Usage>, Fail> {
    let mut usage = Usage::default();
    let end = end_of_prefix(partition.as_bytes());
    let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut from = Some(partition.as_bytes().to_vec());
    while let Some(start) = from.take() {
        for entry in table.range::<&[u8]>((Bound::Included(start.as_slice()), end))? {
            if looks == 0 {
                return Ok(None);
            }
            looks -= 1;
            let (key, record) = entry?;
            let (found, own) = split_full_key(key_text(key.value())?);
            if found == partition {
                usage = usage + Usage::of(own, value_len(record.value()));
            } else {
                // Components lie between the keys of none.
                from = end_of_prefix(found.as_bytes());
                break;
            }
        }
    }
    Ok(Some(usage))
}

/// Whether a partition holds a key.
pub(super) fn holds_key(
    table: &impl ReadableTable<Bytes, Bytes>,
    partition: &str,
) -> Result<bool, Fail> {
    let mut holds = false;
    walk(table, partition, None, |key, _| {
        holds = split_full_key(key).0 == partition;
        Ok(!holds)
    })?;
    Ok(holds)
}
