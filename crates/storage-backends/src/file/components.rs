//! Which components a store holds, and which of them cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use storage_core::StorageError;

use crate::partitions::Names;

/// The components of a store, as far as its directories tell.
#[derive(Debug, Default)]
pub(super) struct ComponentNames {
    /// The prefixes of the components that hold a key.
    readable: BTreeSet<Arc<str>>,
    /// The prefixes of the directories that cannot be read. One with fewer than
    /// three segments hides all components below it.
    unreadable: BTreeMap<Box<str>, StorageError>,
}

impl ComponentNames {
    pub(super) fn insert(&mut self, name: &str) {
        if !self.readable.contains(name) {
            self.readable.insert(name.into());
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.readable.remove(name);
    }

    /// Remembers that the directory of a prefix cannot be read.
    pub(super) fn insert_unreadable(&mut self, prefix: &str, error: StorageError) {
        let detail = match error {
            StorageError::IoError(detail) => detail,
            other => other.to_string(),
        };
        let error = StorageError::UnreadableComponent { prefix: prefix.to_owned(), detail };
        self.readable.remove(prefix);
        self.unreadable.insert(prefix.into(), error);
    }

    /// Whether a later look may show more.
    pub(super) fn is_incomplete(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// The first `limit` names that begin with `prefix` and lie within `from`.
    pub(super) fn find(&self, prefix: &str, from: Bound<&str>, limit: usize) -> Names {
        let start = match from {
            Bound::Included(name) | Bound::Excluded(name) if name >= prefix => from,
            _ => Bound::Included(prefix),
        };
        // A component that is hidden may lie on either side of the start.
        if let Bound::Included(text) | Bound::Excluded(text) = start
            && let Some(error) = self.hides(text)
        {
            return Names { found: Vec::new(), stopped_by: Some(error.clone()) };
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
        Names { found, stopped_by }
    }

    /// The directory that cannot be read and holds components around `text`.
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
        let Names { found, stopped_by } = names().find(prefix, from, limit);
        let stopped_by = stopped_by.map(|error| match error {
            StorageError::UnreadableComponent { prefix, .. } => prefix,
            other => panic!("{other}"),
        });
        (found.iter().map(ToString::to_string).collect(), stopped_by)
    }

    #[test]
    fn names_end_before_what_cannot_be_read() {
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
    fn components_that_are_hidden_are_never_skipped() {
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
