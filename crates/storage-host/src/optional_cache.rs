//! A component's cache, or none.

use std::sync::Arc;

use storage_cache::{CacheStats, CachedStorage};
use storage_core::{
    Commit, ComponentStorage, KeyPage, PageRequest, Revision, StorageError, StorageValue, Usage,
    VersionedValue,
};

use crate::shutdown::GatedStore;

/// What the namespace of a component is above.
pub(crate) enum OptionalCache {
    On(CachedStorage<Arc<dyn ComponentStorage>>),
    Off(Arc<GatedStore>),
}

impl OptionalCache {
    /// The statistics; all zero without a cache.
    pub(crate) fn stats(&self) -> CacheStats {
        match self {
            Self::On(cached) => cached.stats(),
            Self::Off(_) => CacheStats::default(),
        }
    }

    /// Clears the cache, if there is one.
    pub(crate) fn clear(&self) {
        match self {
            Self::On(cached) => cached.clear(),
            Self::Off(_) => {}
        }
    }
}

/// Forwards to the variant, so that the compiler can inline a hit in either.
macro_rules! forward {
    ($($(#[$attribute:meta])? $method:ident($($name:ident: $type:ty),*) -> $result:ty;)*) => {$(
        $(#[$attribute])?
        fn $method(&self, $($name: $type),*) -> $result {
            match self {
                Self::On(cached) => cached.$method($($name),*),
                Self::Off(store) => store.$method($($name),*),
            }
        }
    )*};
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for OptionalCache {
    forward! {
        get(key: &str) -> Result<Option<StorageValue>, StorageError>;
        set(key: &str, value: StorageValue) -> Result<(), StorageError>;
        delete(key: &str) -> Result<(), StorageError>;
        exists(key: &str) -> Result<bool, StorageError>;
        list_keys(prefix: Option<&str>) -> Result<Vec<String>, StorageError>;
        list_page(request: PageRequest<'_>) -> Result<KeyPage, StorageError>;
        get_many(keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError>;
        usage(prefix: Option<&str>) -> Result<Usage, StorageError>;
        #[inline] try_get(prefix: &str, key: &str) -> Option<Option<StorageValue>>;
        get_versioned(key: &str) -> Result<Option<VersionedValue>, StorageError>;
        commit(commit: Commit) -> Result<Revision, StorageError>;
    }
}
