//! The settings of a host in a TOML file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use storage_core::{Budget, ComponentId, Store, validate_key};

use crate::coherence::MIN_STALENESS;
use crate::component_config::ComponentConfig;
use crate::grants::{Access, Grant};
use crate::host::{ComponentSettings, StorageHost};
use crate::http_settings::{HttpSettings, OutgoingHost, Route};
use crate::limits::Limits;
use crate::manifest_http::{self, HttpTable};
use crate::manifest_rates::RateTable;
use crate::manifest_syntax::syntax_error;
use crate::rate::RateLimit;
use crate::store_url::StoreUrl;
use storage_cache::{CacheConfig, DEFAULT_MAX_STALENESS};

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
    /// How old a cached value may be if other hosts can write to the store, of components
    /// without their own setting.
    pub max_staleness: Duration,
    /// The settings of components without their own, and of those that are not named.
    pub defaults: ComponentSettings,
    /// The limits and timeouts of a server of the components that have routes.
    pub http: HttpSettings,
    /// The components, in the order of the file. No two have the same route.
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
    /// The requests that it gets as a component of `wasi:http`.
    pub routes: Vec<Route>,
    /// The hosts that it may send requests to.
    pub outgoing: Vec<OutgoingHost>,
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
    /// It is not TOML, or has an unknown field or an invalid value. Names the line, but does
    /// not quote it, because it may contain a secret.
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
        Ok(text.parse::<Self>()?.relative_to(path))
    }

    /// Resolves the files of the components relative to the directory of this file, which
    /// the manifest was read from.
    #[must_use]
    pub fn relative_to(mut self, file: impl AsRef<Path>) -> Self {
        let directory = file.as_ref().parent().unwrap_or(Path::new(""));
        for wasm in self.components.iter_mut().filter_map(|component| component.wasm.as_mut()) {
            *wasm = directory.join(&*wasm);
        }
        self
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
        let mut builder = StorageHost::builder(store)
            .defaults(self.defaults.clone())
            .max_staleness(self.max_staleness);
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
        let file: File = toml::from_str(text).map_err(|error| syntax_error(text, &error))?;
        file.resolve()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, deserialize_with = "parsed_if_there")]
    store: Option<StoreUrl>,
    cache: Option<CacheSetting<HostCache>>,
    #[serde(default)]
    quota: Quota,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    rate: RateTable,
    timeout: Option<Seconds>,
    #[serde(default)]
    http: HttpTable,
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
    #[serde(default)]
    rate: RateTable,
    timeout: Option<Seconds>,
    cache: Option<CacheSetting<CacheTable>>,
    #[serde(default, deserialize_with = "config")]
    config: BTreeMap<String, String>,
    #[serde(default)]
    grants: Vec<GrantTable>,
    #[serde(default)]
    presets: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "manifest_http::routes")]
    routes: Vec<Route>,
    #[serde(default, deserialize_with = "manifest_http::outgoing")]
    outgoing: Vec<OutgoingHost>,
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
pub(crate) enum Bound {
    Number(u64),
    Word(Word),
}

impl Bound {
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Word(Word::None) => u64::MAX,
        }
    }
}

/// A table of sizes and times, or `"off"`.
#[derive(Clone, Copy)]
enum CacheSetting<T> {
    Off,
    Table(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for CacheSetting<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OffOrTable<T>(PhantomData<T>);

        // By hand: an untagged enum would hide which field of the table is wrong.
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OffOrTable<T> {
            type Value = CacheSetting<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table, or \"off\" to read from the store each time")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
                match word {
                    "off" => Ok(CacheSetting::Off),
                    _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(table)).map(CacheSetting::Table)
            }
        }

        deserializer.deserialize_any(OffOrTable(PhantomData))
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostCache {
    #[serde(default)]
    shared: bool,
    max_entries: Option<usize>,
    max_size_bytes: Option<usize>,
    ttl: Option<Seconds>,
    max_staleness: Option<Staleness>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheTable {
    max_entries: Option<usize>,
    max_size_bytes: Option<usize>,
    ttl: Option<Seconds>,
    max_staleness: Option<Staleness>,
}

/// A maximum staleness in seconds, which may have decimals.
#[derive(Clone, Copy)]
struct Staleness(Duration);

impl<'de> Deserialize<'de> for Staleness {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time >= MIN_STALENESS => Ok(Self(time)),
            _ => Err(serde::de::Error::custom(format_args!(
                "max_staleness is {seconds}: use at least {} seconds, or cache = \"off\" to read \
                 from the store each time",
                MIN_STALENESS.as_secs_f64()
            ))),
        }
    }
}

impl CacheTable {
    /// Whether it asks for a cache of the component's own: it says more than how old a value
    /// of the host's cache may be.
    fn is_own(&self) -> bool {
        let says_size = self.max_entries.is_some() || self.max_size_bytes.is_some();
        says_size || self.ttl.is_some() || self.max_staleness.is_none()
    }

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
pub(crate) enum Word {
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
        let (cache, shared, max_staleness) = match self.cache {
            Some(CacheSetting::Off) => (CacheConfig::off(), false, None),
            Some(CacheSetting::Table(table)) => {
                let HostCache { shared, max_entries, max_size_bytes, ttl, max_staleness } = table;
                let table = CacheTable { max_entries, max_size_bytes, ttl, max_staleness };
                (table.over(&CacheConfig::default()), shared, max_staleness)
            }
            None => (CacheConfig::default(), false, None),
        };
        let rate = self.rate.over(&RateLimit::default());
        let defaults = ComponentSettings {
            quota: self.quota.over(None),
            limits: self.limits.over(Limits::default()),
            rate: rate.map_err(|error| ManifestError::Contradiction(format!("rate: {error}")))?,
            ..ComponentSettings::default()
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
        manifest_http::check_routes(&components)?;
        Ok(Manifest {
            store: self.store,
            cache,
            shares_cache: shared,
            max_staleness: max_staleness.map_or(DEFAULT_MAX_STALENESS, |Staleness(time)| time),
            defaults,
            http: self.http.resolve()?,
            components,
        })
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
        // A component may have a cache although the host has none.
        let base = if cache.is_off() { &CacheConfig::default() } else { cache };
        let (cache, max_staleness) = match self.cache {
            Some(CacheSetting::Off) => (Some(CacheConfig::off()), None),
            Some(CacheSetting::Table(own)) => {
                let cache = (own.is_own() || cache.is_off()).then(|| own.over(base));
                (cache, own.max_staleness.map(|Staleness(time)| time))
            }
            None => (None, None),
        };
        let quota = self.quota.over(defaults.quota);
        let rate = self.rate.over(&defaults.rate).map_err(|error| {
            ManifestError::Contradiction(format!("rate of component {id}: {error}"))
        })?;
        let settings = ComponentSettings { quota, limits, rate, cache, max_staleness, config };
        Ok(ManifestComponent {
            id,
            wasm: self.wasm,
            settings,
            timeout,
            grants,
            presets: self.presets,
            routes: self.routes,
            outgoing: self.outgoing,
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

/// Reads a configuration. Unlike the errors of serde, these do not show a value: it may be a
/// secret.
fn config<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let wrong = |what: &str, value: &toml::Value| {
        let kind = value.type_str();
        serde::de::Error::custom(format!("{what}; it has the type {kind}"))
    };
    let table = match toml::Value::deserialize(deserializer)? {
        toml::Value::Table(table) => table,
        other => return Err(wrong("config must be a table of texts", &other)),
    };
    let text = |(name, value)| match value {
        toml::Value::String(text) => Ok((name, text)),
        other => {
            Err(wrong(&format!("the value of {name:?} in config must be text in quotes"), &other))
        }
    };
    table.into_iter().map(text).collect()
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

    #[test]
    fn a_cache_is_off_or_has_sizes_and_a_maximum_staleness() {
        let of = |host: &str, own: &str| {
            let text = format!("{host}\n[[component]]\nid = 'a/b/c'\n{own}");
            let manifest: Manifest = text.parse().unwrap();
            let settings = manifest.components[0].settings.clone();
            let own = settings.cache.map(|cache| cache.max_entries);
            (manifest.cache.max_entries, manifest.max_staleness, own, settings.max_staleness)
        };
        let (second, half) = (Duration::from_secs(1), Duration::from_millis(500));
        assert_eq!(of("", ""), (10_000, second, None, None));
        assert_eq!(of("cache = 'off'", ""), (0, second, None, None));
        assert_eq!(of("cache.max_staleness = 2", ""), (10_000, 2 * second, None, None));
        assert_eq!(of("", "cache = 'off'"), (10_000, second, Some(0), None));
        assert_eq!(of("", "cache.max_staleness = 0.5"), (10_000, second, None, Some(half)));
        assert_eq!(of("cache = 'off'", "cache = {}"), (0, second, Some(10_000), None));
        let both = "cache = { max_entries = 7, max_staleness = 0.5 }";
        assert_eq!(of("", both), (10_000, second, Some(7), Some(half)));
        // A host without a cache has none to share.
        assert_eq!(of("cache = 'off'", "cache.max_staleness = 2").2, Some(10_000));
    }

    #[test]
    fn errors_in_a_cache_say_what_is_possible() {
        let error = |text: &str| text.parse::<Manifest>().unwrap_err().to_string();
        for text in ["cache = 'of'", "[[component]]\nid = 'a/b/c'\ncache = 'of'"] {
            assert!(
                error(text).contains("expected a table, or \"off\" to read from"),
                "{}",
                error(text)
            );
        }
        assert!(error("cache.sise = 1").contains("unknown field `sise`"));
        assert!(error("cache = 1").contains("a table, or \"off\""));
        for time in ["0", "0.05", "-1", "nan", "inf"] {
            let message = error(&format!("cache.max_staleness = {time}"));
            assert!(message.contains("use at least 0.1 seconds, or cache = \"off\""), "{message}");
        }
        assert!(error("cache.max_staleness = 'none'").contains("expected a number"));
    }
}
