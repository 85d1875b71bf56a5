//! Storage in the memory of the process.

mod commit;
mod component;

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use dashmap::DashMap;
use dashmap::try_result::TryResult;
use foldhash::fast::RandomState;
use storage_core::{
    Commit, Compacted, ComponentStorage, KeyPage, MAX_FULL_KEY_BYTES, PageRequest, Problem,
    Revision, SharedStore, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties,
    Usage, UsageChange, Verified, VersionedValue, Write, join_key, split_full_key,
    validate_full_key,
};

use self::commit::Locked;
use self::component::{Component, start_of};
use crate::component_index::{self, ComponentIndex, Prefixes};
use crate::first_revision::first_revision;

/// Storage in the memory of the process: fast, and lost when the process ends.
///
/// It implements the whole contract, including revisions and commits. It keeps the keys of
/// each component apart, so components do not wait for each other and a listing scans the
/// keys of one component only.
///
/// ```
/// use storage_backends::MemoryStorage;
/// use storage_core::ComponentStorage;
///
/// let storage = MemoryStorage::new();
/// storage.set("app/notes/home/1", "buy milk".into())?;
/// assert_eq!(storage.list_keys(Some("app/notes/home/"))?, ["app/notes/home/1"]);
/// # Ok::<(), storage_core::StorageError>(())
/// ```
#[derive(Debug)]
pub struct MemoryStorage {
    /// By prefix.
    ///
    /// The order of locks: a shard of the map, components by prefix, `prefixes`. A thread
    /// that holds a shard does not wait for a component that may be locked for long, except
    /// to remove it.
    components: DashMap<Box<str>, Arc<RwLock<Component>>, RandomState>,
    /// The prefixes of the components that hold a key, without the empty one. A prefix is
    /// added with the first key and removed with the last, under the lock of its component.
    prefixes: RwLock<BTreeSet<Arc<str>>>,
    last_revision: AtomicU64,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self {
            components: DashMap::default(),
            prefixes: RwLock::default(),
            // A caller may still hold a revision of an earlier store.
            last_revision: AtomicU64::new(first_revision(0)),
        }
    }
}

impl MemoryStorage {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The component with a prefix, if it exists. Returns it unlocked, so that no caller
    /// waits for its lock while it holds a shard.
    fn component(&self, prefix: &str) -> Option<Arc<RwLock<Component>>> {
        self.components.get(prefix).map(|found| Arc::clone(&found))
    }

    fn component_or_new(&self, prefix: &str) -> Arc<RwLock<Component>> {
        match self.component(prefix) {
            Some(found) => found,
            None => Arc::clone(&self.components.entry(prefix.into()).or_default()),
        }
    }

    /// Removes the component from the map if it holds no key.
    ///
    /// No write is lost: an earlier one has added a key, and a later one finds the
    /// component marked as removed. Every writer that leaves a component empty calls this
    /// after it has unlocked it, so the last one removes it.
    fn remove_if_empty(&self, prefix: &str) {
        self.components.remove_if(prefix, |_, component| {
            let mut component = write(component);
            component.removed = component.is_empty();
            component.removed
        });
    }

    /// All keys and values that match the request, or `None` if a component was added or
    /// removed before all of them were locked. Values are shared, not copied.
    fn try_snapshot(&self, request: PageRequest<'_>) -> Option<Vec<(String, StorageValue)>> {
        let (only, _) = split_full_key(request.prefix);
        let prefixes = || -> Vec<Arc<str>> {
            if only.is_empty() {
                read(&self.prefixes).iter().cloned().collect()
            } else {
                Vec::new()
            }
        };
        let before = prefixes();
        let components: Vec<(&str, Arc<RwLock<Component>>)> = std::iter::once(only)
            .chain(before.iter().map(|prefix| &**prefix))
            .filter_map(|prefix| Some((prefix, self.component(prefix)?)))
            .collect();
        // A commit locks all of its components while it writes, so no commit is in progress
        // when all are locked. A commit that adds a component has either added its prefix
        // by now or has not written yet.
        let locked: Vec<_> = components.iter().map(|(prefix, one)| (*prefix, read(one))).collect();
        if prefixes() != before || locked.iter().any(|(_, component)| component.removed) {
            return None;
        }
        let mut found: Vec<(String, StorageValue)> = locked
            .iter()
            .flat_map(|(prefix, component)| {
                component.iter().map(move |(user_key, found)| (prefix, user_key, found))
            })
            .map(|(prefix, user_key, found)| ([prefix, user_key].concat(), found.value.clone()))
            .filter(|(key, _)| request.wants(key))
            .collect();
        drop(locked);
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Some(found)
    }

    /// Changes one key of a locked component.
    fn change(
        &self,
        prefix: &str,
        component: &mut Component,
        user_key: &str,
        value: Option<StorageValue>,
        revision: Revision,
    ) {
        let had_keys = !component.is_empty();
        component.write(user_key, value, revision);
        let has_keys = !component.is_empty();
        if had_keys != has_keys && !prefix.is_empty() {
            let mut prefixes = write(&self.prefixes);
            if has_keys {
                prefixes.insert(prefix.into());
            } else {
                prefixes.remove(prefix);
            }
        }
    }

    fn next_revision(&self) -> Revision {
        // The caller holds the locks of everything it writes, which order the writes to a
        // key. So the counter needs no ordering of its own.
        Revision::new(self.last_revision.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Runs `look` on a key, if no lock makes it wait.
    #[inline]
    fn look<T>(
        &self,
        prefix: &str,
        user_key: &str,
        look: impl FnOnce(&VersionedValue) -> T,
    ) -> Looked<T> {
        match self.components.try_get(prefix) {
            // The shard stays locked, which is cheaper than a reference to the component.
            TryResult::Present(component) => match component.try_read() {
                Ok(component) => Looked::Found(component.get(user_key).map(look)),
                Err(TryLockError::Poisoned(poisoned)) => {
                    Looked::Found(poisoned.into_inner().get(user_key).map(look))
                }
                Err(TryLockError::WouldBlock) => Looked::Locked,
            },
            TryResult::Absent => Looked::NoComponent,
            TryResult::Locked => Looked::Locked,
        }
    }

    /// Runs `look` on a key.
    fn find<T>(
        &self,
        key: &str,
        look: impl Fn(&VersionedValue) -> T,
    ) -> Result<Option<T>, StorageError> {
        validate_full_key(key)?;
        let (prefix, user_key) = split_full_key(key);
        match self.look(prefix, user_key, &look) {
            Looked::Found(found) => Ok(found),
            Looked::NoComponent => Ok(None),
            Looked::Locked => {
                let Some(component) = self.component(prefix) else { return Ok(None) };
                let found = read(&component).get(user_key).map(look);
                Ok(found)
            }
        }
    }

    /// Changes a component, which is created if it does not exist.
    fn write_to<T>(&self, prefix: &str, change: impl FnOnce(&mut Component) -> T) -> T {
        // While its shard is locked, a component is not removed.
        if let Some(component) = self.components.get(prefix)
            && let Ok(mut component) = component.try_write()
        {
            return change(&mut component);
        }
        loop {
            let component = self.component_or_new(prefix);
            let mut component = write(&component);
            if !component.removed {
                return change(&mut component);
            }
        }
    }

    /// Applies a commit whose keys all belong to one component.
    fn commit_to_one(&self, prefix: &str, commit: &Commit) -> Result<Revision, StorageError> {
        let (result, is_empty) = self.write_to(prefix, |component| {
            let result = match commit.writes.as_slice() {
                [write] => self.apply_one(prefix, component, commit, write),
                _ => {
                    let has_budget = commit.budget.is_some();
                    self.apply(&mut Locked::one(prefix, component, has_budget), commit)
                }
            };
            (result, component.is_empty())
        });
        if is_empty {
            self.remove_if_empty(prefix);
        }
        result
    }

    /// Applies a commit to several components.
    fn commit_to_several(&self, commit: &Commit) -> Result<Revision, StorageError> {
        let prefixes: BTreeSet<&str> = commit.keys().map(|key| split_full_key(key).0).collect();
        loop {
            // Also creates the components that are only checked: their locks keep absent
            // keys absent until the writes are done.
            let components =
                prefixes.iter().map(|prefix| (*prefix, self.component_or_new(prefix))).collect();
            let has_budget = commit.budget.is_some();
            let Some(mut locked) = Locked::several(&components, has_budget) else { continue };
            let result = self.apply(&mut locked, commit);
            let empty = locked.empty();
            drop(locked);
            for prefix in empty {
                self.remove_if_empty(prefix);
            }
            return result;
        }
    }

    /// Applies a commit with one write to a locked component that has all of its keys. The
    /// same as [`apply`](Self::apply) without lists of writes and of changes.
    fn apply_one(
        &self,
        prefix: &str,
        component: &mut Component,
        commit: &Commit,
        write: &Write,
    ) -> Result<Revision, StorageError> {
        fn user_key<'k>(full: &'k str, prefix: &str) -> &'k str {
            full.get(prefix.len()..).unwrap_or_default()
        }
        for check in &commit.checks {
            let found = component.get(user_key(&check.key, prefix));
            check.verify(found.map(|found| (&found.value, found.revision)))?;
        }
        let user_key = user_key(&write.key, prefix);
        if let (Some(budget), Some(new)) = (&commit.budget, &write.value) {
            let old_len = component.get(user_key).map(|found| found.value.len());
            let change = UsageChange::of(user_key, old_len, Some(new.len()));
            change.apply(component.usage(), Some(budget))?;
        }
        let revision = self.next_revision();
        self.change(prefix, component, user_key, write.value.clone(), revision);
        Ok(revision)
    }

    /// Applies a commit to locked components.
    fn apply(&self, locked: &mut Locked<'_>, commit: &Commit) -> Result<Revision, StorageError> {
        let evaluation = commit.evaluate(locked)?;
        if let Some(prefix) = commit.budgeted_component()? {
            let before = locked.component(prefix).map(Component::usage).unwrap_or_default();
            evaluation.change(prefix).apply(before, commit.budget.as_ref())?;
        }
        // Nothing fails from here on.
        let revision = self.next_revision();
        for write in evaluation.writes {
            let (prefix, user_key) = split_full_key(&write.key);
            if let Some(component) = locked.component_mut(prefix) {
                self.change(prefix, component, user_key, write.value.clone(), revision);
            }
        }
        Ok(revision)
    }
}

/// What a look at a key found.
enum Looked<T> {
    /// Its component, and perhaps the key.
    Found(Option<T>),
    NoComponent,
    /// A lock that another thread holds.
    Locked,
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for MemoryStorage {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        self.find(key, |found| found.value.clone())
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        validate_full_key(key)?;
        let (prefix, user_key) = split_full_key(key);
        self.write_to(prefix, |component| {
            let revision = self.next_revision();
            self.change(prefix, component, user_key, Some(value), revision);
        });
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        validate_full_key(key)?;
        let (prefix, user_key) = split_full_key(key);
        // A component that is missing or was removed has no such key. The delete still
        // gets a revision.
        let revision = self.next_revision();
        let Some(component) = self.component(prefix) else { return Ok(()) };
        let mut locked = write(&component);
        self.change(prefix, &mut locked, user_key, None, revision);
        let is_empty = locked.is_empty();
        drop(locked);
        if is_empty {
            self.remove_if_empty(prefix);
        }
        Ok(())
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.find(key, |_| ())?.is_some())
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let all = PageRequest::new(usize::MAX).with_prefix(prefix.unwrap_or_default());
        Ok(component_index::list_page(self, all)?.keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        component_index::list_page(self, request)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        keys.iter().try_for_each(|key| validate_full_key(key))?;
        let mut values = Vec::with_capacity(keys.len());
        // Adjacent keys of one component, the usual case, are read under one lock.
        for run in keys.chunk_by(|a, b| split_full_key(a).0 == split_full_key(b).0) {
            let prefix = run.first().map_or("", |key| split_full_key(key).0);
            let component = self.component(prefix).unwrap_or_default();
            let component = read(&component);
            let value_of = |key: &&str| component.get(split_full_key(key).1);
            values.extend(run.iter().map(|key| value_of(key).map(|found| found.value.clone())));
        }
        Ok(values)
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        component_index::usage(self, prefix)
    }

    #[inline]
    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        // The usual case: the prefix is that of a component with keys. Then it is valid.
        if !prefix.is_empty() {
            match self.look(prefix, key, |found| found.value.clone()) {
                Looked::Found(Some(value)) => return Some(Some(value)),
                Looked::Found(None) => {
                    let is_short = prefix.len() + key.len() <= MAX_FULL_KEY_BYTES;
                    let is_valid = key.is_empty() || validate_full_key(key).is_ok();
                    return (is_short && is_valid).then_some(None);
                }
                Looked::Locked => return None,
                Looked::NoComponent => {}
            }
        }
        let joined = join_key(prefix, key);
        validate_full_key(&joined).ok()?;
        let (prefix, user_key) = split_full_key(&joined);
        match self.look(prefix, user_key, |found| found.value.clone()) {
            Looked::Found(found) => Some(found),
            Looked::NoComponent => Some(None),
            Looked::Locked => None,
        }
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.find(key, VersionedValue::clone)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        commit.keys().try_for_each(validate_full_key)?;
        commit.budgeted_component()?;
        let mut prefixes = commit.keys().map(|key| split_full_key(key).0);
        let first = prefixes.next().unwrap_or_default();
        if prefixes.all(|prefix| prefix == first) {
            self.commit_to_one(first, &commit)
        } else {
            self.commit_to_several(&commit)
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for MemoryStorage {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("memory").with_may_block(false)
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        component_index::list_components(self, after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let request = PageRequest { prefix, after, limit: usize::MAX };
        let found = loop {
            if let Some(found) = self.try_snapshot(request) {
                break found;
            }
        };
        found.into_iter().try_for_each(|(key, value)| visit(&key, value))
    }

    fn flush(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn verify(&self, _report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        let mut verified = Verified::default();
        verified.usage = self.usage(None)?;
        verified.components = read(&self.prefixes).len() as u64;
        Ok(verified)
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        Err(StorageError::Unsupported("a store in memory has nothing to compact".into()))
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

impl ComponentIndex for MemoryStorage {
    fn prefixes(
        &self,
        prefix: &str,
        from: Bound<&str>,
        limit: usize,
    ) -> Result<Prefixes, StorageError> {
        let prefixes = read(&self.prefixes);
        let range = (start_of(prefix, from), Bound::Unbounded);
        let prefixes = prefixes.range::<str, _>(range).take_while(|one| one.starts_with(prefix));
        Ok(Prefixes { found: prefixes.take(limit).cloned().collect(), stopped_by: None })
    }

    fn keys_in(
        &self,
        component: &str,
        request: PageRequest<'_>,
        found: &mut Vec<String>,
    ) -> Result<(), StorageError> {
        if let Some(handle) = self.component(component) {
            let keys = read(&handle);
            found.extend(
                keys.keys(request).take(request.limit).map(|key| [component, key].concat()),
            );
        }
        Ok(())
    }

    fn usage_in(&self, component: &str, prefix: &str) -> Result<Usage, StorageError> {
        let Some(handle) = self.component(component) else { return Ok(Usage::default()) };
        let keys = read(&handle);
        if prefix.is_empty() {
            return Ok(keys.usage());
        }
        let request = PageRequest::new(usize::MAX).with_prefix(prefix);
        let usage_of = |key| keys.get(key).map(|found| Usage::of(key, found.value.len()));
        Ok(keys.keys(request).filter_map(usage_of).sum())
    }
}

/// Locks for reading. Poison is ignored: [`MemoryStorage::change`] does not panic, so no
/// thread can have panicked in the middle of a change.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing, like [`read`].
fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use storage_core::Budget;

    use super::*;

    #[test]
    fn empty_components_are_removed() {
        let storage = MemoryStorage::new();
        thread::scope(|scope| {
            for n in 0..3 {
                let storage = &storage;
                scope.spawn(move || {
                    for round in 0..2_000 {
                        let (a, b) = (format!("a/b/c/{n}"), format!("a/b/{}/{n}", round % 5));
                        storage
                            .commit(Commit::new().set(&*a, "".into()).set(&*b, "".into()))
                            .unwrap();
                        storage.delete(&a).unwrap();
                        storage.commit(Commit::new().delete(&*b).delete("none")).unwrap();
                        // Failed commits, reads and checks leave no component behind.
                        storage.commit(Commit::new().require_present("x/y/z/k")).unwrap_err();
                        storage.commit(Commit::new().require_absent("x/y/z/k")).unwrap();
                        let nothing = Budget { max_bytes: 0, max_keys: 0 };
                        let commit = Commit::new().set("u/v/w/k", "".into()).with_budget(nothing);
                        storage.commit(commit).unwrap_err();
                        assert_eq!(storage.get("q/r/s/k").unwrap(), None);
                        storage.delete("q/r/s/k").unwrap();
                    }
                });
            }
        });
        assert!(storage.components.is_empty(), "{:?}", storage.components);
        assert!(storage.prefixes.read().unwrap().is_empty());
    }

    /// A writer gets the component, the component is removed, then the writer gets its lock.
    #[test]
    fn a_writer_that_has_a_removed_component_gets_the_new_one() {
        type Call = fn(&MemoryStorage) -> Result<Revision, StorageError>;
        let calls: [Call; 2] = [
            |storage| storage_core::put(&storage, "a/b/c/k", "1".into()),
            |storage| storage.commit(Commit::new().set("a/b/c/k", "1".into())),
        ];
        for call in calls {
            let storage = MemoryStorage::new();
            let component = storage.component_or_new("a/b/c/");
            let mut locked = write(&component);
            thread::scope(|scope| {
                scope.spawn(|| call(&storage).unwrap());
                // The map, this thread and the writer have it.
                while Arc::strong_count(&component) < 3 {
                    thread::yield_now();
                }
                storage.components.remove("a/b/c/");
                locked.removed = true;
                drop(locked);
            });
            assert_eq!(storage.get("a/b/c/k").unwrap(), Some("1".into()));
            assert!(read(&component).is_empty());
        }
    }

    #[test]
    fn a_poisoned_lock_can_be_used() {
        let storage = MemoryStorage::new();
        storage.set("a/b/c/k", "1".into()).unwrap();
        let component = storage.component("a/b/c/").unwrap();
        let panicked = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let (_component, _prefixes) = (write(&component), write(&storage.prefixes));
                panic!("while both are locked");
            });
            thread.join()
        });
        assert!(panicked.is_err() && component.is_poisoned() && storage.prefixes.is_poisoned());
        assert_eq!(storage.get("a/b/c/k").unwrap(), Some("1".into()));
        assert_eq!(storage.try_get("", "a/b/c/k"), Some(Some("1".into())));
        storage.set("a/b/c/k", "2".into()).unwrap();
        storage.set("a/b/d/k", "3".into()).unwrap();
        storage.delete("a/b/c/k").unwrap();
        assert_eq!(storage.list_components(None, 9).unwrap().keys, ["a/b/d/"]);
    }

    #[test]
    fn try_get_does_not_wait() {
        let storage = MemoryStorage::new();
        storage.set("a/b/c/k", "1".into()).unwrap();
        let component = storage.component("a/b/c/").unwrap();
        let writing = write(&component);
        assert_eq!(storage.try_get("", "a/b/c/k"), None);
        // Other components are not affected.
        assert_eq!(storage.try_get("", "a/b/d/k"), Some(None));
        drop(writing);
        assert_eq!(storage.try_get("", "a/b/c/k"), Some(Some("1".into())));
        let shard = storage.components.get_mut("a/b/c/");
        assert_eq!(storage.try_get("", "a/b/c/k"), None);
        drop(shard);
        assert_eq!(storage.try_get("", "a/b/c/k"), Some(Some("1".into())));
    }
}
