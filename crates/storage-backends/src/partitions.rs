//! Listings and usage over many partitions, for backends that keep each
//! partition apart.
//!
//! A partition's keys all begin with its name, which ends at the key's third
//! slash, and no name is the beginning of another. So partitions are disjoint,
//! contiguous ranges of the byte order, in the order of their names. Only the
//! loose keys of partition `""`, which have fewer slashes, lie between them.
//!
//! A backend implements [`Partitions`]: the names in order, and a listing
//! within one partition. [`list_page`], [`list_components`] and [`usage`] are
//! then the methods of
//! [`ComponentStorage`](storage_core::ComponentStorage) and
//! [`Store`](storage_core::Store).

use std::ops::Bound;
use std::sync::Arc;

use storage_core::{KeyPage, PageRequest, StorageError, Usage, split_full_key};

/// How many names are asked for at a time: a page that spans many partitions
/// asks seldom, and one that ends in the first has not asked for much.
const NAMES_AT_A_TIME: usize = 64;

/// Names of partitions, in ascending byte order.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The names, up to what cannot be read.
    pub(crate) found: Vec<Arc<str>>,
    /// What cannot be read and lies behind all that was found, if the limit did
    /// not end the names before it.
    pub(crate) stopped_by: Option<StorageError>,
}

/// Keys that a backend keeps partition by partition.
pub(crate) trait Partitions {
    /// The first `limit` names, in ascending byte order, of the partitions that
    /// begin with `prefix`, lie within `from` and hold a key; never `""`.
    ///
    /// The cost grows with the names that are returned.
    fn names(&self, prefix: &str, from: Bound<&str>, limit: usize) -> Result<Names, StorageError>;

    /// Appends to `found`, as full keys and in ascending byte order, the keys of
    /// `partition` that `own` asks for: all of them up to its limit.
    ///
    /// `own` names keys without the partition's name; in partition `""` that is
    /// the whole key. A partition that does not exist has no keys. The cost
    /// grows with the keys that are appended.
    fn keys_in(
        &self,
        partition: &str,
        own: PageRequest<'_>,
        found: &mut Vec<String>,
    ) -> Result<(), StorageError>;

    /// What the keys of `partition` take up whose own key begins with
    /// `own_prefix`, without the partition's name.
    fn usage_in(&self, partition: &str, own_prefix: &str) -> Result<Usage, StorageError>;
}

/// A page over all partitions, as
/// [`list_page`](storage_core::ComponentStorage::list_page).
///
/// It reads at most `limit` + 1 keys of partition `""`, as many of the others,
/// and a look into each partition on the way: the cost grows with the page.
pub(crate) fn list_page<P: Partitions>(
    source: &P,
    request: PageRequest<'_>,
) -> Result<KeyPage, StorageError> {
    // One key more than the limit tells whether more follow.
    let wanted = request.limit.saturating_add(1);
    let mut found = Vec::new();
    let (partition, own_prefix) = split_full_key(request.prefix);
    if partition.is_empty() {
        merge(source, request, wanted, &mut found)?;
    } else {
        let own = PageRequest::new(wanted).with_prefix(own_prefix);
        match request.after {
            Some(after) if after >= partition => {
                // Otherwise it lies behind the whole partition.
                if let Some(own_after) = after.strip_prefix(partition) {
                    source.keys_in(partition, own.after(own_after), &mut found)?;
                }
            }
            _ => source.keys_in(partition, own, &mut found)?,
        }
    }
    Ok(KeyPage::cut(found, request.limit))
}

/// The partitions after `after`, as
/// [`list_components`](storage_core::Store::list_components).
pub(crate) fn list_components<P: Partitions>(
    source: &P,
    after: Option<&str>,
    limit: usize,
) -> Result<KeyPage, StorageError> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let names = source.names("", from, limit.saturating_add(1))?;
    let mut page = KeyPage::cut(names.found.iter().map(ToString::to_string).collect(), limit);
    match names.stopped_by {
        Some(error) if page.keys.is_empty() && !page.more => return Err(error),
        Some(_) => page.more = true,
        None => {}
    }
    Ok(page)
}

/// What the keys that begin with `prefix` take up, as
/// [`usage`](storage_core::ComponentStorage::usage): full keys, so each counts
/// its partition's name too.
pub(crate) fn usage<P: Partitions>(
    source: &P,
    prefix: Option<&str>,
) -> Result<Usage, StorageError> {
    let prefix = prefix.unwrap_or_default();
    let full = |partition: &str, own: Usage| {
        let names = own.keys.saturating_mul(partition.len() as u64);
        own + Usage { bytes: names, keys: 0 }
    };
    let (partition, own_prefix) = split_full_key(prefix);
    let mut total = full(partition, source.usage_in(partition, own_prefix)?);
    if partition.is_empty() {
        for_each_name(source, prefix, Bound::Unbounded, |name| {
            total = total + full(name, source.usage_in(name, "")?);
            Ok(true)
        })?;
    }
    Ok(total)
}

/// Appends the first `wanted` keys of a request whose prefix does not reach
/// into a partition, so that it asks for partitions as a whole and for loose
/// keys between them.
fn merge<P: Partitions>(
    source: &P,
    request: PageRequest<'_>,
    wanted: usize,
    found: &mut Vec<String>,
) -> Result<(), StorageError> {
    let mut loose = Vec::new();
    source.keys_in("", PageRequest { limit: wanted, ..request }, &mut loose)?;
    let mut loose = loose.into_iter().peekable();

    // The partition that `after` lies in is the first to look at. An `after`
    // outside of all lies before or behind a whole partition.
    let (after_in, after_own) = split_full_key(request.after.unwrap_or_default());
    let from = match request.after {
        Some(after) if after < request.prefix => Bound::Unbounded,
        Some(after) if after_in.is_empty() => Bound::Excluded(after),
        Some(_) => Bound::Included(after_in),
        None => Bound::Unbounded,
    };
    for_each_name(source, request.prefix, from, |name| {
        while found.len() < wanted {
            match loose.next_if(|key| key.as_str() < name) {
                Some(key) => found.push(key),
                None => break,
            }
        }
        if found.len() < wanted {
            let own = PageRequest::new(wanted - found.len());
            let own = if name == after_in { own.after(after_own) } else { own };
            source.keys_in(name, own, found)?;
        }
        Ok(found.len() < wanted)
    })?;
    found.extend(loose.take(wanted.saturating_sub(found.len())));
    Ok(())
}

/// Calls `visit` with each name in order until it answers `false`. Fails at the
/// first that cannot be read.
fn for_each_name<P: Partitions>(
    source: &P,
    prefix: &str,
    from: Bound<&str>,
    mut visit: impl FnMut(&str) -> Result<bool, StorageError>,
) -> Result<(), StorageError> {
    let mut names = source.names(prefix, from, NAMES_AT_A_TIME)?;
    loop {
        for name in &names.found {
            if !visit(name)? {
                return Ok(());
            }
        }
        if let Some(error) = names.stopped_by {
            return Err(error);
        }
        match names.found.last() {
            Some(last) if names.found.len() == NAMES_AT_A_TIME => {
                let last = Arc::clone(last);
                names = source.names(prefix, Bound::Excluded(&*last), NAMES_AT_A_TIME)?;
            }
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// Own keys by partition.
    #[derive(Debug, Default)]
    struct Shelves(BTreeMap<String, BTreeSet<String>>);

    impl Shelves {
        fn of<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
            let mut shelves = Self::default();
            for key in keys {
                let (partition, own) = split_full_key(key);
                shelves.0.entry(partition.to_owned()).or_default().insert(own.to_owned());
            }
            shelves
        }
    }

    impl Partitions for Shelves {
        fn names(
            &self,
            prefix: &str,
            from: Bound<&str>,
            limit: usize,
        ) -> Result<Names, StorageError> {
            let names = self.0.range::<str, _>((from, Bound::Unbounded)).map(|(name, _)| name);
            let names = names.filter(|name| !name.is_empty() && name.starts_with(prefix));
            let found = names.take(limit).map(|name| name.as_str().into()).collect();
            Ok(Names { found, stopped_by: None })
        }

        fn keys_in(
            &self,
            partition: &str,
            own: PageRequest<'_>,
            found: &mut Vec<String>,
        ) -> Result<(), StorageError> {
            let keys = self.0.get(partition).into_iter().flatten().filter(|key| own.wants(key));
            found.extend(keys.take(own.limit).map(|key| format!("{partition}{key}")));
            Ok(())
        }

        fn usage_in(&self, partition: &str, own_prefix: &str) -> Result<Usage, StorageError> {
            let keys = self.0.get(partition).into_iter().flatten();
            let keys = keys.filter(|key| key.starts_with(own_prefix));
            Ok(keys.map(|key| Usage::of(key, 0)).sum())
        }
    }

    /// Texts with few characters meet each other's prefixes and partitions, with
    /// `-` before and `0` behind the slash in byte order.
    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop::sample::select(vec!["/", "a", "-", "0", "\u{e9}"]), 0..7)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_page_is_what_a_sorted_list_of_all_keys_shows(
            keys in proptest::collection::btree_set(text(), 0..40),
            prefix in text(),
            after in proptest::option::of(text()),
            limit in 0_usize..10,
        ) {
            let shelves = Shelves::of(keys.iter().map(String::as_str));
            let request = PageRequest { prefix: &prefix, after: after.as_deref(), limit };
            let wanted = keys.iter().filter(|key| request.wants(key)).cloned().collect();
            prop_assert_eq!(list_page(&shelves, request)?, KeyPage::cut(wanted, limit));

            let found = keys.iter().filter(|key| key.starts_with(&prefix));
            let total: Usage = found.map(|key| Usage::of(key, 0)).sum();
            prop_assert_eq!(usage(&shelves, Some(&prefix))?, total);
        }

        #[test]
        fn partitions_are_those_of_the_keys(
            keys in proptest::collection::btree_set(text(), 0..40),
            after in proptest::option::of(text()),
            limit in 0_usize..10,
        ) {
            let shelves = Shelves::of(keys.iter().map(String::as_str));
            let of_keys: BTreeSet<&str> = keys.iter().map(|key| split_full_key(key).0).collect();
            let behind = |name: &&str| after.as_deref().is_none_or(|after| *name > after);
            let wanted = of_keys.into_iter().filter(|name| !name.is_empty()).filter(behind);
            let wanted = wanted.map(str::to_owned).collect();
            let found = list_components(&shelves, after.as_deref(), limit)?;
            prop_assert_eq!(found, KeyPage::cut(wanted, limit));
        }
    }

    #[test]
    fn names_are_fetched_until_the_page_is_full() {
        let keys: Vec<String> =
            (0..3 * NAMES_AT_A_TIME).map(|n| format!("app/notes/{n:04}/key")).collect();
        let shelves = Shelves::of(keys.iter().map(String::as_str));
        let all = PageRequest::new(usize::MAX).with_prefix("app/");
        assert_eq!(list_page(&shelves, all).unwrap(), KeyPage { keys: keys.clone(), more: false });
        let page = list_page(&shelves, PageRequest::new(150).after(&keys[9])).unwrap();
        assert_eq!(page, KeyPage { keys: keys[10..160].to_vec(), more: true });
        assert_eq!(usage(&shelves, None).unwrap().keys, keys.len() as u64);
    }
}
