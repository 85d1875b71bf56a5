//! The caches of a host: one for each component or one for all, or none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use storage_cache::{CacheConfig, CacheStats, CachedStorage, Clock, SharedCache};
use storage_core::{ComponentId, ComponentStorage, Store};

use crate::coherence::{Follower, MIN_STALENESS, poll_interval};
use crate::host::ComponentSettings;
use crate::optional_cache::OptionalCache;
use crate::shutdown::GatedStore;

/// How a host caches.
pub(crate) struct CacheSettings {
    pub(crate) config: CacheConfig,
    pub(crate) is_shared: bool,
    pub(crate) max_staleness: Duration,
    pub(crate) clock: Clock,
}

pub(crate) struct Caches {
    store: Arc<GatedStore>,
    settings: CacheSettings,
    /// Whether components may have a cache.
    is_enabled: bool,
    /// The cache of components without their own; `None` if each has one.
    shared: Option<SharedCache<Arc<dyn ComponentStorage>>>,
    /// `None` if no other host can write to the store.
    follower: Option<Follower>,
}

impl Caches {
    pub(crate) fn new(
        store: &Arc<GatedStore>,
        settings: CacheSettings,
        defaults: &ComponentSettings,
        overrides: &HashMap<ComponentId, ComponentSettings>,
    ) -> Self {
        let properties = store.properties();
        let follower = if properties.may_block {
            let interval = poll_interval(settings.max_staleness, defaults, overrides);
            Follower::new(store, settings.clock.clone(), interval)
        } else {
            None
        };
        // Without changes and revisions a cache could hold any old value.
        let is_unfollowed = properties.shared_with_other_hosts && follower.is_none();
        let shared = settings.is_shared.then(|| {
            let (storage, config) = (Arc::clone(store) as Arc<_>, settings.config.clone());
            match &follower {
                Some(follower) => SharedCache::coherent(storage, config, follower.coherence()),
                None => SharedCache::with_clock(storage, config, settings.clock.clone()),
            }
        });
        let is_enabled = properties.may_block && !is_unfollowed;
        Self { store: Arc::clone(store), settings, is_enabled, shared, follower }
    }

    pub(crate) fn settings(&self) -> &CacheSettings {
        &self.settings
    }

    pub(crate) fn follower(&self) -> Option<&Follower> {
        self.follower.as_ref()
    }

    /// The statistics of the shared cache, if there is one.
    pub(crate) fn shared_stats(&self) -> Option<CacheStats> {
        self.shared.as_ref().map(SharedCache::stats)
    }

    /// The cache of a component above the store, or the store.
    pub(crate) fn of(&self, id: &ComponentId, own: &ComponentSettings) -> OptionalCache {
        let store: Arc<dyn ComponentStorage> = self.store.clone();
        let config = own.cache.as_ref().unwrap_or(&self.settings.config);
        let max_staleness = own.max_staleness.unwrap_or(self.settings.max_staleness);
        let is_too_short = self.follower.is_some() && max_staleness < MIN_STALENESS;
        if !self.is_enabled || config.is_off() || is_too_short {
            return OptionalCache::Off(Arc::clone(&self.store));
        }
        let shared = self.shared.as_ref().filter(|_| own.cache.is_none());
        OptionalCache::On(match (shared, &self.follower) {
            (Some(shared), _) => shared.component_within(id.clone(), max_staleness).into_inner(),
            (None, Some(follower)) => {
                let (config, coherence) = (config.clone(), follower.coherence());
                CachedStorage::coherent(store, config, id.key_prefix(), max_staleness, coherence)
            }
            (None, None) => {
                CachedStorage::with_clock(store, config.clone(), self.settings.clock.clone())
            }
        })
    }
}
