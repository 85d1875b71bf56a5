//! The components that hold a key, and the unreadable directories.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage_core::StorageError;

use super::component::Component;
use super::scan;
use crate::component_index::Prefixes;

/// The components of a store, by their directories.
#[derive(Debug, Default)]
pub(super) struct ComponentNames {
    /// The prefixes of the components that hold a key.
    readable: BTreeSet<Arc<str>>,
    /// The prefixes of the unreadable directories. One with fewer than three segments
    /// hides all components below it.
    unreadable: BTreeMap<Box<str>, StorageError>,
}

impl ComponentNames {
    pub(super) fn insert(&mut self, prefix: &str) {
        if !self.readable.contains(prefix) {
            self.readable.insert(prefix.into());
        }
    }

    pub(super) fn remove(&mut self, prefix: &str) {
        self.readable.remove(prefix);
    }

    /// Adds an unreadable directory.
    pub(super) fn insert_unreadable(&mut self, prefix: &str, error: StorageError) {
        let detail = match error {
            StorageError::IoError(detail) => detail,
            other => other.to_string(),
        };
        let error = StorageError::UnreadableComponent { prefix: prefix.to_owned(), detail };
        self.readable.remove(prefix);
        self.unreadable.insert(prefix.into(), error);
    }

    /// The first `limit` prefixes that begin with `prefix` and lie within `from`.
    fn find(&self, prefix: &str, from: Bound<&str>, limit: usize) -> Prefixes {
        let start = match from {
            Bound::Included(name) | Bound::Excluded(name) if name >= prefix => from,
            _ => Bound::Included(prefix),
        };
        // A hidden component may lie before or after the start.
        if let Bound::Included(text) | Bound::Excluded(text) = start
            && let Some(error) = self.hides(text)
        {
            return Prefixes { found: Vec::new(), stopped_by: Some(error.clone()) };
        }
        let range = (start, Bound::Unbounded);
        let unreadable = self.unreadable.range::<str, _>(range).next();
        let unreadable = unreadable.filter(|(name, _)| name.starts_with(prefix));
        let before = |name: &str| unreadable.is_none_or(|(end, _)| name < &**end);
        let found: Vec<_> = self
            .readable
            .range::<str, _>(range)
            .take_while(|name| name.starts_with(prefix) && before(name))
            .take(limit)
            .cloned()
            .collect();
        let reached = found.len() < limit;
        let stopped_by = unreadable.filter(|_| reached).map(|(_, error)| error.clone());
        Prefixes { found, stopped_by }
    }

    /// The unreadable directory that holds components around `text`.
    fn hides(&self, text: &str) -> Option<&StorageError> {
        let around = |prefix: &str| {
            text.len() > prefix.len() && text.starts_with(prefix) && !is_component(prefix)
        };
        self.unreadable.iter().find(|(prefix, _)| around(prefix)).map(|(_, error)| error)
    }
}

/// Whether a prefix is that of one component.
fn is_component(prefix: &str) -> bool {
    prefix.matches('/').count() >= 3
}

/// The names in memory, from the first listing of components on.
#[derive(Debug, Default)]
pub(super) struct KnownNames(Mutex<Option<ComponentNames>>);

impl KnownNames {
    fn lock(&self) -> MutexGuard<'_, Option<ComponentNames>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first `limit` prefixes that begin with `prefix` and lie within `from`. A
    /// listing that begins scans the directories again if some could not be read, or if
    /// `rescan`.
    pub(super) fn find(
        &self,
        rescan: bool,
        scan: impl FnOnce() -> Result<ComponentNames, StorageError>,
        (prefix, from, limit): (&str, Bound<&str>, usize),
    ) -> Result<Prefixes, StorageError> {
        let mut names = self.lock();
        let begins = from == Bound::Unbounded;
        let is_outdated =
            |names: &ComponentNames| begins && (rescan || !names.unreadable.is_empty());
        let names = match names.as_mut() {
            Some(names) if !is_outdated(names) => names,
            _ => names.insert(scan()?),
        };
        Ok(names.find(prefix, from, limit))
    }

    /// Updates the names after a write. `holds_a_key` is known if the component has an
    /// index.
    pub(super) fn update(&self, component: &Component, is_set: bool, holds_a_key: Option<bool>) {
        let mut names = self.lock();
        let Some(list) = names.as_mut().filter(|_| !component.prefix.is_empty()) else { return };
        if is_set {
            list.insert(&component.prefix);
            return;
        }
        match holds_a_key.map_or_else(|| scan::holds_a_key(&component.directory), Ok) {
            Ok(true) => {}
            Ok(false) => list.remove(&component.prefix),
            // The next listing scans the directories.
            Err(_) => *names = None,
        }
    }

    pub(super) fn forget(&self) {
        *self.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> ComponentNames {
        let mut names = ComponentNames::default();
        for name in ["a/a/a/", "a/b/b/", "a/b/d/", "c/c/c/"] {
            names.insert(name);
        }
        for prefix in ["a/b/c/", "b/", "c/d/"] {
            names.insert_unreadable(prefix, StorageError::IoError("no".into()));
        }
        names
    }

    fn found(prefix: &str, from: Bound<&str>, limit: usize) -> (Vec<String>, Option<String>) {
        let Prefixes { found, stopped_by } = names().find(prefix, from, limit);
        let stopped_by = stopped_by.map(|error| match error {
            StorageError::UnreadableComponent { prefix, .. } => prefix,
            other => panic!("{other}"),
        });
        (found.iter().map(ToString::to_string).collect(), stopped_by)
    }

    #[test]
    fn a_page_ends_before_an_unreadable_component() {
        for (prefix, from, limit, expected, stopped_by) in [
            ("", Bound::Unbounded, 9, &["a/a/a/", "a/b/b/"][..], Some("a/b/c/")),
            ("", Bound::Unbounded, 2, &["a/a/a/", "a/b/b/"], None),
            ("", Bound::Excluded("a/b/b/"), 9, &[], Some("a/b/c/")),
            ("", Bound::Excluded("a/b/c/"), 9, &["a/b/d/"], Some("b/")),
            ("", Bound::Included("a/b/c/"), 9, &[], Some("a/b/c/")),
            ("", Bound::Excluded("b/"), 9, &["c/c/c/"], Some("c/d/")),
            ("", Bound::Excluded("c/d/"), 9, &[], None),
            ("a/a/", Bound::Unbounded, 9, &["a/a/a/"], None),
            ("a/b/d", Bound::Unbounded, 9, &["a/b/d/"], None),
        ] {
            let expected = expected.iter().map(ToString::to_string).collect();
            let expected = (expected, stopped_by.map(str::to_owned));
            assert_eq!(found(prefix, from, limit), expected, "{prefix:?} {from:?} {limit}");
        }
    }

    #[test]
    fn hidden_components_are_never_skipped() {
        for (prefix, from) in [
            ("b/x/", Bound::Unbounded),
            ("b/x/y/", Bound::Unbounded),
            ("", Bound::Excluded("b/x/y/")),
            ("c/", Bound::Excluded("c/d/e/")),
        ] {
            let (names, stopped_by) = found(prefix, from, 9);
            assert!(names.is_empty() && stopped_by.is_some(), "{prefix:?} {from:?}");
        }
    }
}
