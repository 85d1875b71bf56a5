//! The settings of a host in a TOML file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use storage_core::{Budget, ComponentId, Store, validate_key};

use crate::component_config::ComponentConfig;
use crate::grants::{Access, Grant};
use crate::host::{ComponentSettings, StorageHost};
use crate::limits::Limits;
use crate::server::hide_passwords;
use crate::store_url::StoreUrl;
use storage_cache::CacheConfig;

/// The settings of a host: its store, and each component with quota, limits, cache,
/// configuration and grants. Read from a TOML file.
///
/// ```
/// use storage_host::Manifest;
///
/// let manifest: Manifest = r#"
///     store = "file:./data"
///
///     [[component]]
///     id = "app/notes/home"
///     wasm = "notes.wasm"
///     config = { greeting = "hello" }
///     quota = { bytes = 1_048_576, keys = 1_000 }
///
///     [[component]]
///     id = "app/report/1"
///     grants = [{ owner = "app/notes/home", prefix = "shared/", access = "read" }]
/// "#
/// .parse()?;
/// assert_eq!(manifest.store.as_ref().unwrap().to_string(), "file:./data");
/// assert_eq!(manifest.components.len(), 2);
///
/// let error = "stroe = 'memory:'".parse::<Manifest>().unwrap_err();
/// assert!(error.to_string().contains("unknown field `stroe`"));
/// # Ok::<(), storage_host::ManifestError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The store of all components, if the manifest names one. A path is relative to the
    /// working directory of the process.
    pub store: Option<StoreUrl>,
    /// The cache of components without their own setting.
    pub cache: CacheConfig,
    /// Whether components share one cache instead of having one each.
    pub shares_cache: bool,
    /// The settings of components without their own, and of those that are not named.
    pub defaults: ComponentSettings,
    /// The components, in the order of the file.
    pub components: Vec<ManifestComponent>,
}

/// A component of a [`Manifest`].
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestComponent {
    /// Its id.
    pub id: ComponentId,
    /// The component's file. [`Manifest::from_file`] resolves it relative to the directory
    /// of the manifest.
    pub wasm: Option<PathBuf>,
    /// Its settings, including the manifest's defaults.
    pub settings: ComponentSettings,
    /// How long it may run, including the manifest's default. The program that runs the
    /// component applies it, as the command does.
    pub timeout: Option<Duration>,
    /// Its access to keys of other components.
    pub grants: Vec<Grant>,
    /// Keys to set before it starts.
    pub presets: BTreeMap<String, String>,
}

/// Why a text or file is not a valid [`Manifest`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("cannot read {}: {problem}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// It is not TOML, or has an unknown field or an invalid value. Names the line.
    #[error("{0}")]
    Syntax(String),
    /// Settings of a component contradict each other. Names the component.
    #[error("{0}")]
    Contradiction(String),
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ManifestError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|error| ManifestError::Read {
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
        let mut manifest: Self = text.parse()?;
        let directory = path.parent().unwrap_or(Path::new(""));
        for wasm in manifest.components.iter_mut().filter_map(|component| component.wasm.as_mut()) {
            *wasm = directory.join(&*wasm);
        }
        Ok(manifest)
    }

    /// Returns the component with this id, if the manifest names it.
    pub fn component(&self, id: &ComponentId) -> Option<&ManifestComponent> {
        self.components.iter().find(|component| component.id == *id)
    }

    /// Returns the settings of a component; the defaults if it is not named.
    pub fn settings(&self, id: &ComponentId) -> &ComponentSettings {
        self.component(id).map_or(&self.defaults, |component| &component.settings)
    }

    /// Creates a host on a store, with the settings and grants of the manifest. Does not
    /// set presets.
    pub fn host(&self, store: Arc<dyn Store>) -> StorageHost {
        let mut builder = StorageHost::builder(store).defaults(self.defaults.clone());
        builder = match self.shares_cache {
            true => builder.shared_cache(self.cache.clone()),
            false => builder.cache(self.cache.clone()),
        };
        for component in &self.components {
            builder = builder.component(component.id.clone(), component.settings.clone());
        }
        let host = builder.build();
        for component in &self.components {
            for grant in &component.grants {
                host.grant(&component.id, grant.clone());
            }
        }
        host
    }
}

impl FromStr for Manifest {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, ManifestError> {
        let file: File = toml::from_str(text).map_err(|error| {
            // The text quotes the line.
            let text = error.to_string();
            ManifestError::Syntax(hide_passwords(text.trim_end()).into_owned())
        })?;
        file.resolve()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, deserialize_with = "parsed_if_there")]
    store: Option<StoreUrl>,
    #[serde(default)]
    cache: HostCache,
    #[serde(default)]
    quota: Quota,
    #[serde(default)]
    limits: LimitsTable,
    timeout: Option<Seconds>,
    #[serde(default, rename = "component")]
    components: Vec<Component>,
}

/// The fields of a component. Missing ones have the host's values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Component {
    #[serde(deserialize_with = "parsed")]
    id: ComponentId,
    wasm: Option<PathBuf>,
    #[serde(default)]
    quota: Quota,
    #[serde(default)]
    limits: LimitsTable,
    timeout: Option<Seconds>,
    cache: Option<CacheTable>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    grants: Vec<GrantTable>,
    #[serde(default)]
    presets: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quota {
    bytes: Option<Bound>,
    keys: Option<Bound>,
}

impl Quota {
    /// Applies this quota on top of another; `None` if neither has a bound.
    fn over(self, base: Option<Budget>) -> Option<Budget> {
        let base = base.unwrap_or(Budget::UNLIMITED);
        let budget = Budget {
            max_bytes: self.bytes.map_or(base.max_bytes, Bound::number),
            max_keys: self.keys.map_or(base.max_keys, Bound::number),
        };
        (budget != Budget::UNLIMITED).then_some(budget)
    }
}

/// A limit of a quota.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected a number, or \"none\" for no limit")]
enum Bound {
    Number(u64),
    Word(Word),
}

impl Bound {
    fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Word(Word::None) => u64::MAX,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostCache {
    #[serde(default)]
    shared: bool,
    max_entries: Option<usize>,
    max_size_bytes: Option<usize>,
    ttl: Option<Seconds>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheTable {
    max_entries: Option<usize>,
    max_size_bytes: Option<usize>,
    ttl: Option<Seconds>,
}

impl CacheTable {
    fn over(&self, base: &CacheConfig) -> CacheConfig {
        CacheConfig {
            max_entries: self.max_entries.unwrap_or(base.max_entries),
            max_size_bytes: self.max_size_bytes.unwrap_or(base.max_size_bytes),
            ttl: self.ttl.map_or(base.ttl, Seconds::duration),
        }
    }
}

/// A duration.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected a number of seconds, or \"none\" for no limit")]
enum Seconds {
    Number(u64),
    Word(Word),
}

impl Seconds {
    fn duration(self) -> Option<Duration> {
        match self {
            Self::Number(seconds) => Some(Duration::from_secs(seconds)),
            Self::Word(Word::None) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    None,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    key_bytes: Option<usize>,
    value_bytes: Option<usize>,
    listing_keys: Option<usize>,
    listing_bytes: Option<usize>,
    batch_operations: Option<usize>,
    batch_bytes: Option<usize>,
    handles: Option<usize>,
}

impl LimitsTable {
    fn over(&self, base: Limits) -> Limits {
        Limits {
            key_bytes: self.key_bytes.unwrap_or(base.key_bytes),
            value_bytes: self.value_bytes.unwrap_or(base.value_bytes),
            listing_keys: self.listing_keys.unwrap_or(base.listing_keys),
            listing_bytes: self.listing_bytes.unwrap_or(base.listing_bytes),
            batch_operations: self.batch_operations.unwrap_or(base.batch_operations),
            batch_bytes: self.batch_bytes.unwrap_or(base.batch_bytes),
            handles: self.handles.unwrap_or(base.handles),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantTable {
    #[serde(deserialize_with = "parsed")]
    owner: ComponentId,
    prefix: String,
    access: AccessWord,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AccessWord {
    Read,
    ReadWrite,
}

impl File {
    fn resolve(self) -> Result<Manifest, ManifestError> {
        let HostCache { shared, max_entries, max_size_bytes, ttl } = self.cache;
        let cache = CacheTable { max_entries, max_size_bytes, ttl }.over(&CacheConfig::default());
        let defaults = ComponentSettings {
            quota: self.quota.over(None),
            limits: self.limits.over(Limits::default()),
            cache: None,
            config: ComponentConfig::default(),
        };
        let mut seen = BTreeSet::new();
        let mut components = Vec::with_capacity(self.components.len());
        for component in self.components {
            if !seen.insert(component.id.clone()) {
                return Err(ManifestError::Contradiction(format!(
                    "component {} is listed twice: remove one of the entries",
                    component.id
                )));
            }
            components.push(component.resolve(&defaults, self.timeout, &cache)?);
        }
        Ok(Manifest { store: self.store, cache, shares_cache: shared, defaults, components })
    }
}

impl Component {
    fn resolve(
        self,
        defaults: &ComponentSettings,
        timeout: Option<Seconds>,
        cache: &CacheConfig,
    ) -> Result<ManifestComponent, ManifestError> {
        let id = self.id;
        let mut grants = Vec::with_capacity(self.grants.len());
        for GrantTable { owner, prefix, access } in self.grants {
            if owner == id {
                return Err(ManifestError::Contradiction(format!(
                    "grant of component {id}: the owner is {id} itself, which needs no grant; \
                     remove it"
                )));
            }
            if grants.iter().any(|one: &Grant| one.owner == owner && one.prefix == prefix) {
                return Err(ManifestError::Contradiction(format!(
                    "component {id} has two grants for {owner} with the prefix {prefix:?}: remove \
                     one of them"
                )));
            }
            // Every non-empty prefix of a valid key is a valid key.
            if !prefix.is_empty()
                && let Err(error) = validate_key(&prefix)
            {
                return Err(ManifestError::Contradiction(format!(
                    "grant of component {id}: the prefix {prefix:?} is not a valid key prefix: \
                     {error}"
                )));
            }
            let access = match access {
                AccessWord::Read => Access::Read,
                AccessWord::ReadWrite => Access::ReadWrite,
            };
            grants.push(Grant { owner, prefix, access });
        }
        let limits = self.limits.over(defaults.limits);
        for (key, value) in &self.presets {
            validate_key(key)
                .and_then(|()| limits.check_key(key))
                .and_then(|()| limits.check_value_len(value.len()))
                .map_err(|error| {
                    ManifestError::Contradiction(format!(
                        "preset {key:?} of component {id}: {error}"
                    ))
                })?;
        }
        let timeout = self.timeout.or(timeout).and_then(Seconds::duration);
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(ManifestError::Contradiction(format!(
                "the timeout of component {id} is 0: use a number of seconds, or \"none\" for no \
                 timeout"
            )));
        }
        let config = ComponentConfig::new(&self.config).map_err(|error| {
            ManifestError::Contradiction(format!("config of component {id}: {error}"))
        })?;
        let settings = ComponentSettings {
            quota: self.quota.over(defaults.quota),
            limits,
            cache: self.cache.map(|own| own.over(cache)),
            config,
        };
        Ok(ManifestComponent {
            id,
            wasm: self.wasm,
            settings,
            timeout,
            grants,
            presets: self.presets,
        })
    }
}

/// Parses a value from a string.
fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

/// Like [`parsed`], for an optional field.
fn parsed_if_there<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    parsed(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_of_a_quota_are_the_hosts() {
        let of = |own: &str| {
            let text =
                format!("quota = {{ bytes = 10, keys = 5 }}\n[[component]]\nid = 'a/b/c'\n{own}");
            let manifest: Manifest = text.parse().unwrap();
            manifest.components[0].settings.quota
        };
        let budget = |max_bytes, max_keys| Some(Budget { max_bytes, max_keys });
        assert_eq!(of(""), budget(10, 5));
        assert_eq!(of("quota = {}"), budget(10, 5));
        assert_eq!(of("quota = { keys = 7 }"), budget(10, 7));
        assert_eq!(of("quota = { bytes = 'none' }"), budget(u64::MAX, 5));
        assert_eq!(of("quota = { bytes = 'none', keys = 'none' }"), None);
    }
}
