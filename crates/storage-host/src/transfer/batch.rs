//! Writes keys in batches of one component.

use storage_core::{Budget, Commit, StorageError, StorageValue, Store, Usage};

use super::component::{Component, SettingsOf};
use super::error::CopyError;

/// The maximum number of keys of a batch, which share the cost of one durable write.
const BATCH_KEYS: usize = 4096;

/// The maximum number of bytes of a batch of several values.
const BATCH_BYTES: u64 = 8 << 20;

/// Keys of one component that wait for being written together.
pub(crate) struct Batch<'a> {
    to: &'a dyn Store,
    settings: Option<&'a SettingsOf<'a>>,
    component: Option<Component>,
    keys: Vec<(String, StorageValue)>,
    bytes: u64,
}

impl<'a> Batch<'a> {
    /// Writes to `to`, and keeps the quotas and limits of `settings`.
    pub(crate) fn new(to: &'a dyn Store, settings: Option<&'a SettingsOf<'a>>) -> Self {
        Self { to, settings, component: None, keys: Vec::new(), bytes: 0 }
    }

    /// Adds a full key. Writes the batch before if it is full or of another component.
    pub(crate) fn add(&mut self, key: &str, value: StorageValue) -> Result<(), CopyError> {
        let usage = Usage::of(key, value.len());
        let is_full = self.keys.len() == BATCH_KEYS || self.bytes + usage.bytes > BATCH_BYTES;
        if is_full || !self.component.as_ref().is_some_and(|component| component.has(key)) {
            self.write()?;
        }
        let component = match &mut self.component {
            Some(component) => component,
            none => none.insert(Component::of(key, self.settings)),
        };
        component.check(key, value.len())?;
        self.keys.push((key.to_owned(), value));
        self.bytes += usage.bytes;
        Ok(())
    }

    /// Writes what waits, all or nothing.
    pub(crate) fn write(&mut self) -> Result<(), CopyError> {
        let component = self.component.take();
        let keys = std::mem::take(&mut self.keys);
        self.bytes = 0;
        let (Some((first, _)), Some((last, _))) = (keys.first(), keys.last()) else {
            return Ok(());
        };
        let (first, last) = (first.clone(), last.clone());
        let mut commit =
            keys.into_iter().fold(Commit::new(), |commit, (key, value)| commit.set(key, value));
        commit.budget = component.as_ref().and_then(Component::quota);
        match (self.to.commit(commit), component) {
            (Ok(_), _) => Ok(()),
            (Err(StorageError::QuotaExceeded), Some(component)) => {
                let quota = component.quota().unwrap_or(Budget::UNLIMITED);
                Err(component.over_quota(quota, None).into())
            }
            (Err(error), _) => Err(CopyError::Write { first, last, error }),
        }
    }
}
