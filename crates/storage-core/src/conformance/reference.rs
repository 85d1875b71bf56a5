//! The contract in its plainest form.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    Commit, ComponentStorage, KeyPage, PageRequest, Revision, SnapshotVisitor, StorageError,
    StorageValue, Usage, VersionedValue, derived, split_full_key, validate_full_key,
};

/// An ordered map behind one lock: the whole contract, as simply as it can be
/// said.
///
/// It is for examples, for tests of decorators, and for comparison with a real
/// backend. It is not meant to be fast.
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
    fn next_revision(&mut self) -> Revision {
        self.last_revision += 1;
        Revision::new(self.last_revision)
    }

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

    /// What a partition uses, in its own keys.
    fn partition_usage(&self, partition: &str) -> Usage {
        self.keys
            .iter()
            .map(|(key, found)| (split_full_key(key), found.value.len()))
            .filter(|((of, _), _)| *of == partition)
            .map(|((_, own), len)| Usage::of(own, len))
            .sum()
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for ReferenceStorage {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(self.get_versioned(key)?.map(|found| found.value))
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.put(key, value).map(drop)
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
        let wanted = request.limit.saturating_add(1);
        let keys = state.range(request).take(wanted).map(|(key, _)| key.to_owned()).collect();
        Ok(KeyPage::cut(keys, request.limit))
    }

    fn list_partitions(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        derived::partitions_from_listing(self, after, limit)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        derived::get_many(self, keys)
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        let request = PageRequest::new(usize::MAX).with_prefix(prefix.unwrap_or_default());
        Ok(self.state().range(request).map(|(key, value)| Usage::of(key, value.len())).sum())
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

    fn try_get(&self, key: &str) -> Option<Option<StorageValue>> {
        validate_full_key(key).ok()?;
        let state = self.state.try_lock().ok()?;
        Some(state.keys.get(key).map(|found| found.value.clone()))
    }

    fn recall(&self, _partition: &str, _own_key: &str) -> Option<Option<StorageValue>> {
        None
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        validate_full_key(key)?;
        Ok(self.state().keys.get(key).cloned())
    }

    fn put(&self, key: &str, value: StorageValue) -> Result<Revision, StorageError> {
        self.commit(Commit::new().set(key, value))
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        commit.keys().try_for_each(validate_full_key)?;
        let budget = match &commit.budget {
            Some(budget) => Some((budget, commit.single_partition()?)),
            None => None,
        };
        let mut state = self.state();
        for check in &commit.checks {
            let found = state.keys.get(&check.key);
            check.verify(found.map(|found| (&found.value, found.revision)))?;
        }
        let writes = commit.effective_writes();
        if let Some((budget, partition)) = budget {
            let before = state.partition_usage(partition);
            let mut after = before;
            for write in &writes {
                let (_, own) = split_full_key(&write.key);
                if let Some(old) = state.keys.get(&write.key) {
                    after = after - Usage::of(own, old.value.len());
                }
                if let Some(new) = &write.value {
                    after = after + Usage::of(own, new.len());
                }
            }
            budget.allow(before, after)?;
        }
        let revision = state.next_revision();
        for write in writes {
            state.write(&write.key, write.value.clone(), revision);
        }
        Ok(revision)
    }
}
