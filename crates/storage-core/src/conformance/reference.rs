//! The contract in its simplest form.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    Commit, CommitView, Compacted, ComponentStorage, KeyPage, PageRequest, Problem, Revision,
    SharedStore, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties, Usage,
    Verified, VersionedValue, derived, join_key, split_full_key, validate_full_key,
};

/// An ordered map behind one lock: the whole contract in its simplest form.
///
/// Use it in examples, in tests of decorators, and to compare backends with. It is
/// not fast.
#[derive(Debug, Default)]
pub struct ReferenceStorage {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<String, VersionedValue>,
    last_revision: u64,
}

impl ReferenceStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, key: &str, value: Option<StorageValue>, revision: Revision) {
        match value {
            Some(value) => {
                self.keys.insert(key.to_owned(), VersionedValue { value, revision });
            }
            None => {
                self.keys.remove(key);
            }
        }
    }

    fn range<'a>(
        &'a self,
        request: PageRequest<'a>,
    ) -> impl Iterator<Item = (&'a str, &'a StorageValue)> {
        let start = match request.after {
            Some(after) if after >= request.prefix => Bound::Excluded(after),
            _ => Bound::Included(request.prefix),
        };
        self.keys
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(request.prefix))
            .map(|(key, found)| (key.as_str(), &found.value))
    }

    /// The usage of a component, in user keys.
    fn usage_of(&self, component: &str) -> Usage {
        self.keys
            .iter()
            .map(|(key, found)| (split_full_key(key), found.value.len()))
            .filter(|((prefix, _), _)| *prefix == component)
            .map(|((_, user_key), len)| Usage::of(user_key, len))
            .sum()
    }
}

impl CommitView for &State {
    type Error = StorageError;

    fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        Ok(self.keys.get(key).cloned())
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for ReferenceStorage {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(self.get_versioned(key)?.map(|found| found.value))
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.commit(Commit::new().set(key, value)).map(drop)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.commit(Commit::new().delete(key)).map(drop)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.get_versioned(key)?.is_some())
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let request = PageRequest::new(usize::MAX).with_prefix(prefix.unwrap_or_default());
        Ok(self.list_page(request)?.keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        let state = self.state();
        let keys = state.range(request).map(|(key, _)| key.to_owned());
        Ok(KeyPage::cut(keys, request.limit))
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        derived::get_many(self, keys)
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        let request = PageRequest::new(usize::MAX).with_prefix(prefix.unwrap_or_default());
        Ok(self.state().range(request).map(|(key, value)| Usage::of(key, value.len())).sum())
    }

    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        let key = join_key(prefix, key);
        validate_full_key(&key).ok()?;
        let state = self.state.try_lock().ok()?;
        Some(state.keys.get(&*key).map(|found| found.value.clone()))
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        validate_full_key(key)?;
        Ok(self.state().keys.get(key).cloned())
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        commit.keys().try_for_each(validate_full_key)?;
        let budgeted = commit.budgeted_component()?;
        let mut state = self.state();
        let evaluation = commit.evaluate(&mut &*state)?;
        if let Some(component) = budgeted {
            let before = state.usage_of(component);
            evaluation.change(component).apply(before, commit.budget.as_ref())?;
        }
        state.last_revision += 1;
        let revision = Revision::new(state.last_revision);
        for write in evaluation.writes {
            state.write(&write.key, write.value.clone(), revision);
        }
        Ok(revision)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for ReferenceStorage {
    fn properties(&self) -> StoreProperties {
        // It answers from memory, but a host must put its cache in front of it as it does
        // for a store on disk, which it stands for in tests.
        StoreProperties::new("reference")
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        derived::list_components(self, after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let state = self.state();
        let request = PageRequest { prefix, after, limit: usize::MAX };
        let found: Vec<_> =
            state.range(request).map(|(key, value)| (key.to_owned(), value.clone())).collect();
        drop(state);
        found.into_iter().try_for_each(|(key, value)| visit(&key, value))
    }

    fn flush(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn verify(&self, _report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        let components = self.list_components(None, usize::MAX)?.keys.len() as u64;
        Ok(Verified { usage: self.usage(None)?, components, ..Verified::default() })
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        Err(derived::no_compact())
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}
