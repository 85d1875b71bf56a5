//! How much a transfer has to do, for the share and the remaining time of its progress.

use std::time::{Duration, Instant};

use storage_host::{ComponentId, KeyPage, PageRequest, StorageError, Store};

use super::listing::PAGE;
use super::stderr;

/// How long keys are counted before the transfer begins.
const COUNTING: Duration = Duration::from_secs(1);

/// The keys of a transfer, or its components if there are too many keys to count.
pub(super) struct Extent {
    unit: Unit,
    total: Option<u64>,
    /// The keys and the components that were begun so far.
    keys: u64,
    components: u64,
    component: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Key,
    Component,
}

impl Extent {
    /// The extent of a store or of some of its components. Counts only if progress is shown.
    pub(super) fn of(store: &dyn Store, ids: Option<&[ComponentId]>) -> Self {
        let deadline = Instant::now() + COUNTING;
        let counted = match stderr::is_watched() {
            true => Self::count(store, ids, &|| Instant::now() > deadline),
            false => Ok((Unit::Key, None)),
        };
        // The transfer reports an unreadable store.
        let (unit, total) = counted.unwrap_or((Unit::Key, None));
        Self { unit, total, keys: 0, components: 0, component: String::new() }
    }

    /// Counts keys until `is_late`, else components.
    fn count(
        store: &dyn Store,
        ids: Option<&[ComponentId]>,
        is_late: &dyn Fn() -> bool,
    ) -> Result<(Unit, Option<u64>), StorageError> {
        let prefixes: Vec<&str> = match ids {
            Some(ids) => ids.iter().map(ComponentId::key_prefix).collect(),
            None => vec![""],
        };
        let mut keys = Some(0);
        for prefix in prefixes {
            let list =
                |after: Option<&str>| store.list_page(PageRequest { prefix, after, limit: PAGE });
            keys = keys.zip(count_pages(list, is_late)?).map(|(all, more)| all + more);
        }
        if keys.is_some() {
            return Ok((Unit::Key, keys));
        }
        let components = match ids {
            Some(ids) => Some(ids.len() as u64),
            None => count_pages(|after| store.list_components(after, PAGE), &|| false)?,
        };
        // The share of one component is unknown until its end.
        Ok((Unit::Component, components.filter(|components| *components > 1)))
    }

    /// How much there is; `None` if that is unknown.
    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    /// How much is done, of the unit of the total, with the next full key. `keys` were
    /// transferred so far; if they are fewer than before, the transfer begins again.
    pub(super) fn position(&mut self, keys: u64, key: &str) -> u64 {
        if self.unit == Unit::Key {
            return keys;
        }
        if keys < self.keys {
            self.components = 0;
            self.component.clear();
        }
        self.keys = keys;
        let end = key.match_indices('/').nth(2).map_or(0, |(at, _)| at + 1);
        let component = key.get(..end).unwrap_or_default();
        if !component.is_empty() && component != self.component {
            component.clone_into(&mut self.component);
            self.components += 1;
        }
        // Those before it are done.
        self.components.saturating_sub(1)
    }
}

/// Counts the entries of all pages; `None` once it is late.
pub(super) fn count_pages(
    mut page_after: impl FnMut(Option<&str>) -> Result<KeyPage, StorageError>,
    is_late: &dyn Fn() -> bool,
) -> Result<Option<u64>, StorageError> {
    let (mut counted, mut after) = (0, None::<String>);
    loop {
        if is_late() {
            return Ok(None);
        }
        let mut page = page_after(after.as_deref())?;
        counted += page.keys.len() as u64;
        after = page.keys.pop();
        if !page.more || after.is_none() {
            return Ok(Some(counted));
        }
    }
}

#[cfg(test)]
mod tests {
    use storage_core::conformance::ReferenceStorage;
    use storage_host::ComponentStorage;

    use super::*;

    fn positions(unit: Unit) -> Vec<u64> {
        let mut extent =
            Extent { unit, total: None, keys: 0, components: 0, component: String::new() };
        let keys =
            [(1, "a/b"), (2, "a/b/c/1"), (3, "a/b/c/2"), (4, "a/b/d/1"), (5, "b"), (1, "a/b/c/1")];
        keys.map(|(keys, key)| extent.position(keys, key)).to_vec()
    }

    #[test]
    fn keys_are_counted_or_else_components() {
        let store = ReferenceStorage::new();
        for number in 0..2_500 {
            store.set(&format!("a/b/{}/{number}", number % 3), "".into()).unwrap();
        }
        let ids = ["a/b/0".parse().unwrap(), "a/b/x".parse().unwrap()];
        let count = |ids, late: bool| Extent::count(&store, ids, &|| late).unwrap();
        assert_eq!(count(None, false), (Unit::Key, Some(2_500)));
        assert_eq!(count(Some(&ids), false), (Unit::Key, Some(834)));
        assert_eq!(count(None, true), (Unit::Component, Some(3)));
        assert_eq!(count(Some(&ids), true), (Unit::Component, Some(2)));
        assert_eq!(count(Some(&ids[..1]), true), (Unit::Component, None));
        assert_eq!(positions(Unit::Key), [1, 2, 3, 4, 5, 1]);
        assert_eq!(positions(Unit::Component), [0, 0, 0, 1, 1, 0]);
    }
}
