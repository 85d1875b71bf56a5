//! Isolation: every key of a component gets the component's prefix.

use std::cell::Cell;

use crate::{
    Commit, ComponentId, ComponentStorage, KeyPage, MAX_KEY_BYTES, PageRequest, Revision,
    SnapshotVisitor, StorageError, StorageValue, Usage, VersionedValue, derived, validate_key,
};

/// One component's view of a storage: its keys, and no others.
///
/// Every key is checked ([`validate_key`]), prefixed with
/// `namespace/name/instance/` on the way down and stripped on the way up. The
/// component cannot name, guess or list a key of anybody else, and never learns
/// its own prefix: errors name the component's own keys too.
///
/// ```
/// use std::sync::Arc;
/// use storage_core::conformance::ReferenceStorage;
/// use storage_core::{ComponentId, ComponentStorage, NamespacedStorage};
///
/// let backend = Arc::new(ReferenceStorage::new());
/// let home = NamespacedStorage::new(ComponentId::new("app", "notes", "home")?, backend.clone());
/// let work = NamespacedStorage::new(ComponentId::new("app", "notes", "work")?, backend.clone());
///
/// home.set("user:123", "Ada".into())?;
/// assert_eq!(work.get("user:123")?, None);
/// assert_eq!(home.list_keys(None)?, ["user:123"]);
/// assert_eq!(backend.list_keys(None)?, ["app/notes/home/user:123"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct NamespacedStorage<S: ComponentStorage> {
    namespace: ComponentId,
    inner: S,
}

impl<S: ComponentStorage> NamespacedStorage<S> {
    /// The view that `namespace` has of `storage`.
    pub fn new(namespace: ComponentId, storage: S) -> Self {
        Self { namespace, inner: storage }
    }

    /// Whose view it is.
    pub fn namespace(&self) -> &ComponentId {
        &self.namespace
    }

    /// The storage below, which names keys in full.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn prefix(&self) -> &str {
        self.namespace.key_prefix()
    }

    /// Checks the key, runs `call` with the full key, and translates its error.
    fn with_full_key<T>(
        &self,
        key: &str,
        call: impl FnOnce(&str) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        validate_key(key)?;
        with_joined(self.prefix(), key, call).map_err(|error| self.own_error(error))
    }

    /// What is not at hand. Apart, so that a hit stays small.
    #[inline(never)]
    fn get_joined(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        self.with_full_key(key, |full| self.inner.get(full))
    }

    fn full_key(&self, key: &str) -> String {
        [self.prefix(), key].concat()
    }

    fn own_key(&self, mut full: String) -> Result<String, StorageError> {
        if !full.starts_with(self.prefix()) {
            return Err(foreign_key());
        }
        full.drain(..self.prefix().len());
        Ok(full)
    }

    fn own_page(&self, page: KeyPage) -> Result<KeyPage, StorageError> {
        let keys = page.keys.into_iter().map(|key| self.own_key(key)).collect::<Result<_, _>>()?;
        Ok(KeyPage { keys, more: page.more })
    }

    /// The error from below in the component's own words.
    fn own_error(&self, error: StorageError) -> StorageError {
        let strip = |text: &str| strip_from_text(text, self.prefix());
        match error {
            StorageError::IoError(detail) => StorageError::IoError(strip(&detail)),
            StorageError::InvalidKey(rule) => StorageError::InvalidKey(strip(&rule)),
            StorageError::Unsupported(what) => StorageError::Unsupported(strip(&what)),
            StorageError::Locked(detail) => StorageError::Locked(strip(&detail)),
            StorageError::Corrupt { key, detail } => {
                StorageError::Corrupt { key, detail: strip(&detail) }
            }
            StorageError::Unavailable { key, detail } => {
                StorageError::Unavailable { key, detail: strip(&detail) }
            }
            StorageError::UnreadableComponent { prefix, detail } => {
                let own = prefix.strip_prefix(self.prefix()).unwrap_or_default().to_owned();
                StorageError::UnreadableComponent { prefix: own, detail: strip(&detail) }
            }
            other => other,
        }
        .map_key(|full| match full.strip_prefix(self.prefix()) {
            Some(own) => own.to_owned(),
            // An error about a key that is not the component's: say nothing.
            None => String::new(),
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: ComponentStorage> ComponentStorage for NamespacedStorage<S> {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        // What is known has a valid full key: the own one's length is left to check.
        if (1..=MAX_KEY_BYTES).contains(&key.len()) {
            if let Some(at_hand) = self.inner.recall(self.prefix(), key) {
                return Ok(at_hand);
            }
        }
        self.get_joined(key)
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.with_full_key(key, |full| self.inner.set(full, value))
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.with_full_key(key, |full| self.inner.delete(full))
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        self.with_full_key(key, |full| self.inner.exists(full))
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let full_prefix = self.full_key(prefix.unwrap_or_default());
        let keys = self.inner.list_keys(Some(&full_prefix)).map_err(|e| self.own_error(e))?;
        keys.into_iter().map(|key| self.own_key(key)).collect()
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        let prefix = self.full_key(request.prefix);
        let after = request.after.map(|after| self.full_key(after));
        let page = self
            .inner
            .list_page(PageRequest {
                prefix: &prefix,
                after: after.as_deref(),
                limit: request.limit,
            })
            .map_err(|error| self.own_error(error))?;
        self.own_page(page)
    }

    fn list_partitions(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        // Partitions among the component's own keys, not those of the store.
        derived::partitions_from_listing(self, after, limit)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        for key in keys {
            validate_key(key)?;
        }
        let full: Vec<String> = keys.iter().map(|key| self.full_key(key)).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        self.inner.get_many(&full).map_err(|error| self.own_error(error))
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        let full_prefix = self.full_key(prefix.unwrap_or_default());
        let full = self.inner.usage(Some(&full_prefix)).map_err(|e| self.own_error(e))?;
        let prefixes = full.keys.saturating_mul(self.prefix().len() as u64);
        Ok(Usage { bytes: full.bytes.saturating_sub(prefixes), keys: full.keys })
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let full_prefix = self.full_key(prefix);
        let after = after.map(|after| self.full_key(after));
        // What the visitor answers is already in its own words.
        let mut visitors = None;
        let walked =
            self.inner.read_snapshot(&full_prefix, after.as_deref(), &mut |full, value| {
                let own = full.strip_prefix(self.prefix()).ok_or_else(foreign_key)?;
                visit(own, value).inspect_err(|error| visitors = Some(error.clone()))
            });
        match (walked, visitors) {
            (Err(_), Some(error)) => Err(error),
            (walked, _) => walked.map_err(|error| self.own_error(error)),
        }
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.inner.flush().map_err(|error| self.own_error(error))
    }

    fn try_get(&self, key: &str) -> Option<Option<StorageValue>> {
        validate_key(key).ok()?;
        with_joined(self.prefix(), key, |full| self.inner.try_get(full))
    }

    fn recall(&self, _partition: &str, _own_key: &str) -> Option<Option<StorageValue>> {
        // These keys have no partition below: theirs is the component.
        None
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.with_full_key(key, |full| self.inner.get_versioned(full))
    }

    fn put(&self, key: &str, value: StorageValue) -> Result<Revision, StorageError> {
        self.with_full_key(key, |full| self.inner.put(full, value))
    }

    fn commit(&self, mut commit: Commit) -> Result<Revision, StorageError> {
        for key in commit.keys() {
            validate_key(key)?;
        }
        let checked = commit.checks.iter_mut().map(|check| &mut check.key);
        let written = commit.writes.iter_mut().map(|write| &mut write.key);
        for key in checked.chain(written) {
            key.insert_str(0, self.prefix());
        }
        self.inner.commit(commit).map_err(|error| self.own_error(error))
    }
}

/// Whose key it is must not leak, so the message does not show it.
fn foreign_key() -> StorageError {
    StorageError::IoError("the storage below listed a key of another component".into())
}

/// Calls with `prefix` and `key` joined, in a buffer that each thread keeps, so
/// that a call allocates nothing.
fn with_joined<T>(prefix: &str, key: &str, call: impl FnOnce(&str) -> T) -> T {
    thread_local! {
        static BUFFER: Cell<String> = const { Cell::new(String::new()) };
    }
    // Taken, not borrowed: a call that comes back through here finds an empty
    // buffer, and a panic loses only the allocation.
    let mut joined = BUFFER.try_with(Cell::take).unwrap_or_default();
    joined.clear();
    joined.reserve(prefix.len() + key.len());
    joined.push_str(prefix);
    joined.push_str(key);
    let result = call(&joined);
    // A thread that is ending has no buffer any more; nothing is lost.
    let _ = BUFFER.try_with(|buffer| buffer.set(joined));
    result
}

/// Takes `prefix` out of a message wherever a key begins with it. Inside a path
/// (`store/app/notes/home/...`) it stays, because there it is no key.
fn strip_from_text(text: &str, prefix: &str) -> String {
    let mut stripped = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let (before, found) = rest.split_at(at);
        let (found, after) = found.split_at(prefix.len());
        stripped.push_str(before);
        if stripped.ends_with(|c: char| c == '/' || c.is_ascii_alphanumeric()) {
            stripped.push_str(found);
        }
        rest = after;
    }
    stripped.push_str(rest);
    stripped
}
