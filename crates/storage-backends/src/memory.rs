//! Storage in the process's memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use dashmap::DashMap;
use dashmap::try_result::TryResult;
use storage_core::{
    Commit, CommitView, ComponentStorage, KeyPage, PageRequest, Problem, Revision, SnapshotVisitor,
    StorageError, StorageValue, Store, StoreProperties, Usage, Verified, VersionedValue, join_key,
    split_full_key, validate_full_key,
};

use crate::first_revision::first_revision;
use crate::partitions::{self, Names, Partitions};

/// Storage in the process's memory: fast, shared by all threads, gone when the
/// process ends.
///
/// Everything of the contract is there, revisions and commits too. Each
/// component's keys are kept apart, so components do not wait for each other
/// and a listing never walks the keys of others.
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
    partitions: DashMap<Box<str>, Arc<RwLock<Partition>>>,
    /// The names of the partitions that hold a key, but for `""`. A name comes
    /// and goes under the lock of its partition, with the first and last key.
    names: RwLock<BTreeSet<Arc<str>>>,
    last_revision: AtomicU64,
}

/// The keys of one component.
///
/// Locks are taken in this order: a shard of the map, partitions in the order of
/// their names, `names`. So nobody who holds a partition waits for a shard.
#[derive(Debug, Default)]
struct Partition {
    /// Own keys, without the partition's name.
    keys: BTreeMap<Box<str>, VersionedValue>,
    /// What `keys` add up to, in own keys.
    usage: Usage,
    /// Taken out of the map while it was empty: a writer that still has a
    /// handle must fetch the one that took its place.
    dropped: bool,
}

impl Partition {
    fn write(&mut self, own: &str, value: Option<StorageValue>, revision: Revision) {
        let added = value.as_ref().map_or_else(Usage::default, |new| Usage::of(own, new.len()));
        let replaced = match value {
            Some(value) => {
                let new = VersionedValue { value, revision };
                match self.keys.get_mut(own) {
                    Some(found) => Some(std::mem::replace(found, new)),
                    None => self.keys.insert(own.into(), new),
                }
            }
            None => self.keys.remove(own),
        };
        let removed = replaced.map_or_else(Usage::default, |old| Usage::of(own, old.value.len()));
        self.usage = self.usage + added - removed;
    }

    /// The own keys that a request asks for, its limit aside.
    fn range<'a>(
        &'a self,
        own: PageRequest<'a>,
    ) -> impl Iterator<Item = (&'a str, &'a VersionedValue)> {
        let start = start_of(own.prefix, own.after.map_or(Bound::Unbounded, Bound::Excluded));
        self.keys
            .range::<str, _>((start, Bound::Unbounded))
            .map(|(key, found)| (&**key, found))
            .take_while(move |(key, _)| key.starts_with(own.prefix))
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self {
            partitions: DashMap::default(),
            names: RwLock::default(),
            // A caller may still have a revision of the store before this one.
            last_revision: AtomicU64::new(first_revision(0)),
        }
    }
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// The partition, if it exists. Its lock is taken when no shard's is held
    /// any more: components that share a shard do not wait for each other.
    fn partition(&self, name: &str) -> Option<Arc<RwLock<Partition>>> {
        self.partitions.get(name).map(|found| Arc::clone(&found))
    }

    fn partition_or_new(&self, name: &str) -> Arc<RwLock<Partition>> {
        match self.partition(name) {
            Some(found) => found,
            None => Arc::clone(&self.partitions.entry(name.into()).or_default()),
        }
    }

    /// Takes the partition out of the map unless it holds a key.
    ///
    /// No write is lost: a writer that came before made it non-empty, and one
    /// that comes behind finds it marked. Every writer that leaves a partition
    /// empty comes here after it has unlocked it, so the last of them cleans up.
    fn drop_if_empty(&self, name: &str) {
        self.partitions.remove_if(name, |_, partition| {
            let mut partition = write(partition);
            partition.dropped = partition.keys.is_empty();
            partition.dropped
        });
    }

    /// Every key and value that the request wants, or `None` if a partition came
    /// or went before all of them were locked. Values are shared, not copied.
    fn at_one_moment(&self, request: PageRequest<'_>) -> Option<Vec<(String, StorageValue)>> {
        let (only, _) = split_full_key(request.prefix);
        let names = || -> Vec<Arc<str>> {
            if only.is_empty() { read(&self.names).iter().cloned().collect() } else { Vec::new() }
        };
        let before = names();
        let partitions: Vec<(&str, Arc<RwLock<Partition>>)> = std::iter::once(only)
            .chain(before.iter().map(|name| &**name))
            .filter_map(|name| Some((name, self.partition(name)?)))
            .collect();
        // A commit holds all of its partitions while it writes, so with all of
        // them locked none is half done; one that makes a new partition has
        // either named it by now or not written yet.
        let locked: Vec<_> = partitions.iter().map(|(name, one)| (*name, read(one))).collect();
        if names() != before || locked.iter().any(|(_, partition)| partition.dropped) {
            return None;
        }
        let mut found: Vec<(String, StorageValue)> = locked
            .iter()
            .flat_map(|(name, partition)| {
                partition.keys.iter().map(move |(own, found)| (name, own, found))
            })
            .map(|(name, own, found)| ([name, &**own].concat(), found.value.clone()))
            .filter(|(key, _)| request.wants(key))
            .collect();
        drop(locked);
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Some(found)
    }

    /// Changes one key of a locked partition.
    fn change(
        &self,
        name: &str,
        partition: &mut Partition,
        own: &str,
        value: Option<StorageValue>,
        revision: Revision,
    ) {
        let held_keys = !partition.keys.is_empty();
        partition.write(own, value, revision);
        let holds_keys = !partition.keys.is_empty();
        if held_keys != holds_keys && !name.is_empty() {
            let mut names = write(&self.names);
            if holds_keys {
                names.insert(name.into());
            } else {
                names.remove(name);
            }
        }
    }

    fn next_revision(&self) -> Revision {
        // The caller holds the locks of all that it writes, so the writes to a
        // key are ordered by its lock and the counter needs no order of its own.
        Revision::new(self.last_revision.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Applies checks, budget and writes to locked partitions, all or nothing.
    fn apply(&self, locked: &mut Locked<'_>, commit: &Commit) -> Result<Revision, StorageError> {
        let evaluation = commit.evaluate(locked)?;
        if let Some(component) = commit.budgeted_component()? {
            let before = locked.partition(component).map(|one| one.usage).unwrap_or_default();
            evaluation.change(component).apply(before, commit.budget.as_ref())?;
        }
        // From here on nothing fails, so that all of it happens.
        let revision = self.next_revision();
        for write in evaluation.writes {
            let (name, own) = split_full_key(&write.key);
            if let Some(partition) = locked.partition_mut(name) {
                self.change(name, partition, own, write.value.clone(), revision);
            }
        }
        Ok(revision)
    }
}

/// The partitions of a commit while it runs, ordered by name.
struct Locked<'a> {
    /// Whether the commit has a budget, for which its changes are counted.
    has_budget: bool,
    partitions: Vec<(&'a str, RwLockWriteGuard<'a, Partition>)>,
}

impl<'a> Locked<'a> {
    /// Locks the partitions, or answers `None` if one was dropped meanwhile.
    fn new(handles: &'a [(&'a str, Arc<RwLock<Partition>>)], has_budget: bool) -> Option<Self> {
        let mut partitions = Vec::with_capacity(handles.len());
        for (name, handle) in handles {
            let partition = write(handle);
            if partition.dropped {
                return None;
            }
            partitions.push((*name, partition));
        }
        Some(Self { has_budget, partitions })
    }

    fn partition(&self, name: &str) -> Option<&Partition> {
        let at = self.partitions.binary_search_by_key(&name, |(name, _)| name).ok()?;
        self.partitions.get(at).map(|(_, partition)| &**partition)
    }

    fn partition_mut(&mut self, name: &str) -> Option<&mut Partition> {
        let at = self.partitions.binary_search_by_key(&name, |(name, _)| name).ok()?;
        self.partitions.get_mut(at).map(|(_, partition)| &mut **partition)
    }

    fn stored(&self, key: &str) -> Option<&VersionedValue> {
        let (name, own) = split_full_key(key);
        self.partition(name)?.keys.get(own)
    }

    /// The names of the partitions that hold no key.
    fn empty(&self) -> Vec<&'a str> {
        let empty =
            |(_, partition): &&(_, RwLockWriteGuard<'_, Partition>)| partition.keys.is_empty();
        self.partitions.iter().filter(empty).map(|(name, _)| *name).collect()
    }
}

impl CommitView for Locked<'_> {
    type Error = StorageError;

    fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        Ok(self.stored(key).cloned())
    }

    fn value_len(&mut self, key: &str) -> Result<Option<usize>, StorageError> {
        Ok(self.stored(key).map(|found| found.value.len()))
    }

    fn counts(&mut self, _component_prefix: &str) -> Result<bool, StorageError> {
        Ok(self.has_budget)
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for MemoryStorage {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        validate_full_key(key)?;
        let (name, own) = split_full_key(key);
        let Some(partition) = self.partition(name) else { return Ok(None) };
        let value = read(&partition).keys.get(own).map(|found| found.value.clone());
        Ok(value)
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        validate_full_key(key)?;
        let (name, own) = split_full_key(key);
        loop {
            let partition = self.partition_or_new(name);
            let mut partition = write(&partition);
            if !partition.dropped {
                let revision = self.next_revision();
                self.change(name, &mut partition, own, Some(value), revision);
                return Ok(());
            }
        }
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        validate_full_key(key)?;
        let (name, own) = split_full_key(key);
        // A partition that is not there, or was dropped meanwhile, has no such
        // key: nothing to do, but it is a write and has its revision.
        let Some(partition) = self.partition(name) else {
            self.next_revision();
            return Ok(());
        };
        let mut locked = write(&partition);
        self.change(name, &mut locked, own, None, self.next_revision());
        let emptied = locked.keys.is_empty();
        drop(locked);
        if emptied {
            self.drop_if_empty(name);
        }
        Ok(())
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        validate_full_key(key)?;
        let (name, own) = split_full_key(key);
        let Some(partition) = self.partition(name) else { return Ok(false) };
        let found = read(&partition).keys.contains_key(own);
        Ok(found)
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let all = PageRequest::new(usize::MAX).with_prefix(prefix.unwrap_or_default());
        Ok(partitions::list_page(self, all)?.keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        partitions::list_page(self, request)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        keys.iter().try_for_each(|key| validate_full_key(key))?;
        let mut values = Vec::with_capacity(keys.len());
        // Keys of one component, the usual case, are read under one lock.
        for run in keys.chunk_by(|a, b| split_full_key(a).0 == split_full_key(b).0) {
            let name = run.first().map_or("", |key| split_full_key(key).0);
            let partition = self.partition(name).unwrap_or_default();
            let partition = read(&partition);
            let value_of = |key: &&str| partition.keys.get(split_full_key(key).1);
            values.extend(run.iter().map(|key| value_of(key).map(|found| found.value.clone())));
        }
        Ok(values)
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        partitions::usage(self, prefix)
    }

    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        let joined;
        let (name, own) = match split_full_key(prefix) {
            // The usual case: the component prefix and the user key.
            (name, "") if !name.is_empty() => (name, key),
            _ => {
                joined = join_key(prefix, key);
                split_full_key(&joined)
            }
        };
        let found = match self.partitions.try_get(name) {
            TryResult::Present(partition) => {
                let partition = Arc::clone(&partition);
                let partition = match partition.try_read() {
                    Ok(guard) => guard,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => return None,
                };
                partition.keys.get(own).map(|found| found.value.clone())
            }
            TryResult::Absent => None,
            TryResult::Locked => return None,
        };
        // A key that is stored is valid.
        if found.is_none() {
            validate_full_key(&[name, own].concat()).ok()?;
        }
        Some(found)
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        validate_full_key(key)?;
        let (name, own) = split_full_key(key);
        let Some(partition) = self.partition(name) else { return Ok(None) };
        let found = read(&partition).keys.get(own).cloned();
        Ok(found)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        commit.keys().try_for_each(validate_full_key)?;
        commit.budgeted_component()?;
        let names: BTreeSet<&str> = commit.keys().map(|key| split_full_key(key).0).collect();
        loop {
            // A partition that is only checked is made too: its lock is what
            // keeps an absent key absent until the writes are done.
            let handles: Vec<_> =
                names.iter().map(|name| (*name, self.partition_or_new(name))).collect();
            let Some(mut locked) = Locked::new(&handles, commit.budget.is_some()) else { continue };
            let result = self.apply(&mut locked, &commit);
            let empty = locked.empty();
            drop(locked);
            for name in empty {
                self.drop_if_empty(name);
            }
            return result;
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for MemoryStorage {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("memory").with_may_block(false)
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        partitions::list_components(self, after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let request = PageRequest { prefix, after, limit: usize::MAX };
        let found = loop {
            if let Some(found) = self.at_one_moment(request) {
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
        verified.components = read(&self.names).len() as u64;
        Ok(verified)
    }
}

impl Partitions for MemoryStorage {
    fn names(&self, prefix: &str, from: Bound<&str>, limit: usize) -> Result<Names, StorageError> {
        let names = read(&self.names);
        let from = (start_of(prefix, from), Bound::Unbounded);
        let names = names.range::<str, _>(from).take_while(|name| name.starts_with(prefix));
        Ok(Names { found: names.take(limit).cloned().collect(), stopped_by: None })
    }

    fn keys_in(
        &self,
        partition: &str,
        own: PageRequest<'_>,
        found: &mut Vec<String>,
    ) -> Result<(), StorageError> {
        if let Some(handle) = self.partition(partition) {
            let keys = read(&handle);
            found.extend(keys.range(own).take(own.limit).map(|(key, _)| [partition, key].concat()));
        }
        Ok(())
    }

    fn usage_in(&self, partition: &str, own_prefix: &str) -> Result<Usage, StorageError> {
        let Some(handle) = self.partition(partition) else { return Ok(Usage::default()) };
        let keys = read(&handle);
        if own_prefix.is_empty() {
            return Ok(keys.usage);
        }
        let request = PageRequest::new(usize::MAX).with_prefix(own_prefix);
        Ok(keys.range(request).map(|(key, found)| Usage::of(key, found.value.len())).sum())
    }
}

/// Where a walk over what begins with `prefix` starts.
fn start_of<'a>(prefix: &'a str, from: Bound<&'a str>) -> Bound<&'a str> {
    match from {
        Bound::Included(text) | Bound::Excluded(text) if text >= prefix => from,
        _ => Bound::Included(prefix),
    }
}

/// Locks for reading. A thread that panicked with the lock held was not in the
/// middle of a change: [`MemoryStorage::change`] calls nothing that panics.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing; as [`read`].
fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use storage_core::Budget;

    use super::*;

    #[test]
    fn no_empty_partition_is_left_behind() {
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
                        // What fails, is only read or only checked makes none.
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
        assert!(storage.partitions.is_empty(), "{:?}", storage.partitions);
        assert!(storage.names.read().unwrap().is_empty());
    }

    /// The write that a drop must not lose, step by step: a writer has fetched
    /// the partition, then it is dropped, then the writer gets its lock.
    #[test]
    fn a_writer_behind_a_drop_fetches_the_partition_again() {
        type Call = fn(&MemoryStorage) -> Result<Revision, StorageError>;
        let calls: [Call; 2] = [
            |storage| storage_core::put(&storage, "a/b/c/k", "1".into()),
            |storage| storage.commit(Commit::new().set("a/b/c/k", "1".into())),
        ];
        for call in calls {
            let storage = MemoryStorage::new();
            let partition = storage.partition_or_new("a/b/c/");
            let mut locked = write(&partition);
            thread::scope(|scope| {
                scope.spawn(|| call(&storage).unwrap());
                // The map, this thread and the writer have it.
                while Arc::strong_count(&partition) < 3 {
                    thread::yield_now();
                }
                storage.partitions.remove("a/b/c/");
                locked.dropped = true;
                drop(locked);
            });
            assert_eq!(storage.get("a/b/c/k").unwrap(), Some("1".into()));
            assert!(read(&partition).keys.is_empty());
        }
    }

    #[test]
    fn a_thread_that_panics_with_a_lock_stops_nobody() {
        let storage = MemoryStorage::new();
        storage.set("a/b/c/k", "1".into()).unwrap();
        let partition = storage.partition("a/b/c/").unwrap();
        let panicked = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let (_partition, _names) = (write(&partition), write(&storage.names));
                panic!("with two locks");
            });
            thread.join()
        });
        assert!(panicked.is_err() && partition.is_poisoned() && storage.names.is_poisoned());
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
        let partition = storage.partition("a/b/c/").unwrap();
        let writing = write(&partition);
        assert_eq!(storage.try_get("", "a/b/c/k"), None);
        // Another component is not concerned.
        assert_eq!(storage.try_get("", "a/b/d/k"), Some(None));
        drop(writing);
        assert_eq!(storage.try_get("", "a/b/c/k"), Some(Some("1".into())));
        let shard = storage.partitions.get_mut("a/b/c/");
        assert_eq!(storage.try_get("", "a/b/c/k"), None);
        drop(shard);
        assert_eq!(storage.try_get("", "a/b/c/k"), Some(Some("1".into())));
    }
}
