//! Listings and counts: ranges of the ordered data table.
//!
//! Components follow each other in byte order, with unscoped keys between them.

use std::ops::Bound;

use ::redb::{ReadTransaction, ReadableTable};
use storage_core::{KeyPage, PageRequest, Usage, split_full_key};

use super::error::Error;
use super::tables::{Bytes, DATA, USAGE_COUNTERS, end_of_prefix, key_text, usage_counter};
use crate::record::keyless_value_len;

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of the keys that begin with `prefix` and follow `after`; `None` for an
/// empty range.
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
        // The engine panics on an empty range.
        return None;
    }
    Some((start, end.map_or(Bound::Unbounded, Bound::Excluded)))
}

/// Calls `visit` with the keys that begin with `prefix` and follow `after`, and their
/// records, until it returns `false`.
pub(super) fn scan(
    table: &impl ReadableTable<Bytes, Bytes>,
    prefix: &str,
    after: Option<&str>,
    mut visit: impl FnMut(&str, &[u8]) -> Result<bool, Error>,
) -> Result<(), Error> {
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

pub(super) fn page(txn: &ReadTransaction, request: PageRequest<'_>) -> Result<KeyPage, Error> {
    let table = txn.open_table(DATA)?;
    // One key more than the limit tells whether more follow.
    let wanted = request.limit.saturating_add(1);
    let mut keys = Vec::new();
    let end = end_of_prefix(request.prefix.as_bytes());
    if let Some(bounds) = bounds(request.prefix, request.after, end.as_deref()) {
        // Unlike `scan`, this reads no records.
        for entry in table.range::<&[u8]>(bounds)? {
            keys.push(key_text(entry?.0.value())?.to_owned());
            if keys.len() == wanted {
                break;
            }
        }
    }
    Ok(KeyPage::cut(keys, request.limit))
}

/// Lists components: one lookup for each, and a step for each unscoped key between
/// them.
pub(super) fn components(
    txn: &ReadTransaction,
    after: Option<&str>,
    limit: usize,
) -> Result<KeyPage, Error> {
    let table = txn.open_table(DATA)?;
    let wanted = limit.saturating_add(1);
    let mut found: Vec<String> = Vec::new();
    let mut from = Some(after.map_or_else(Vec::new, |after| after.as_bytes().to_vec()));
    while let Some(start) = from.take()
        && found.len() < wanted
    {
        for entry in table.range(start.as_slice()..)? {
            let (key, _) = entry?;
            let (component, _) = split_full_key(key_text(key.value())?);
            if !component.is_empty() {
                from = end_of_prefix(component.as_bytes());
                if after.is_none_or(|after| component > after) {
                    found.push(component.to_owned());
                }
                break;
            }
        }
    }
    Ok(KeyPage::cut(found, limit))
}

/// The usage of the keys that begin with `prefix`, from the usage counter if `prefix` is
/// a component prefix.
pub(super) fn usage(txn: &ReadTransaction, prefix: &str) -> Result<Usage, Error> {
    if split_full_key(prefix).0 == prefix && !prefix.is_empty() {
        let counters = txn.open_table(USAGE_COUNTERS)?;
        if let Some(usage) = usage_counter(&counters, prefix)? {
            let prefixes = usage.keys.saturating_mul(prefix.len() as u64);
            return Ok(usage + Usage { bytes: prefixes, keys: 0 });
        }
    }
    let mut usage = Usage::default();
    scan(&txn.open_table(DATA)?, prefix, None, |key, record| {
        usage = usage + Usage::of(key, keyless_value_len(record));
        Ok(true)
    })?;
    Ok(usage)
}

/// Counts the usage of a component; `None` if that takes more than `max_steps` steps
/// through the table.
pub(super) fn count_component(
    table: &impl ReadableTable<Bytes, Bytes>,
    component: &str,
    mut max_steps: usize,
) -> Result<Option<Usage>, Error> {
    let mut usage = Usage::default();
    let end = end_of_prefix(component.as_bytes());
    let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut from = Some(component.as_bytes().to_vec());
    while let Some(start) = from.take() {
        for entry in table.range::<&[u8]>((Bound::Included(start.as_slice()), end))? {
            if max_steps == 0 {
                return Ok(None);
            }
            max_steps -= 1;
            let (key, record) = entry?;
            let (found, user_key) = split_full_key(key_text(key.value())?);
            if found == component {
                usage = usage + Usage::of(user_key, keyless_value_len(record.value()));
            } else {
                // Skip a component between unscoped keys.
                from = end_of_prefix(found.as_bytes());
                break;
            }
        }
    }
    Ok(Some(usage))
}

/// Whether a component has any key.
pub(super) fn has_keys(
    table: &impl ReadableTable<Bytes, Bytes>,
    component: &str,
) -> Result<bool, Error> {
    let mut found = false;
    scan(table, component, None, |key, _| {
        found = split_full_key(key).0 == component;
        Ok(!found)
    })?;
    Ok(found)
}
