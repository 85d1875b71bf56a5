//! The expected content of the components, in ordered maps.

use std::collections::BTreeMap;

use storage_core::{
    Budget, Commit, Expected, MAX_KEY_BYTES, Revision, StorageError, StorageValue, Usage,
};

use super::store::COMPONENTS;
use super::{MAX_BATCH, MAX_VALUE_BYTES};

/// Values, and their revisions if they are known.
pub(super) type Keys = BTreeMap<String, (StorageValue, Option<Revision>)>;

pub(super) struct Model {
    quota: Option<Budget>,
    keys: [Keys; COMPONENTS.len()],
    /// The largest revision so far.
    last: Option<Revision>,
}

impl Model {
    pub(super) fn new(quota: Option<Budget>) -> Self {
        Self { quota, keys: Default::default(), last: None }
    }

    pub(super) fn keys(&self, of: usize) -> &Keys {
        &self.keys[of]
    }

    pub(super) fn value(&self, of: usize, key: &str) -> Option<StorageValue> {
        self.keys[of].get(key).map(|(value, _)| value.clone())
    }

    pub(super) fn usage(&self, of: usize, prefix: &str) -> Usage {
        usage(&self.keys[of], prefix)
    }

    /// All full keys, in order.
    pub(super) fn full_keys(&self) -> Vec<String> {
        let full = |(id, keys): (&&str, &Keys)| -> Vec<String> {
            keys.keys().map(|key| format!("{id}/{key}")).collect()
        };
        let mut all: Vec<String> = COMPONENTS.iter().zip(&self.keys).flat_map(full).collect();
        all.sort();
        all
    }

    /// The prefixes of the components with keys, in order.
    pub(super) fn components(&self) -> Vec<&'static str> {
        let filled = COMPONENTS.iter().zip(&self.keys).filter(|(_, keys)| !keys.is_empty());
        let mut all: Vec<&str> = filled.map(|(id, _)| *id).collect();
        all.sort();
        all.into_iter().map(super::store::component_prefix).collect()
    }

    /// The expected result of a commit. Applies it if it succeeds.
    pub(super) fn write(&mut self, of: usize, commit: &Commit) -> Result<(), StorageError> {
        limits(commit)?;
        for key in commit.keys() {
            check_key(key)?;
        }
        let keys = &mut self.keys[of];
        for check in &commit.checks {
            let found = keys.get(&check.key);
            let key = || check.key.clone();
            match (&check.expected, found) {
                (Expected::Absent, None) | (Expected::Present, Some(_)) => {}
                (Expected::Absent, Some(_)) => return Err(StorageError::AlreadyExists(key())),
                (Expected::Present, None) => return Err(StorageError::NotFound(key())),
                (Expected::Value(wanted), Some((value, _))) if wanted == value => {}
                (Expected::Revision(wanted), Some((_, revision))) if Some(*wanted) == *revision => {
                }
                _ => return Err(StorageError::Conflict(key())),
            }
        }
        let mut after = keys.clone();
        apply(&mut after, commit);
        for budget in [commit.budget, self.quota].into_iter().flatten() {
            let (before, after) = (usage(keys, ""), usage(&after, ""));
            let grows = |before: u64, after: u64, max: u64| after > before && after > max;
            if grows(before.bytes, after.bytes, budget.max_bytes)
                || grows(before.keys, after.keys, budget.max_keys)
            {
                return Err(StorageError::QuotaExceeded);
            }
        }
        *keys = after;
        Ok(())
    }

    /// Records the revision of a write; an error if it is not above all earlier ones.
    pub(super) fn settle(
        &mut self,
        of: usize,
        key: &str,
        revision: Revision,
    ) -> Result<(), String> {
        let last = self.last.replace(revision);
        if last.is_some_and(|last| revision <= last) {
            return Err(format!("revision {revision} after {last:?}"));
        }
        if let Some((_, known)) = self.keys[of].get_mut(key) {
            *known = Some(revision);
        }
        Ok(())
    }

    /// Records the revision of a commit.
    pub(super) fn settle_commit(
        &mut self,
        of: usize,
        commit: &Commit,
        revision: Revision,
    ) -> Result<(), String> {
        if commit.writes.is_empty() {
            return Ok(());
        }
        self.settle(of, "", revision)?;
        for write in &commit.writes {
            if let Some((_, known)) = self.keys[of].get_mut(&write.key) {
                *known = Some(revision);
            }
        }
        Ok(())
    }
}

/// Checks the limits, in the order in which chains check them.
fn limits(commit: &Commit) -> Result<(), StorageError> {
    let over = || StorageError::LimitExceeded { limit: "", max: 0, actual: 0 };
    if commit.checks.len() + commit.writes.len() > MAX_BATCH {
        return Err(over());
    }
    for write in &commit.writes {
        let Some(value) = &write.value else { continue };
        if write.key.len() > MAX_KEY_BYTES {
            return Err(StorageError::InvalidKey(String::new()));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(over());
        }
    }
    Ok(())
}

pub(super) fn check_key(key: &str) -> Result<(), StorageError> {
    let allowed = !key.is_empty() && key.len() <= MAX_KEY_BYTES && !key.contains(char::is_control);
    if allowed { Ok(()) } else { Err(StorageError::InvalidKey(String::new())) }
}

/// Applies the writes of a commit in order.
pub(super) fn apply(keys: &mut Keys, commit: &Commit) {
    for write in &commit.writes {
        match &write.value {
            Some(value) => keys.insert(write.key.clone(), (value.clone(), None)),
            None => keys.remove(&write.key),
        };
    }
}

pub(super) fn usage(keys: &Keys, prefix: &str) -> Usage {
    let under = keys.iter().filter(|(key, _)| key.starts_with(prefix));
    under.map(|(key, (value, _))| Usage::of(key, value.len())).sum()
}
