//! Applies a manifest to a host that runs.

use std::fmt::Display;
use std::time::Duration;

use crate::host::StorageHost;
use crate::http_settings::HttpSettings;
use crate::manifest::{Manifest, ManifestComponent};
use crate::password::hide_passwords;
use crate::settings::{Applied, HostSettings, SettingChange, cache_text, optional};

impl Manifest {
    /// Returns the settings of the components, and the grants.
    pub fn host_settings(&self) -> HostSettings {
        let components = self.components.iter();
        HostSettings {
            defaults: self.defaults.clone(),
            components: components
                .clone()
                .map(|one| (one.id.clone(), one.settings.clone()))
                .collect(),
            grants: components
                .filter(|one| !one.grants.is_empty())
                .map(|one| (one.id.clone(), one.grants.clone()))
                .collect(),
        }
    }

    /// Applies the manifest to a host that runs, as [`StorageHost::apply`] does, and lists what
    /// needs a restart. `started_with` is the manifest that the host was started with, not one
    /// that was applied later: what needs a restart differs from it until then.
    ///
    /// A manifest that exists is valid, so this does not fail.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use storage_core::conformance::ReferenceStorage;
    /// use storage_host::Manifest;
    ///
    /// let started_with: Manifest = "quota = { bytes = 100 }".parse()?;
    /// let host = started_with.host(Arc::new(ReferenceStorage::new()));
    /// let changed: Manifest = "store = 'file:./data'\nquota = { bytes = 200 }".parse()?;
    /// let applied = changed.apply_to(&host, &started_with);
    /// assert_eq!(applied.changed[0].to_string(), "all other components: quota.bytes: 100 -> 200");
    /// assert_eq!(applied.needs_restart[0].field, "store");
    /// # Ok::<(), storage_host::ManifestError>(())
    /// ```
    pub fn apply_to(&self, host: &StorageHost, started_with: &Self) -> Applied {
        let mut applied = host.apply(self.host_settings());
        let mut needs_restart = self.host_changes(started_with);
        needs_restart.append(&mut applied.needs_restart);
        for component in &self.components {
            let before = started_with.component(&component.id);
            needs_restart.extend(component_changes(component, before));
        }
        for gone in &started_with.components {
            if gone.wasm.is_some() && self.component(&gone.id).is_none() {
                let (old, new) = (optional(path(gone)), "none");
                needs_restart.push(SettingChange::new(Some(&gone.id), "wasm", old, new));
            }
        }
        Applied { needs_restart, ..applied }
    }

    fn host_changes(&self, before: &Self) -> Vec<SettingChange> {
        let texts = |manifest: &Self| {
            [
                ("cache", cache_text(&manifest.cache)),
                ("cache.shared", manifest.shares_cache.to_string()),
                ("cache.max_staleness", seconds(manifest.max_staleness)),
            ]
        };
        let mut found: Vec<SettingChange> = self.store_change(before).into_iter().collect();
        found.extend(changes(None, texts(before), texts(self)));
        found.extend(changes(None, http_texts(&before.http), http_texts(&self.http)));
        found
    }

    /// The URLs are shown without their passwords, which may be all that differs.
    fn store_change(&self, before: &Self) -> Option<SettingChange> {
        if self.store == before.store {
            return None;
        }
        let shown = |manifest: &Self| hide_passwords(&optional(manifest.store.as_ref()));
        let (old, mut new) = (shown(before), shown(self));
        if old == new {
            new += " (another password)";
        }
        Some(SettingChange::new(None, "store", old, new))
    }
}

fn component_changes(
    component: &ManifestComponent,
    before: Option<&ManifestComponent>,
) -> Vec<SettingChange> {
    let id = Some(&component.id);
    let texts = |component: Option<&ManifestComponent>| {
        let timeout = component.and_then(|one| one.timeout);
        [
            ("wasm", optional(component.and_then(path))),
            ("timeout", optional(timeout.map(seconds))),
            ("routes", list(component.map(|one| one.routes.as_slice()))),
            ("outgoing", list(component.map(|one| one.outgoing.as_slice()))),
        ]
    };
    let mut found = changes(id, texts(before), texts(Some(component)));
    let presets = before.map(|before| &before.presets);
    if presets != Some(&component.presets) && (before.is_some() || !component.presets.is_empty()) {
        let text = |count: usize| format!("{count} keys");
        let (old, new) = (text(presets.map_or(0, |old| old.len())), text(component.presets.len()));
        found.push(SettingChange::new(id, "presets", old, new));
    }
    found
}

fn http_texts(http: &HttpSettings) -> [(&'static str, String); 13] {
    [
        ("http.listen", http.listen.to_string()),
        ("http.header_timeout", seconds(http.header_timeout)),
        ("http.request_timeout", seconds(http.request_timeout)),
        ("http.guest_timeout", seconds(http.guest_timeout)),
        ("http.queue_timeout", seconds(http.queue_timeout)),
        ("http.drain_timeout", seconds(http.drain_timeout)),
        ("http.connections", http.connections.to_string()),
        ("http.requests", http.requests.to_string()),
        ("http.component_requests", http.component_requests.to_string()),
        ("http.body_bytes", http.body_bytes.to_string()),
        ("http.header_bytes", http.header_bytes.to_string()),
        ("http.memory_bytes", http.memory_bytes.to_string()),
        ("http.total_memory_bytes", optional(http.total_memory_bytes)),
    ]
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

fn list(items: Option<&[impl Display]>) -> String {
    let items = items.unwrap_or_default().iter().map(|item| item.to_string());
    optional(Some(items.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty()))
}

fn path(component: &ManifestComponent) -> Option<impl Display> {
    component.wasm.as_ref().map(|path| path.display())
}

fn changes<const N: usize>(
    id: Option<&storage_core::ComponentId>,
    old: [(&'static str, String); N],
    new: [(&'static str, String); N],
) -> Vec<SettingChange> {
    let changed = old.into_iter().zip(new).filter(|((_, old), (_, new))| old != new);
    changed.map(|((field, old), (_, new))| SettingChange::new(id, field, old, new)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use storage_core::conformance::ReferenceStorage;
    use storage_core::{StorageError, Store};

    use super::*;
    use crate::{Location, Mode, Scheme, StoreRegistry};

    /// A store on a server, whose URL has a password.
    struct Remote;

    impl Scheme for Remote {
        fn name(&self) -> &'static str {
            "remote"
        }

        fn has_server(&self) -> bool {
            true
        }

        fn open(&self, _: &Location, _: Mode) -> Result<Arc<dyn Store>, StorageError> {
            Err(StorageError::ReadOnly)
        }
    }

    #[test]
    fn another_password_needs_a_restart_and_is_not_shown() {
        let mut registry = StoreRegistry::new();
        registry.register(Remote);
        let with = |url: &str| {
            let mut manifest: Manifest = "".parse().unwrap();
            manifest.store = Some(registry.parse(url).unwrap());
            manifest
        };
        let started_with = with("remote://ada:s3cret@host/data");
        let host = started_with.host(Arc::new(ReferenceStorage::new()));
        let needs_restart = |url: &str| {
            let applied = with(url).apply_to(&host, &started_with);
            applied.needs_restart.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(needs_restart("remote://ada:s3cret@host/data").is_empty());
        assert_eq!(
            needs_restart("remote://ada:0ther@host/data"),
            ["host: store: remote://ada@host/data -> remote://ada@host/data (another password)"]
        );
        assert_eq!(
            needs_restart("remote://eve:0ther@host/data"),
            ["host: store: remote://ada@host/data -> remote://eve@host/data"]
        );
    }
}
