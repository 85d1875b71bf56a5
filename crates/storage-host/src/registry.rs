//! The schemes that URLs can use.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::built_in;
use crate::scheme::Scheme;
use crate::store_url::{self, StoreUrl, StoreUrlError};

/// The schemes of store URLs: the built-in ones, and those that an embedder registers.
///
/// ```
/// use std::sync::Arc;
/// use storage_core::conformance::ReferenceStorage;
/// use storage_host::{
///     ComponentStorage, Location, Mode, Scheme, StorageError, StorageHost, Store, StoreRegistry,
/// };
///
/// /// The embedder's own kind of store.
/// struct Mine;
///
/// impl Scheme for Mine {
///     fn name(&self) -> &'static str {
///         "mine"
///     }
///
///     fn open(&self, location: &Location, _: Mode) -> Result<Arc<dyn Store>, StorageError> {
///         assert_eq!(location.path(), "data");
///         Ok(Arc::new(ReferenceStorage::new()))
///     }
/// }
///
/// let mut registry = StoreRegistry::new();
/// registry.register(Mine);
/// let host = StorageHost::new(registry.parse("mine:data")?.open(Mode::ReadWrite)?);
/// host.component(&"app/notes/home".parse()?).set("key", "value".into())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct StoreRegistry {
    schemes: Vec<Arc<dyn Scheme>>,
}

impl StoreRegistry {
    /// Creates a registry of the built-in schemes.
    pub fn new() -> Self {
        Self { schemes: built_in::schemes() }
    }

    /// Returns the names of all schemes of this crate, and whether each is compiled in.
    pub fn features() -> impl Iterator<Item = (&'static str, bool)> {
        let compiled_in = built_in::schemes();
        built_in::FEATURES
            .into_iter()
            .map(move |(name, _)| (name, compiled_in.iter().any(|scheme| scheme.name() == name)))
    }

    /// Registers a scheme. Replaces one of the same name.
    pub fn register(&mut self, scheme: impl Scheme + 'static) {
        self.schemes.retain(|known| known.name() != scheme.name());
        self.schemes.push(Arc::new(scheme));
    }

    /// Returns the registered schemes.
    pub fn schemes(&self) -> impl Iterator<Item = &dyn Scheme> {
        self.schemes.iter().map(|scheme| &**scheme)
    }

    /// Parses a URL. On Unix its path may have bytes that are not UTF-8. Opens nothing.
    ///
    /// # Errors
    /// [`StoreUrlError`] if the scheme is not registered, or the path or a setting is
    /// invalid.
    pub fn parse(&self, text: impl AsRef<OsStr>) -> Result<StoreUrl, StoreUrlError> {
        store_url::parse(text.as_ref(), &self.schemes, &built_in::FEATURES)
    }
}

impl Default for StoreRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for StoreRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.schemes().map(Scheme::name)).finish()
    }
}

impl StoreUrl {
    /// Parses a URL with a built-in scheme, for example from an argument or an environment
    /// variable. On Unix its path may have bytes that are not UTF-8.
    ///
    /// # Errors
    /// As [`StoreRegistry::parse`].
    pub fn from_os_str(text: &OsStr) -> Result<Self, StoreUrlError> {
        StoreRegistry::new().parse(text)
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_os_str(OsStr::new(text))
    }
}
