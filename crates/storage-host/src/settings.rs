//! The settings of a host that can change while it runs, and what a change of them did.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use storage_cache::CacheConfig;
use storage_core::{Budget, ComponentId};

use crate::grants::{Access, Grant};
use crate::host::ComponentSettings;
use crate::rate::RateLimit;

/// The settings of the components of a host, and all grants.
///
/// ```
/// use std::sync::Arc;
/// use storage_core::conformance::ReferenceStorage;
/// use storage_host::{Budget, ComponentStorage, StorageError, StorageHost};
///
/// let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
/// let storage = host.component(&"app/notes/home".parse()?);
/// storage.set("key", "value".into())?;
///
/// let mut settings = host.settings();
/// settings.defaults.quota = Some(Budget { max_bytes: 8, max_keys: 1 });
/// let applied = host.apply(settings);
/// assert_eq!(applied.changed[0].to_string(), "all other components: quota.bytes: none -> 8");
/// assert_eq!(storage.set("key2", "".into()), Err(StorageError::QuotaExceeded));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// The settings of components without their own.
    pub defaults: ComponentSettings,
    /// The settings of components with their own.
    pub components: BTreeMap<ComponentId, ComponentSettings>,
    /// The grants of each component. If it has two for one prefix of one owner, the last one
    /// counts.
    pub grants: BTreeMap<ComponentId, Vec<Grant>>,
}

impl HostSettings {
    /// Returns the settings of a component.
    pub fn of(&self, id: &ComponentId) -> &ComponentSettings {
        self.components.get(id).unwrap_or(&self.defaults)
    }
}

/// What [`StorageHost::apply`](crate::StorageHost::apply) has changed, and what it could not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// What is different now, in the order of the components; the defaults come first.
    pub changed: Vec<SettingChange>,
    /// What is as before, because it can change only when the host starts.
    pub needs_restart: Vec<SettingChange>,
}

/// A setting that differs from what is in force. [`Display`](fmt::Display) describes it in one
/// line. No value of a configuration and no password appears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    /// The component; `None` for a setting of the host, or of components without their own.
    pub component: Option<ComponentId>,
    /// The setting as a manifest names it, such as `quota.bytes`.
    pub field: Cow<'static, str>,
    /// The value before.
    pub old: String,
    /// The value that was asked for.
    pub new: String,
}

impl SettingChange {
    pub(crate) fn new(
        component: Option<&ComponentId>,
        field: &'static str,
        old: impl Into<String>,
        new: impl Into<String>,
    ) -> Self {
        let (component, field) = (component.cloned(), field.into());
        Self { component, field, old: old.into(), new: new.into() }
    }

    /// Whether it is a setting of the host alone, and not of components without their own.
    fn is_of_host(&self) -> bool {
        matches!(&*self.field, "store" | "cache.shared") || self.field.starts_with("http.")
    }
}

impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.component {
            Some(id) => write!(f, "{id}")?,
            None if self.is_of_host() => f.write_str("host")?,
            None => f.write_str("all other components")?,
        }
        write!(f, ": {}: {} -> {}", self.field, self.old, self.new)
    }
}

/// The settings in force once `wanted` is applied on top of `old`: what can change, and the
/// rest as it was.
pub(crate) fn in_force(
    old: &HostSettings,
    wanted: HostSettings,
) -> (HostSettings, Vec<SettingChange>) {
    let mut ids: BTreeSet<&ComponentId> = wanted.components.keys().collect();
    ids.extend(old.components.keys());
    let components = ids.into_iter().map(|id| (id.clone(), merged(old.of(id), wanted.of(id))));
    let components: BTreeMap<_, _> = components.collect();
    let mut needs_restart = kept(None, &old.defaults, &wanted.defaults);
    for id in components.keys() {
        needs_restart.extend(kept(Some(id), old.of(id), wanted.of(id)));
    }
    let defaults = merged(&old.defaults, &wanted.defaults);
    (HostSettings { defaults, components, grants: wanted.grants }, needs_restart)
}

/// Settings that can change from `new`, and the others from `old`.
fn merged(old: &ComponentSettings, new: &ComponentSettings) -> ComponentSettings {
    ComponentSettings { quota: new.quota, limits: new.limits, rate: new.rate, ..old.clone() }
}

/// The settings of a component that cannot change and should.
fn kept(
    id: Option<&ComponentId>,
    old: &ComponentSettings,
    new: &ComponentSettings,
) -> Vec<SettingChange> {
    let mut kept = Vec::new();
    if old.cache != new.cache {
        let text = |cache: &Option<CacheConfig>| match cache {
            None => "the host's".to_owned(),
            Some(cache) => cache_text(cache),
        };
        kept.push(SettingChange::new(id, "cache", text(&old.cache), text(&new.cache)));
    }
    if old.max_staleness != new.max_staleness {
        let text = |time: Option<Duration>| {
            time.map_or("the host's".to_owned(), |time| format!("{} s", time.as_secs_f64()))
        };
        let (old, new) = (text(old.max_staleness), text(new.max_staleness));
        kept.push(SettingChange::new(id, "cache.max_staleness", old, new));
    }
    if old.config != new.config {
        // The values may be secrets.
        let text = |count: usize| format!("{count} entries");
        let (old, new) = (text(old.config.iter().count()), text(new.config.iter().count()));
        kept.push(SettingChange::new(id, "config", old, new));
    }
    kept
}

pub(crate) fn cache_text(cache: &CacheConfig) -> String {
    if cache.is_off() {
        return "off".to_owned();
    }
    let ttl = optional(cache.ttl.map(|ttl| format!("{} s", ttl.as_secs_f64())));
    format!("{} entries, {} bytes, ttl {ttl}", cache.max_entries, cache.max_size_bytes)
}

/// What differs between two settings in force.
pub(crate) fn changes(old: &HostSettings, new: &HostSettings) -> Vec<SettingChange> {
    let mut changes = component_changes(None, &old.defaults, &new.defaults);
    let mut ids: BTreeSet<&ComponentId> = new.components.keys().collect();
    ids.extend(old.components.keys());
    ids.extend(new.grants.keys());
    ids.extend(old.grants.keys());
    for id in ids {
        if new.components.contains_key(id) || old.components.contains_key(id) {
            changes.extend(component_changes(Some(id), old.of(id), new.of(id)));
        }
        let of = |settings: &HostSettings| {
            settings.grants.get(id).map(|grants| by_prefix(grants)).unwrap_or_default()
        };
        changes.extend(grant_changes(id, &of(old), &of(new)));
    }
    changes
}

type ByPrefix = BTreeMap<(ComponentId, String), Access>;

pub(crate) fn by_prefix(grants: &[Grant]) -> ByPrefix {
    let entry = |grant: &Grant| ((grant.owner.clone(), grant.prefix.clone()), grant.access);
    grants.iter().map(entry).collect()
}

fn grant_changes(id: &ComponentId, old: &ByPrefix, new: &ByPrefix) -> Vec<SettingChange> {
    let text = |(owner, prefix): &(ComponentId, String), access: Option<&Access>| match access {
        None => format!("none for {prefix:?} of {owner}"),
        Some(Access::Read) => format!("read {prefix:?} of {owner}"),
        Some(Access::ReadWrite) => format!("read-write {prefix:?} of {owner}"),
    };
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changed = keys.into_iter().filter(|key| old.get(key) != new.get(key));
    let change = |key: &(ComponentId, String)| {
        let (old, new) = (text(key, old.get(key)), text(key, new.get(key)));
        SettingChange::new(Some(id), "grants", old, new)
    };
    changed.map(change).collect()
}

fn component_changes(
    id: Option<&ComponentId>,
    old: &ComponentSettings,
    new: &ComponentSettings,
) -> Vec<SettingChange> {
    let values = fields(old).into_iter().zip(fields(new));
    let changed = values.filter(|((_, old), (_, new))| old != new);
    changed.map(|((field, old), (_, new))| SettingChange::new(id, field, old, new)).collect()
}

/// The settings that can change, as texts.
fn fields(settings: &ComponentSettings) -> Vec<(&'static str, String)> {
    let bound = |number: u64| match number {
        u64::MAX => "none".to_owned(),
        number => number.to_string(),
    };
    let quota = settings.quota.unwrap_or(Budget::UNLIMITED);
    let limits = &settings.limits;
    let RateParts { operations, bytes, burst } = parts(&settings.rate);
    vec![
        ("quota.bytes", bound(quota.max_bytes)),
        ("quota.keys", bound(quota.max_keys)),
        ("limits.key_bytes", limits.key_bytes.to_string()),
        ("limits.value_bytes", limits.value_bytes.to_string()),
        ("limits.listing_keys", limits.listing_keys.to_string()),
        ("limits.listing_bytes", limits.listing_bytes.to_string()),
        ("limits.batch_operations", limits.batch_operations.to_string()),
        ("limits.batch_bytes", limits.batch_bytes.to_string()),
        ("limits.handles", limits.handles.to_string()),
        ("rate.operations_per_second", optional(operations)),
        ("rate.bytes_per_second", optional(bytes)),
        ("rate.burst_seconds", burst),
    ]
}

/// The text of a setting that may be missing.
pub(crate) fn optional(value: Option<impl fmt::Display>) -> String {
    value.map_or("none".to_owned(), |value| value.to_string())
}

struct RateParts {
    operations: Option<u64>,
    bytes: Option<u64>,
    burst: String,
}

fn parts(rate: &RateLimit) -> RateParts {
    let (operations, bytes) = (rate.operations_per_second(), rate.bytes_per_second());
    // Without a rate the burst has no effect.
    let burst = match rate.is_unlimited() {
        true => "none".to_owned(),
        false => rate.burst().as_secs_f64().to_string(),
    };
    RateParts { operations, bytes, burst }
}
