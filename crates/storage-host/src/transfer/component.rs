//! A component whose keys are transferred, and what it may store.

use storage_core::{Budget, ComponentId, Usage, split_full_key};

use super::error::{CopyError, OverQuota};
use crate::host::ComponentSettings;

/// Returns the settings of a component, of which a transfer keeps the quota and the limits of
/// keys and values.
///
/// Unscoped keys, and components without a valid id, have no settings.
pub type SettingsOf<'a> = dyn Fn(&ComponentId) -> ComponentSettings + 'a;

/// The component of keys that follow each other.
pub(crate) struct Component {
    prefix: String,
    settings: Option<ComponentSettings>,
}

impl Component {
    /// The component of a full key.
    pub(crate) fn of(key: &str, settings: Option<&SettingsOf<'_>>) -> Self {
        let prefix = split_full_key(key).0.to_owned();
        let settings = settings.and_then(|settings| {
            let id: ComponentId = id_of(&prefix).parse().ok()?;
            Some(settings(&id))
        });
        Self { prefix, settings }
    }

    /// The component prefix; empty for unscoped keys.
    #[cfg(feature = "archive")]
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether a full key belongs to it.
    pub(crate) fn has(&self, key: &str) -> bool {
        split_full_key(key).0 == self.prefix
    }

    pub(crate) fn quota(&self) -> Option<Budget> {
        self.settings.as_ref()?.quota
    }

    /// Checks a full key and the length of its value against the limits.
    pub(crate) fn check(&self, key: &str, value_len: usize) -> Result<(), CopyError> {
        let Some(ComponentSettings { limits, .. }) = &self.settings else { return Ok(()) };
        let checked = limits.check_key(split_full_key(key).1);
        checked.and_then(|()| limits.check_value_len(value_len)).map_err(|error| {
            let (first, last) = (key.to_owned(), key.to_owned());
            CopyError::Write { first, last, error }
        })
    }

    /// The error of a quota that is exceeded.
    pub(crate) fn over_quota(&self, quota: Budget, needed: Option<Usage>) -> OverQuota {
        OverQuota { component: id_of(&self.prefix).to_owned(), quota, needed }
    }

    /// Checks the usage that it will have.
    #[cfg(feature = "archive")]
    pub(crate) fn check_usage(&self, usage: Usage) -> Result<(), OverQuota> {
        match self.quota() {
            Some(quota) if quota.allow(Usage::default(), usage).is_err() => {
                Err(self.over_quota(quota, Some(usage)))
            }
            _ => Ok(()),
        }
    }
}

/// The id of a component prefix, which may be invalid.
pub(crate) fn id_of(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}
