//! What is tested: how to make one, where it lives, and what it lacks.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use super::FiveMethods;
use crate::{ComponentId, ComponentStorage, MAX_FULL_KEY_BYTES, MAX_KEY_BYTES, NamespacedStorage};

/// A part of the contract that an implementation may lack.
///
/// Listings, pages, partitions and usage cannot be lacking: they follow from the
/// five required methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// It refuses keys that break the rules of
    /// [`validate_full_key`](crate::validate_full_key).
    KeyRules,
    /// It holds the keys of many components, each with a partition and a budget
    /// of its own. A backend does; under a [`NamespacedStorage`] all keys are
    /// one component's.
    Components,
    /// `put` and `get_versioned`, and the checks of a commit that ask for a
    /// revision.
    Revisions,
    /// `commit`.
    Commits,
    /// The budget of a commit.
    Budgets,
    /// `read_snapshot`.
    Snapshots,
    /// What is written is there when the storage is opened again.
    Lasting,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyRules => "has no rules for keys",
            Self::Components => "holds one component alone",
            Self::Revisions => "has no revisions",
            Self::Commits => "has no commits",
            Self::Budgets => "has no budgets",
            Self::Snapshots => "has no snapshots",
            Self::Lasting => "does not last",
        })
    }
}

/// Where a storage lives: opened again after it was dropped, it finds what was
/// written. It is empty when it is made, and gone when it is dropped.
///
/// A closure that opens the storage is one; what it owns, such as a temporary
/// folder, lives as long as the place.
pub trait Place {
    /// Opens the storage. It is never opened twice at the same time.
    fn open(&self) -> Box<dyn ComponentStorage>;
}

impl<F, S> Place for F
where
    F: Fn() -> S,
    S: ComponentStorage + 'static,
{
    fn open(&self) -> Box<dyn ComponentStorage> {
        Box::new(self())
    }
}

/// An implementation of [`ComponentStorage`], as the suite needs to know it.
///
/// ```
/// use storage_core::conformance::{Feature, Implementation, ReferenceStorage};
///
/// let reference = Implementation::new("reference", ReferenceStorage::new);
/// assert!(reference.has(Feature::Commits));
/// assert!(!reference.has(Feature::Lasting));
/// ```
pub struct Implementation {
    name: String,
    new_place: Box<dyn Fn() -> Box<dyn Place>>,
    lacks: BTreeSet<Feature>,
    longest_key: usize,
}

impl Implementation {
    /// One that does not last: `new_storage` makes an empty storage each time.
    pub fn new<S: ComponentStorage + 'static>(
        name: impl Into<String>,
        new_storage: impl Fn() -> S + 'static,
    ) -> Self {
        let new_storage = Rc::new(new_storage);
        let place = move || {
            let new_storage = Rc::clone(&new_storage);
            move || new_storage()
        };
        Self::lasting(name, place).without(Feature::Lasting)
    }

    /// One that lasts: `new_place` makes an empty [`Place`] each time, which can
    /// be opened again and again.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use storage_core::conformance::{Implementation, ReferenceStorage};
    ///
    /// // As if it lasted: each place keeps one storage and hands it out again.
    /// let kept = Implementation::lasting("kept", || {
    ///     let storage = Arc::new(ReferenceStorage::new());
    ///     move || Arc::clone(&storage)
    /// });
    /// assert_eq!(kept.name(), "kept");
    /// ```
    pub fn lasting<P: Place + 'static>(
        name: impl Into<String>,
        new_place: impl Fn() -> P + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            new_place: Box::new(move || Box::new(new_place())),
            lacks: BTreeSet::new(),
            longest_key: MAX_FULL_KEY_BYTES,
        }
    }

    /// Says that it lacks a feature. Cases that need it are skipped by name; what
    /// is lacking must answer [`Unsupported`](crate::StorageError::Unsupported).
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Self {
        self.lacks.insert(feature);
        self
    }

    /// Sets the most bytes that a key may have; [`MAX_FULL_KEY_BYTES`] if this is
    /// not called.
    #[must_use]
    pub fn with_longest_key(mut self, bytes: usize) -> Self {
        self.longest_key = bytes;
        self
    }

    /// The same with a layer around it: `wrap` gets the storage each time that
    /// it is opened.
    ///
    /// ```
    /// use storage_core::conformance::{CountingStorage, Implementation, ReferenceStorage, run};
    ///
    /// let reference = Implementation::new("reference", ReferenceStorage::new);
    /// run(&reference.wrapped("counted reference", CountingStorage::new));
    /// ```
    #[must_use]
    pub fn wrapped<W: ComponentStorage + 'static>(
        self,
        name: impl Into<String>,
        wrap: impl Fn(Box<dyn ComponentStorage>) -> W + 'static,
    ) -> Self {
        let new_inner = self.new_place;
        let wrap = Rc::new(wrap);
        let new_place = move || -> Box<dyn Place> {
            let (inner, wrap) = (new_inner(), Rc::clone(&wrap));
            Box::new(move || wrap(inner.open()))
        };
        Self { name: name.into(), new_place: Box::new(new_place), ..self }
    }

    /// The same as a component sees it: under a [`NamespacedStorage`], beside
    /// neighbours that use the same keys.
    ///
    /// # Panics
    /// When it is opened, if a neighbour's key cannot be written.
    #[must_use]
    pub fn namespaced(self) -> Self {
        let name = format!("namespaced {}", self.name);
        let mut namespaced = self.wrapped(name, under_a_namespace);
        namespaced.lacks.insert(Feature::Components);
        // The layer has them whatever is below.
        namespaced.lacks.remove(&Feature::KeyRules);
        namespaced.with_longest_key(MAX_KEY_BYTES)
    }

    /// The same as its author begins: with [`FiveMethods`] of it, and so without
    /// revisions, commits, budgets and snapshots.
    #[must_use]
    pub fn of_five_methods(self) -> Self {
        let name = format!("{} of five methods", self.name);
        [Feature::Revisions, Feature::Commits, Feature::Budgets, Feature::Snapshots]
            .into_iter()
            .fold(self.wrapped(name, FiveMethods::new), Self::without)
    }

    /// What it is called in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has a feature.
    pub fn has(&self, feature: Feature) -> bool {
        !self.lacks.contains(&feature)
    }

    /// The most bytes that a key may have.
    pub fn longest_key(&self) -> usize {
        self.longest_key
    }

    /// A new, empty place.
    pub fn new_place(&self) -> Box<dyn Place> {
        (self.new_place)()
    }
}

#[expect(clippy::expect_used, reason = "the suite reports by panicking, as a test does")]
fn under_a_namespace(
    storage: Box<dyn ComponentStorage>,
) -> NamespacedStorage<Box<dyn ComponentStorage>> {
    let id = |instance: &str| {
        ComponentId::new("suite", "cases", instance).expect("the id is within the rules")
    };
    for neighbour in ["00", "001-", "0011", "002"] {
        let neighbour = NamespacedStorage::new(id(neighbour), &storage);
        for key in ["a", "key", "m/n/1/x"] {
            neighbour.set(key, "a neighbour's".into()).expect("a neighbour can write");
        }
    }
    NamespacedStorage::new(id("001"), storage)
}

impl fmt::Debug for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Implementation")
            .field("name", &self.name)
            .field("lacks", &self.lacks)
            .field("longest_key", &self.longest_key)
            .finish_non_exhaustive()
    }
}
