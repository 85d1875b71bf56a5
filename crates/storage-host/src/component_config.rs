//! The configuration of a component, as `wasi:config` shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use storage_core::StorageError;

type Entry = (Arc<str>, Arc<str>);

/// The configuration that an operator gives a component: texts under names. A component
/// reads it through `wasi:config` and cannot change it.
///
/// Its size is bounded, so that a component can read it in one call. A clone shares
/// the texts. `Debug` shows the names only, because values may be secrets.
///
/// ```
/// use storage_host::{ComponentConfig, ComponentSettings};
///
/// let config = ComponentConfig::new([("greeting", "hello"), ("port", "80")])?;
/// assert_eq!(config.get("greeting"), Some("hello"));
/// assert_eq!(config.get("Greeting"), None);
/// let settings = ComponentSettings { config, ..ComponentSettings::default() };
/// # Ok::<(), storage_host::StorageError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ComponentConfig {
    /// In the order of the names.
    entries: Arc<[Entry]>,
}

impl ComponentConfig {
    /// The most entries.
    pub const MAX_ENTRIES: usize = 1_000;

    /// The most bytes of all names and values together.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Creates a configuration. If a name occurs twice, the last value counts.
    ///
    /// # Errors
    /// [`StorageError::LimitExceeded`] for more than [`MAX_ENTRIES`](Self::MAX_ENTRIES)
    /// or [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn new<N, V>(entries: impl IntoIterator<Item = (N, V)>) -> Result<Self, StorageError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let entries = entries.into_iter();
        let entries: BTreeMap<Arc<str>, Arc<str>> =
            entries.map(|(name, value)| (name.as_ref().into(), value.as_ref().into())).collect();
        let bytes = entries.iter().map(|(name, value)| name.len() + value.len()).sum();
        for (limit, max, actual) in [
            ("entries of a configuration", Self::MAX_ENTRIES, entries.len()),
            ("bytes of a configuration", Self::MAX_BYTES, bytes),
        ] {
            if actual > max {
                let (max, actual) = (max as u64, actual as u64);
                return Err(StorageError::LimitExceeded { limit, max, actual });
            }
        }
        Ok(Self { entries: entries.into_iter().collect() })
    }

    /// Returns the value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).map(|value| &**value)
    }

    /// Returns all names and values, in the byte order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The shared value of a name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<str>> {
        let found = self.entries.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        self.entries.get(found).map(|(_, value)| value)
    }

    /// The shared entries.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn entries(&self) -> &Arc<[Entry]> {
        &self.entries
    }
}

impl fmt::Debug for ComponentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_their_whole_name_and_ordered() {
        let config = ComponentConfig::new([("b", "2"), ("a", "1"), ("", "none"), ("b", "3")]);
        let config = config.unwrap();
        assert_eq!(config.iter().collect::<Vec<_>>(), [("", "none"), ("a", "1"), ("b", "3")]);
        for (name, value) in
            [("", Some("none")), ("a", Some("1")), ("b", Some("3")), ("aa", None), ("c", None)]
        {
            assert_eq!(config.get(name), value, "{name:?}");
        }
    }

    #[test]
    fn values_are_not_shown() {
        let config = ComponentConfig::new([("token", "s3cret")]).unwrap();
        assert_eq!(format!("{config:?}"), r#"{"token"}"#);
    }

    #[test]
    fn the_size_is_bounded() {
        let of = |count: usize, bytes: usize| {
            let value = "v".repeat(bytes);
            ComponentConfig::new((0..count).map(|n| (format!("{n:04}"), value.as_str())))
        };
        assert_eq!(of(1_000, 1).unwrap().iter().count(), 1_000);
        let entries = of(1_001, 1).unwrap_err().to_string();
        assert_eq!(entries, "1001 entries of a configuration are over the limit of 1000");
        assert!(of(1, (1 << 20) - 4).is_ok());
        let bytes = of(1, (1 << 20) - 3).unwrap_err().to_string();
        assert_eq!(bytes, "1048577 bytes of a configuration are over the limit of 1048576");
    }
}
