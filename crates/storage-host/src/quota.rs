//! Enforces a component's quota.

use std::sync::Arc;

use storage_core::{
    Budget, Commit, ComponentStorage, Revision, StorageError, StorageValue, forward_storage,
};

use crate::live::Account;

/// Enforces a component's quota. Every write becomes a commit whose budget the store
/// checks, so the quota is exact with concurrent writers and after a crash.
///
/// Use it above [`NamespacedStorage`](storage_core::NamespacedStorage), where all
/// keys belong to one component. Without a quota it forwards every call. Shrinking
/// and deleting always work.
///
/// A quota needs a store with commits; otherwise a write is
/// [`StorageError::Unsupported`].
///
/// ```
/// use storage_core::conformance::ReferenceStorage;
/// use storage_host::{Budget, ComponentStorage, NamespacedStorage, QuotaStorage, StorageError};
///
/// let component = NamespacedStorage::new("app/notes/home".parse()?, ReferenceStorage::new());
/// let storage = QuotaStorage::new(component, Some(Budget { max_bytes: 10, max_keys: 5 }));
/// storage.set("key", "1234567".into())?;
/// assert_eq!(storage.set("more", "".into()), Err(StorageError::QuotaExceeded));
/// storage.set("key", "".into())?;
/// storage.set("more", "".into())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct QuotaStorage<S: ComponentStorage> {
    inner: S,
    quota: Source,
}

/// Where the quota comes from.
#[derive(Debug)]
enum Source {
    Fixed(Option<Budget>),
    Live(Arc<Account>),
}

impl<S: ComponentStorage> QuotaStorage<S> {
    /// Enforces `quota` on `storage`, which holds the keys of one component.
    pub fn new(storage: S, quota: Option<Budget>) -> Self {
        Self { inner: storage, quota: Source::Fixed(quota) }
    }

    /// Enforces the quota of a component, which may change.
    pub(crate) fn live(storage: S, account: Arc<Account>) -> Self {
        Self { inner: storage, quota: Source::Live(account) }
    }

    /// The quota.
    pub fn quota(&self) -> Option<Budget> {
        match &self.quota {
            Source::Fixed(quota) => *quota,
            Source::Live(account) => account.quota(),
        }
    }

    /// The storage below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn commit_within(&self, quota: Budget, mut commit: Commit) -> Result<Revision, StorageError> {
        // A commit's own budget may be lower than the quota, but cannot raise it.
        let requested = commit.budget.unwrap_or(Budget::UNLIMITED);
        commit.budget = Some(Budget {
            max_bytes: requested.max_bytes.min(quota.max_bytes),
            max_keys: requested.max_keys.min(quota.max_keys),
        });
        self.inner.commit(commit)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: ComponentStorage> ComponentStorage for QuotaStorage<S> {
    forward_storage!(self => self.inner; get, exists, list_keys, list_page, get_many, usage);
    forward_storage!(self => self.inner; try_get, get_versioned);

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        match self.quota() {
            None => self.inner.set(key, value),
            Some(quota) => self.commit_within(quota, Commit::new().set(key, value)).map(drop),
        }
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        match self.quota() {
            None => self.inner.delete(key),
            Some(quota) => self.commit_within(quota, Commit::new().delete(key)).map(drop),
        }
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        match self.quota() {
            None => self.inner.commit(commit),
            Some(quota) => self.commit_within(quota, commit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage_core::conformance::ReferenceStorage;
    use storage_core::{NamespacedStorage, Usage};

    fn with_quota(max_bytes: u64, max_keys: u64) -> impl ComponentStorage {
        let component = NamespacedStorage::new("a/b/c".parse().unwrap(), ReferenceStorage::new());
        QuotaStorage::new(component, Some(Budget { max_bytes, max_keys }))
    }

    #[test]
    fn a_set_over_the_quota_is_refused() {
        let storage = with_quota(10, 2);
        storage.set("12345", "67890".into()).unwrap();
        assert_eq!(storage.set("1", "".into()), Err(StorageError::QuotaExceeded));
        assert_eq!(storage.usage(None).unwrap(), Usage { bytes: 10, keys: 1 });
        storage.set("12345", "".into()).unwrap();
        storage.set("1", "".into()).unwrap();
        assert_eq!(storage.set("2", "".into()), Err(StorageError::QuotaExceeded));
        storage.delete("1").unwrap();
        storage.set("2", "".into()).unwrap();
    }

    #[test]
    fn a_commit_can_lower_the_quota_but_not_raise_it() {
        let storage = with_quota(10, 10);
        let eleven = || Commit::new().set("key", "12345678".into());
        assert_eq!(storage.commit(eleven()), Err(StorageError::QuotaExceeded));
        let raised = eleven().with_budget(Budget::UNLIMITED);
        assert_eq!(storage.commit(raised), Err(StorageError::QuotaExceeded));
        let lowered = Budget { max_bytes: 3, max_keys: 1 };
        let four = Commit::new().set("key", "4".into()).with_budget(lowered);
        assert_eq!(storage.commit(four), Err(StorageError::QuotaExceeded));
        assert!(storage.commit(Commit::new().set("key", "".into()).with_budget(lowered)).is_ok());
    }
}
