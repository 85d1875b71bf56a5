//! One component's storage without a host.

use std::sync::Arc;

use storage_cache::{CacheConfig, CachedStorage};
use storage_core::{ComponentId, ComponentStorage, NamespacedStorage};

/// Creates a component's storage on a store: isolated and cached, without quota
/// or limits.
///
/// Two chains for one id have separate caches: one **does not see the other's
/// writes** to a cached key until the entry's time-to-live ends, and never without
/// one. Share one chain between the instances of a component, as
/// [`StorageHost`](crate::StorageHost) does.
///
/// ```
/// use std::sync::Arc;
/// # use storage_core::conformance::ReferenceStorage;
/// use storage_host::{CacheConfig, ComponentId, ComponentStorage, create_component_storage};
/// use storage_host::{CachedStorage, NamespacedStorage};
///
/// # let backend = ReferenceStorage::new();
/// let backend: Arc<dyn ComponentStorage> = Arc::new(backend);
/// let id = ComponentId::new("app", "notes", "home")?;
/// let storage = create_component_storage(id.clone(), backend.clone(), CacheConfig::default());
///
/// storage.set("user:123", "Ada".into())?;
/// assert_eq!(storage.get("user:123")?, Some("Ada".into()));
/// assert_eq!(backend.get("app/notes/home/user:123")?, Some("Ada".into()));
///
/// // It consists of these layers, innermost first:
/// let cached = CachedStorage::new(backend, CacheConfig::default());
/// let namespaced = NamespacedStorage::new(id, cached);
/// assert_eq!(namespaced.get("user:123")?, Some("Ada".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn create_component_storage(
    component_id: ComponentId,
    backend: Arc<dyn ComponentStorage>,
    cache_config: CacheConfig,
) -> Box<dyn ComponentStorage> {
    let cached = CachedStorage::new(backend, cache_config);
    let namespaced = NamespacedStorage::new(component_id, cached);
    Box::new(namespaced)
}
