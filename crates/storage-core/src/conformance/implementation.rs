//! The implementation under test: how to open it, and which features it lacks.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use super::RequiredMethods;
use crate::{
    ComponentId, ComponentStorage, MAX_FULL_KEY_BYTES, MAX_KEY_BYTES, NamespacedStorage, Store,
};

/// A part of the contract that an implementation may lack.
///
/// Every implementation has listings, pages, `get_many` and usage, which build on the
/// required methods. `try_get` may always know nothing, and `verify` and `compact` may be
/// unsupported: none of them is a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// It refuses keys that break the rules of
    /// [`validate_full_key`](crate::validate_full_key).
    KeyRules,
    /// It holds the keys of many components, each with its own usage and budget.
    /// Below a [`NamespacedStorage`] all keys belong to one component.
    Components,
    /// `get_versioned`, and commits that check revisions. Its cases need commits too.
    Revisions,
    /// `commit` with writes and checks.
    Commits,
    /// The budget of a commit.
    Budgets,
    /// It is a [`Store`]: `list_components`, `flush` and, if they are supported, `verify` and
    /// `compact`.
    Store,
    /// `read_snapshot`.
    Snapshots,
    /// Its data is still there when it is opened again.
    Persistence,
    /// Several hosts can use it at once: [`Store::shared`] returns a
    /// [`SharedStore`](crate::SharedStore). Its cases need revisions and commits too.
    SeveralHosts,
}

impl Feature {
    /// Describes an implementation without the feature.
    pub(super) fn describe_absence(self) -> &'static str {
        match self {
            Self::KeyRules => "has no rules for keys",
            Self::Components => "has a single component",
            Self::Revisions => "has no revisions",
            Self::Commits => "has no commits",
            Self::Budgets => "has no budgets",
            Self::Store => "is not a whole store",
            Self::Snapshots => "has no snapshots",
            Self::Persistence => "is not persistent",
            Self::SeveralHosts => "has a single host",
        }
    }
}

/// The storage that a case opens.
pub(super) enum Handle {
    Storage(Box<dyn ComponentStorage>),
    Store(Box<dyn Store>),
}

impl Handle {
    pub(super) fn storage(&self) -> &dyn ComponentStorage {
        match self {
            Self::Storage(storage) => &**storage,
            Self::Store(store) => &**store,
        }
    }

    #[expect(clippy::panic, reason = "the suite reports by panicking, as a test does")]
    fn into_store(self) -> Box<dyn Store> {
        match self {
            Self::Storage(_) => panic!("the decorator needs a whole store"),
            Self::Store(store) => store,
        }
    }

    fn into_storage(self) -> Box<dyn ComponentStorage> {
        match self {
            Self::Storage(storage) => storage,
            Self::Store(store) => store,
        }
    }
}

/// Opens the same storage each time. Owns what it needs, such as a temporary
/// directory.
pub(super) type Open = Box<dyn Fn() -> Handle>;

/// An implementation of [`ComponentStorage`], and of [`Store`] if it is one.
///
/// ```
/// use storage_core::conformance::{Feature, Implementation, ReferenceStorage};
///
/// let reference = Implementation::store("reference", ReferenceStorage::new);
/// assert!(reference.has(Feature::Commits));
/// assert!(!reference.has(Feature::Persistence));
/// ```
pub struct Implementation {
    name: String,
    /// Creates a new, empty storage.
    make: Box<dyn Fn() -> Open>,
    lacks: BTreeSet<Feature>,
    max_key_bytes: usize,
}

impl Implementation {
    fn with_make(name: impl Into<String>, make: impl Fn() -> Open + 'static) -> Self {
        Self {
            name: name.into(),
            make: Box::new(make),
            lacks: BTreeSet::from([Feature::SeveralHosts]),
            max_key_bytes: MAX_FULL_KEY_BYTES,
        }
    }

    /// A storage that is not a whole store and not persistent: `new_storage` makes
    /// an empty one each time.
    pub fn new<S: ComponentStorage + 'static>(
        name: impl Into<String>,
        new_storage: impl Fn() -> S + 'static,
    ) -> Self {
        let new_storage = Rc::new(new_storage);
        let make = move || -> Open {
            let new_storage = Rc::clone(&new_storage);
            Box::new(move || Handle::Storage(Box::new(new_storage())))
        };
        let missing = [Feature::Store, Feature::Snapshots, Feature::Persistence];
        missing.into_iter().fold(Self::with_make(name, make), Self::without)
    }

    /// A store that is not persistent: `new_store` makes an empty one each time.
    pub fn store<S: Store + 'static>(
        name: impl Into<String>,
        new_store: impl Fn() -> S + 'static,
    ) -> Self {
        let new_store = Rc::new(new_store);
        let make = move || {
            let new_store = Rc::clone(&new_store);
            move || new_store()
        };
        Self::persistent(name, make).without(Feature::Persistence)
    }

    /// A persistent store, in two closures. Each case calls `make`, which creates an empty
    /// directory and returns a closure that opens the store in it.
    ///
    /// The suite opens the store repeatedly and drops each handle before it opens the next.
    /// The closure that opens it is dropped last, so it may own a temporary directory.
    ///
    /// ```
    /// use storage_core::conformance::Implementation;
    /// # use storage_core::conformance::ReferenceStorage;
    /// # struct TempDir;
    /// # fn tempdir() -> TempDir { TempDir }
    /// # struct MyStore;
    /// # impl MyStore {
    /// #     fn open(_dir: &TempDir) -> ReferenceStorage { ReferenceStorage::new() }
    /// # }
    ///
    /// let mine = Implementation::persistent("mine", || {
    ///     let directory = tempdir();
    ///     move || MyStore::open(&directory)
    /// });
    /// assert_eq!(mine.name(), "mine");
    /// ```
    pub fn persistent<S, F>(name: impl Into<String>, make: impl Fn() -> F + 'static) -> Self
    where
        S: Store + 'static,
        F: Fn() -> S + 'static,
    {
        Self::with_make(name, move || {
            let open = make();
            Box::new(move || Handle::Store(Box::new(open())))
        })
    }

    /// Declares that it lacks a feature. Cases that need the feature are skipped;
    /// its methods must return [`Unsupported`](crate::StorageError::Unsupported).
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Self {
        self.lacks.insert(feature);
        self
    }

    /// Declares that several hosts can use the store at once. The suite then also opens it
    /// several times without dropping the earlier handles; each is one host.
    ///
    /// ```
    /// use storage_core::conformance::{Feature, Implementation, SharedReference, run};
    ///
    /// let shared = Implementation::persistent("shared reference", || {
    ///     let store = SharedReference::new();
    ///     move || store.connect()
    /// });
    /// let report = run(&shared.several_hosts());
    /// assert_eq!(report.skipped, []);
    /// ```
    #[must_use]
    pub fn several_hosts(mut self) -> Self {
        self.lacks.remove(&Feature::SeveralHosts);
        self
    }

    /// Sets the maximum length of a key, in bytes. Default: [`MAX_FULL_KEY_BYTES`].
    #[must_use]
    pub fn with_max_key_bytes(mut self, bytes: usize) -> Self {
        self.max_key_bytes = bytes;
        self
    }

    /// The same implementation below a decorator. `wrap` is called with the storage each
    /// time it is opened.
    ///
    /// ```
    /// use storage_core::conformance::{CountingStorage, Implementation, ReferenceStorage, run};
    ///
    /// let reference = Implementation::store("reference", ReferenceStorage::new);
    /// run(&reference.wrapped("counted reference", CountingStorage::new));
    /// ```
    #[must_use]
    pub fn wrapped<W: ComponentStorage + 'static>(
        self,
        name: impl Into<String>,
        wrap: impl Fn(Box<dyn ComponentStorage>) -> W + 'static,
    ) -> Self {
        self.mapped(name, move |handle| Handle::Storage(Box::new(wrap(handle.into_storage()))))
            .without(Feature::Store)
            .without(Feature::Snapshots)
            .without(Feature::SeveralHosts)
    }

    /// The same implementation below a decorator that needs the whole store.
    ///
    /// # Panics
    /// When it is opened, if it is not a store.
    #[must_use]
    pub fn wrapped_store<W: ComponentStorage + 'static>(
        self,
        name: impl Into<String>,
        wrap: impl Fn(Box<dyn Store>) -> W + 'static,
    ) -> Self {
        self.mapped(name, move |handle| Handle::Storage(Box::new(wrap(handle.into_store()))))
            .without(Feature::Store)
            .without(Feature::Snapshots)
            .without(Feature::SeveralHosts)
    }

    fn mapped(self, name: impl Into<String>, map: impl Fn(Handle) -> Handle + 'static) -> Self {
        let (make_inner, map) = (self.make, Rc::new(map));
        let make = move || -> Open {
            let (open, map) = (make_inner(), Rc::clone(&map));
            Box::new(move || map(open()))
        };
        Self { name: name.into(), make: Box::new(make), ..self }
    }

    /// The same implementation as a component sees it: below a [`NamespacedStorage`],
    /// next to other components that use the same keys.
    ///
    /// It is not a whole store, so the cases of [`Feature::Store`], [`Feature::Snapshots`]
    /// and [`Feature::Components`] are skipped.
    ///
    /// # Panics
    /// When it is opened, if a key of another component cannot be written.
    #[must_use]
    pub fn namespaced(self) -> Self {
        let name = format!("namespaced {}", self.name);
        let mut namespaced = self.wrapped(name, namespaced);
        namespaced.lacks.insert(Feature::Components);
        // The namespace enforces them itself.
        namespaced.lacks.remove(&Feature::KeyRules);
        namespaced.with_max_key_bytes(MAX_KEY_BYTES)
    }

    /// The same implementation with its required methods only ([`RequiredMethods`]), and
    /// so without revisions, commits, budgets and snapshots.
    #[must_use]
    pub fn required_methods(self) -> Self {
        let name = format!("required methods of {}", self.name);
        let required = self.mapped(name, |handle| match handle {
            Handle::Storage(storage) => Handle::Storage(Box::new(RequiredMethods::new(storage))),
            Handle::Store(store) => Handle::Store(Box::new(RequiredMethods::new(store))),
        });
        let provided = [Feature::Revisions, Feature::Commits, Feature::Budgets];
        let of_stores = [Feature::Snapshots, Feature::SeveralHosts];
        provided.into_iter().chain(of_stores).fold(required, Self::without)
    }

    /// The name to report.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has a feature.
    pub fn has(&self, feature: Feature) -> bool {
        !self.lacks.contains(&feature)
    }

    /// The maximum length of a key, in bytes.
    pub fn max_key_bytes(&self) -> usize {
        self.max_key_bytes
    }

    /// Creates a new, empty storage.
    pub(super) fn make(&self) -> Open {
        (self.make)()
    }
}

#[expect(clippy::expect_used, reason = "the suite reports by panicking, as a test does")]
fn namespaced(storage: Box<dyn ComponentStorage>) -> NamespacedStorage<Box<dyn ComponentStorage>> {
    let id =
        |instance: &str| ComponentId::new("suite", "cases", instance).expect("the id is valid");
    for other in ["00", "001-", "0011", "002"] {
        let other = NamespacedStorage::new(id(other), &storage);
        for key in ["a", "key", "m/n/1/x"] {
            other.set(key, "another component's".into()).expect("the key can be written");
        }
    }
    NamespacedStorage::new(id("001"), storage)
}

impl fmt::Debug for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Implementation")
            .field("name", &self.name)
            .field("lacks", &self.lacks)
            .field("max_key_bytes", &self.max_key_bytes)
            .finish_non_exhaustive()
    }
}
