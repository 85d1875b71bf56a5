//! Listings and usage over many components, for backends that keep the keys of each
//! component apart.
//!
//! A component prefix ends at the third slash of a key, so no prefix is the beginning of
//! another. The keys of a component are a contiguous range of all keys in byte order, in
//! the order of the prefixes. Only unscoped keys, which have fewer slashes, lie between
//! them.
//!
//! A backend implements [`ComponentIndex`]; the functions of this module implement the
//! listing methods of the traits with it.

use std::ops::Bound;
use std::sync::Arc;

use storage_core::{KeyPage, PageRequest, StorageError, Usage, split_full_key};

/// How many prefixes to request at once: enough that a page over many components makes
/// few calls, and few enough that a page within one component stays cheap.
const PREFIXES_PER_CALL: usize = 64;

/// Component prefixes in ascending byte order.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    /// The prefixes before the first unreadable component.
    pub(crate) found: Vec<Arc<str>>,
    /// The error of the unreadable component that follows those found, unless the limit was
    /// reached before it.
    pub(crate) stopped_by: Option<StorageError>,
}

/// Keys by component. The unscoped keys are a component with an empty prefix.
pub(crate) trait ComponentIndex {
    /// The first `limit` component prefixes in byte order that begin with `prefix`, lie
    /// within `from` and hold a key; never the empty one.
    ///
    /// The cost grows with the number of prefixes returned.
    fn prefixes(
        &self,
        prefix: &str,
        from: Bound<&str>,
        limit: usize,
    ) -> Result<Prefixes, StorageError>;

    /// Appends to `found`, as full keys and in byte order, the keys of a component that
    /// match `request`, up to its limit. The request has user keys.
    ///
    /// An unknown component has no keys. The cost grows with the keys appended.
    fn keys_in(
        &self,
        component: &str,
        request: PageRequest<'_>,
        found: &mut Vec<String>,
    ) -> Result<(), StorageError>;

    /// The usage of the user keys of a component that begin with `prefix`.
    fn usage_in(&self, component: &str, prefix: &str) -> Result<Usage, StorageError>;
}

/// Implements [`list_page`](storage_core::ComponentStorage::list_page).
///
/// Reads at most `limit` + 1 unscoped keys and as many others, and makes one call for each
/// component between them: the cost grows with the page.
pub(crate) fn list_page<I: ComponentIndex>(
    index: &I,
    request: PageRequest<'_>,
) -> Result<KeyPage, StorageError> {
    // One key more than the limit shows whether more follow.
    let wanted = request.limit.saturating_add(1);
    let mut found = Vec::new();
    let (component, user_prefix) = split_full_key(request.prefix);
    if component.is_empty() {
        merge(index, request, wanted, &mut found)?;
    } else {
        let in_component = PageRequest::new(wanted).with_prefix(user_prefix);
        match request.after {
            Some(after) if after >= component => {
                // Otherwise `after` follows the whole component.
                if let Some(after) = after.strip_prefix(component) {
                    index.keys_in(component, in_component.after(after), &mut found)?;
                }
            }
            _ => index.keys_in(component, in_component, &mut found)?,
        }
    }
    Ok(KeyPage::cut(found, request.limit))
}

/// Lists the prefixes of the components after `after`.
pub(crate) fn list_components<I: ComponentIndex>(
    index: &I,
    after: Option<&str>,
    limit: usize,
) -> Result<KeyPage, StorageError> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let prefixes = index.prefixes("", from, limit.saturating_add(1))?;
    let mut page = KeyPage::cut(prefixes.found.iter().map(ToString::to_string), limit);
    match prefixes.stopped_by {
        Some(error) if page.keys.is_empty() && !page.more => return Err(error),
        Some(_) => page.more = true,
        None => {}
    }
    Ok(page)
}

/// Implements [`usage`](storage_core::ComponentStorage::usage): counts full keys, so the
/// component prefix counts for each key.
pub(crate) fn usage<I: ComponentIndex>(
    index: &I,
    prefix: Option<&str>,
) -> Result<Usage, StorageError> {
    let prefix = prefix.unwrap_or_default();
    let with_prefixes = |component: &str, usage: Usage| {
        let bytes = usage.keys.saturating_mul(component.len() as u64);
        usage + Usage { bytes, keys: 0 }
    };
    let (component, user_prefix) = split_full_key(prefix);
    let mut total = with_prefixes(component, index.usage_in(component, user_prefix)?);
    if component.is_empty() {
        for_each_component(index, prefix, Bound::Unbounded, |component| {
            total = total + with_prefixes(component, index.usage_in(component, "")?);
            Ok(true)
        })?;
    }
    Ok(total)
}

/// Appends the first `wanted` keys of a request whose prefix ends before a component
/// prefix does: it matches whole components and the unscoped keys between them.
fn merge<I: ComponentIndex>(
    index: &I,
    request: PageRequest<'_>,
    wanted: usize,
    found: &mut Vec<String>,
) -> Result<(), StorageError> {
    let mut unscoped = Vec::new();
    index.keys_in("", PageRequest { limit: wanted, ..request }, &mut unscoped)?;
    let mut unscoped = unscoped.into_iter().peekable();

    // Start with the component of `after`. An unscoped `after` lies between components.
    let (first, first_after) = split_full_key(request.after.unwrap_or_default());
    let from = match request.after {
        Some(after) if after < request.prefix => Bound::Unbounded,
        Some(after) if first.is_empty() => Bound::Excluded(after),
        Some(_) => Bound::Included(first),
        None => Bound::Unbounded,
    };
    for_each_component(index, request.prefix, from, |component| {
        while found.len() < wanted {
            match unscoped.next_if(|key| key.as_str() < component) {
                Some(key) => found.push(key),
                None => break,
            }
        }
        if found.len() < wanted {
            let keys = PageRequest::new(wanted - found.len());
            let keys = if component == first { keys.after(first_after) } else { keys };
            index.keys_in(component, keys, found)?;
        }
        Ok(found.len() < wanted)
    })?;
    found.extend(unscoped.take(wanted.saturating_sub(found.len())));
    Ok(())
}

/// Calls `visit` with each component prefix in order until it returns `false`. Fails at
/// the first unreadable component.
fn for_each_component<I: ComponentIndex>(
    index: &I,
    prefix: &str,
    from: Bound<&str>,
    mut visit: impl FnMut(&str) -> Result<bool, StorageError>,
) -> Result<(), StorageError> {
    let mut prefixes = index.prefixes(prefix, from, PREFIXES_PER_CALL)?;
    loop {
        for component in &prefixes.found {
            if !visit(component)? {
                return Ok(());
            }
        }
        if let Some(error) = prefixes.stopped_by {
            return Err(error);
        }
        match prefixes.found.last() {
            Some(last) if prefixes.found.len() == PREFIXES_PER_CALL => {
                let last = Arc::clone(last);
                prefixes = index.prefixes(prefix, Bound::Excluded(&*last), PREFIXES_PER_CALL)?;
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

    /// User keys by component prefix.
    #[derive(Debug, Default)]
    struct Sets(BTreeMap<String, BTreeSet<String>>);

    impl Sets {
        fn of<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
            let mut sets = Self::default();
            for key in keys {
                let (prefix, user_key) = split_full_key(key);
                sets.0.entry(prefix.to_owned()).or_default().insert(user_key.to_owned());
            }
            sets
        }
    }

    impl ComponentIndex for Sets {
        fn prefixes(
            &self,
            prefix: &str,
            from: Bound<&str>,
            limit: usize,
        ) -> Result<Prefixes, StorageError> {
            let names = self.0.range::<str, _>((from, Bound::Unbounded)).map(|(name, _)| name);
            let names = names.filter(|name| !name.is_empty() && name.starts_with(prefix));
            let found = names.take(limit).map(|name| name.as_str().into()).collect();
            Ok(Prefixes { found, stopped_by: None })
        }

        fn keys_in(
            &self,
            component: &str,
            request: PageRequest<'_>,
            found: &mut Vec<String>,
        ) -> Result<(), StorageError> {
            let keys = self.0.get(component).into_iter().flatten();
            let keys = keys.filter(|key| request.wants(key));
            found.extend(keys.take(request.limit).map(|key| format!("{component}{key}")));
            Ok(())
        }

        fn usage_in(&self, component: &str, prefix: &str) -> Result<Usage, StorageError> {
            let keys = self.0.get(component).into_iter().flatten();
            let keys = keys.filter(|key| key.starts_with(prefix));
            Ok(keys.map(|key| Usage::of(key, 0)).sum())
        }
    }

    /// Texts of few characters, so that prefixes and components collide. In byte order
    /// `-` comes before the slash and `0` after it.
    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop::sample::select(vec!["/", "a", "-", "0", "\u{e9}"]), 0..7)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_page_is_a_part_of_the_sorted_keys(
            keys in proptest::collection::btree_set(text(), 0..40),
            prefix in text(),
            after in proptest::option::of(text()),
            limit in 0_usize..10,
        ) {
            let sets = Sets::of(keys.iter().map(String::as_str));
            let request = PageRequest { prefix: &prefix, after: after.as_deref(), limit };
            let wanted = keys.iter().filter(|key| request.wants(key)).cloned();
            prop_assert_eq!(list_page(&sets, request)?, KeyPage::cut(wanted, limit));

            let found = keys.iter().filter(|key| key.starts_with(&prefix));
            let total: Usage = found.map(|key| Usage::of(key, 0)).sum();
            prop_assert_eq!(usage(&sets, Some(&prefix))?, total);
        }

        #[test]
        fn components_are_the_prefixes_of_the_keys(
            keys in proptest::collection::btree_set(text(), 0..40),
            after in proptest::option::of(text()),
            limit in 0_usize..10,
        ) {
            let sets = Sets::of(keys.iter().map(String::as_str));
            let of_keys: BTreeSet<&str> = keys.iter().map(|key| split_full_key(key).0).collect();
            let later = |name: &&str| after.as_deref().is_none_or(|after| *name > after);
            let wanted = of_keys.into_iter().filter(|name| !name.is_empty()).filter(later);
            let wanted = wanted.map(str::to_owned);
            let found = list_components(&sets, after.as_deref(), limit)?;
            prop_assert_eq!(found, KeyPage::cut(wanted, limit));
        }
    }

    #[test]
    fn prefixes_are_fetched_until_the_page_is_full() {
        let keys: Vec<String> =
            (0..3 * PREFIXES_PER_CALL).map(|n| format!("app/notes/{n:04}/key")).collect();
        let sets = Sets::of(keys.iter().map(String::as_str));
        let all = PageRequest::new(usize::MAX).with_prefix("app/");
        assert_eq!(list_page(&sets, all).unwrap(), KeyPage { keys: keys.clone(), more: false });
        let page = list_page(&sets, PageRequest::new(150).after(&keys[9])).unwrap();
        assert_eq!(page, KeyPage { keys: keys[10..160].to_vec(), more: true });
        assert_eq!(usage(&sets, None).unwrap().keys, keys.len() as u64);
    }
}
