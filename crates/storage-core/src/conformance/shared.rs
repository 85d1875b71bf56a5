//! A store in memory that several hosts use, with notices that arrive on command.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::ReferenceStorage;
use crate::{
    Change, Commit, Compacted, ComponentStorage, KeyPage, PageRequest, Problem, Revision,
    SharedStore, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties, Usage,
    Verified, VersionedValue, Watcher, split_full_key,
};

/// One store in memory that several hosts use: each has a connection.
///
/// ```
/// use storage_core::ComponentStorage;
/// use storage_core::conformance::SharedReference;
///
/// let store = SharedReference::new();
/// let (one, two) = (store.connect(), store.connect());
/// one.set("key", "value".into())?;
/// assert_eq!(two.get("key")?, Some("value".into()));
/// # Ok::<(), storage_core::StorageError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct SharedReference(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    storage: ReferenceStorage,
    commits: Mutex<Commits>,
}

#[derive(Debug, Default)]
struct Commits {
    /// The revision of the last commit of each component.
    revisions: BTreeMap<String, Revision>,
    hosts: Vec<Weak<Host>>,
}

/// What the connection of one host receives.
#[derive(Default)]
struct Host {
    watcher: Mutex<Option<Arc<dyn Watcher>>>,
    inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    is_held: bool,
    notices: VecDeque<Change>,
}

impl SharedReference {
    /// An empty store without hosts.
    pub fn new() -> Self {
        Self::default()
    }

    /// The connection of one more host.
    pub fn connect(&self) -> HostConnection {
        let host = Arc::new(Host::default());
        let mut commits = self.0.commits();
        commits.hosts.retain(|other| other.strong_count() > 0);
        commits.hosts.push(Arc::downgrade(&host));
        drop(commits);
        HostConnection { inner: Arc::clone(&self.0), host }
    }
}

impl Inner {
    fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, change: &Change) {
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(watcher) = watcher {
            watcher.changed(change);
        }
    }

    fn receive(&self, change: Change) {
        let mut inbox = self.inbox();
        if inbox.is_held {
            inbox.notices.push_back(change);
        } else {
            drop(inbox);
            self.report(&change);
        }
    }
}

/// The connection of one host to a [`SharedReference`].
///
/// Changes of other hosts are reported at once, unless a test
/// [holds](Self::hold_notices) them to deliver them late, twice, in another order or never.
/// Wrap it in a [`FailingStorage`](super::FailingStorage) or a
/// [`BlockingStorage`](super::BlockingStorage) to interrupt or delay its calls.
pub struct HostConnection {
    inner: Arc<Inner>,
    host: Arc<Host>,
}

impl HostConnection {
    /// From now on keeps the changes of other hosts until they are delivered.
    pub fn hold_notices(&self) {
        self.host.inbox().is_held = true;
    }

    /// The number of notices that are held.
    pub fn held_notices(&self) -> usize {
        self.host.inbox().notices.len()
    }

    /// Delivers a notice, by its position. Returns `false` if there is none.
    pub fn deliver_notice(&self, position: usize) -> bool {
        let notice = self.host.inbox().notices.remove(position);
        if let Some(change) = &notice {
            self.host.report(change);
        }
        notice.is_some()
    }

    /// Delivers a notice and keeps it, so that it is delivered again.
    pub fn repeat_notice(&self, position: usize) -> bool {
        let notice = self.host.inbox().notices.get(position).cloned();
        if let Some(change) = &notice {
            self.host.report(change);
        }
        notice.is_some()
    }

    /// Loses a notice.
    pub fn drop_notice(&self, position: usize) -> bool {
        self.host.inbox().notices.remove(position).is_some()
    }

    /// Delivers all notices in order, and later ones at once.
    pub fn release_notices(&self) {
        let held = {
            let mut inbox = self.host.inbox();
            inbox.is_held = false;
            std::mem::take(&mut inbox.notices)
        };
        held.iter().for_each(|change| self.host.report(change));
    }
}

impl SharedStore for HostConnection {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        *self.host.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
    }

    fn component_revisions(
        &self,
        prefixes: &[&str],
    ) -> Result<Vec<Option<Revision>>, StorageError> {
        let commits = self.inner.commits();
        Ok(prefixes.iter().map(|prefix| commits.revisions.get(*prefix).copied()).collect())
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for HostConnection {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        self.inner.storage.get(key)
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.commit(Commit::new().set(key, value)).map(drop)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.commit(Commit::new().delete(key)).map(drop)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        self.inner.storage.exists(key)
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        self.inner.storage.list_keys(prefix)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        self.inner.storage.list_page(request)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        self.inner.storage.get_many(keys)
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        self.inner.storage.usage(prefix)
    }

    fn try_get(&self, _prefix: &str, _key: &str) -> Option<Option<StorageValue>> {
        // It stands for a store behind a network.
        None
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.inner.storage.get_versioned(key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        let mut written: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for write in commit.effective_writes() {
            let (prefix, _) = split_full_key(&write.key);
            written.entry(prefix.to_owned()).or_default().push(write.key.clone());
        }
        let mut commits = self.inner.commits();
        let revision = self.inner.storage.commit(commit)?;
        let mut change = |(prefix, keys): (String, Vec<String>)| {
            let previous = commits.revisions.insert(prefix.clone(), revision);
            Change { prefix, previous, revision, keys: Some(keys), is_own: true }
        };
        let changes: Vec<Change> = written.into_iter().map(&mut change).collect();
        let hosts: Vec<Arc<Host>> = commits.hosts.iter().filter_map(Weak::upgrade).collect();
        drop(commits);
        for change in changes {
            self.host.report(&change);
            for host in hosts.iter().filter(|host| !Arc::ptr_eq(host, &self.host)) {
                host.receive(Change { is_own: false, ..change.clone() });
            }
        }
        Ok(revision)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for HostConnection {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("shared reference").with_shared_with_other_hosts(true)
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        self.inner.storage.list_components(after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        self.inner.storage.read_snapshot(prefix, after, visit)
    }

    fn flush(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        self.inner.storage.verify(report)
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        self.inner.storage.compact()
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

impl fmt::Debug for HostConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostConnection").field("host", &self.host).finish_non_exhaustive()
    }
}
