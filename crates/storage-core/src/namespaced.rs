//! Isolation: adds the component prefix to every key of a component.

use std::cell::Cell;

use crate::{
    Commit, ComponentId, ComponentStorage, KeyPage, MAX_KEY_BYTES, PageRequest, Revision,
    StorageError, StorageValue, Usage, VersionedValue, join_key, validate_key,
};

/// One component's view of a storage, which contains only the component's keys.
///
/// Checks every user key ([`validate_key`]), adds the component prefix to it, and strips
/// the prefix from the keys that it returns. The component cannot name or list a key of
/// another component and never sees its own prefix, not even in errors.
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
    component_id: ComponentId,
    inner: S,
}

impl<S: ComponentStorage> NamespacedStorage<S> {
    /// Creates a component's view of `storage`.
    pub fn new(component_id: ComponentId, storage: S) -> Self {
        Self { component_id, inner: storage }
    }

    /// The id of the component.
    pub fn component_id(&self) -> &ComponentId {
        &self.component_id
    }

    /// The storage below, which takes full keys.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Returns the storage below.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn prefix(&self) -> &str {
        self.component_id.key_prefix()
    }

    /// Checks the key, calls `call` with the full key, and translates its error.
    fn with_full_key<T>(
        &self,
        key: &str,
        call: impl FnOnce(&str) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        validate_key(key)?;
        with_joined(self.prefix(), key, call).map_err(|error| self.user_error(error))
    }

    /// The value or absence of a key that is known in memory.
    #[inline]
    fn known(&self, key: &str) -> Option<Option<StorageValue>> {
        // A key that is known below is a valid full key; only its length as a user key
        // remains to be checked.
        if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
            return None;
        }
        self.inner.try_get(self.prefix(), key)
    }

    /// Reads a key that is not known in memory. Not inlined, to keep the hit path small.
    #[inline(never)]
    fn get_joined(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        self.with_full_key(key, |full| self.inner.get(full))
    }

    fn full_key(&self, key: &str) -> String {
        [self.prefix(), key].concat()
    }

    fn user_key(&self, mut full: String) -> Result<String, StorageError> {
        if !full.starts_with(self.prefix()) {
            return Err(foreign_key());
        }
        full.drain(..self.prefix().len());
        Ok(full)
    }

    fn user_page(&self, page: KeyPage) -> Result<KeyPage, StorageError> {
        let keys = page.keys.into_iter().map(|key| self.user_key(key)).collect::<Result<_, _>>()?;
        Ok(KeyPage { keys, more: page.more })
    }

    /// Removes the component prefix from an error.
    fn user_error(&self, error: StorageError) -> StorageError {
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
                let prefix = prefix.strip_prefix(self.prefix()).unwrap_or_default().to_owned();
                StorageError::UnreadableComponent { prefix, detail: strip(&detail) }
            }
            other => other,
        }
        .map_key(|full| match full.strip_prefix(self.prefix()) {
            Some(user_key) => user_key.to_owned(),
            // A key of another component must not be shown.
            None => String::new(),
        })
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: ComponentStorage> ComponentStorage for NamespacedStorage<S> {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        match self.known(key) {
            Some(known) => Ok(known),
            None => self.get_joined(key),
        }
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.with_full_key(key, |full| self.inner.set(full, value))
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.with_full_key(key, |full| self.inner.delete(full))
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        match self.known(key) {
            Some(known) => Ok(known.is_some()),
            None => self.with_full_key(key, |full| self.inner.exists(full)),
        }
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let full_prefix = self.full_key(prefix.unwrap_or_default());
        let keys = self.inner.list_keys(Some(&full_prefix)).map_err(|e| self.user_error(e))?;
        keys.into_iter().map(|key| self.user_key(key)).collect()
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
            .map_err(|error| self.user_error(error))?;
        self.user_page(page)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        keys.iter().try_for_each(|key| validate_key(key))?;
        let mut values: Vec<Option<Option<StorageValue>>> =
            keys.iter().map(|key| self.known(key)).collect();
        // Only the other keys are joined, and read with one call.
        let unknown = keys.iter().zip(&values).filter(|(_, value)| value.is_none());
        let unknown: Vec<String> = unknown.map(|(key, _)| self.full_key(key)).collect();
        if !unknown.is_empty() {
            let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
            let found = self.inner.get_many(&unknown).map_err(|error| self.user_error(error))?;
            if found.len() != unknown.len() {
                return Err(wrong_number(found.len(), unknown.len()));
            }
            let missing = values.iter_mut().filter(|value| value.is_none());
            missing.zip(found).for_each(|(value, found)| *value = Some(found));
        }
        Ok(values.into_iter().map(Option::flatten).collect())
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        let full_prefix = self.full_key(prefix.unwrap_or_default());
        let full = self.inner.usage(Some(&full_prefix)).map_err(|e| self.user_error(e))?;
        let prefixes = full.keys.saturating_mul(self.prefix().len() as u64);
        Ok(Usage { bytes: full.bytes.saturating_sub(prefixes), keys: full.keys })
    }

    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        self.known(&join_key(prefix, key))
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.with_full_key(key, |full| self.inner.get_versioned(full))
    }

    fn commit(&self, mut commit: Commit) -> Result<Revision, StorageError> {
        for key in commit.keys() {
            validate_key(key)?;
        }
        let checked = commit.checks.iter_mut().map(|check| &mut check.key);
        let written = commit.writes.iter_mut().map(|write| &mut write.key);
        for key in checked.chain(written) {
            if key.capacity() - key.len() >= self.prefix().len() {
                key.insert_str(0, self.prefix());
            } else {
                *key = self.full_key(key);
            }
        }
        self.inner.commit(commit).map_err(|error| self.user_error(error))
    }
}

fn wrong_number(found: usize, asked: usize) -> StorageError {
    StorageError::IoError(format!("the storage below returned {found} values for {asked} keys"))
}

/// The message does not contain the key, which belongs to another component.
fn foreign_key() -> StorageError {
    StorageError::IoError("the storage below listed a key of another component".into())
}

/// Calls `call` with `prefix` and `key` joined in a buffer of the thread, without
/// an allocation.
fn with_joined<T>(prefix: &str, key: &str, call: impl FnOnce(&str) -> T) -> T {
    thread_local! {
        static BUFFER: Cell<String> = const { Cell::new(String::new()) };
    }
    // Taken, not borrowed: a reentrant call gets an empty buffer, and a panic loses
    // only the allocation.
    let mut joined = BUFFER.try_with(Cell::take).unwrap_or_default();
    joined.clear();
    joined.reserve(prefix.len() + key.len());
    joined.push_str(prefix);
    joined.push_str(key);
    let result = call(&joined);
    // Fails only in a thread that is ending.
    let _ = BUFFER.try_with(|buffer| buffer.set(joined));
    result
}

/// Removes `prefix` from a message wherever a key begins with it. It stays inside
/// a path (`store/app/notes/home/...`), which is not a key.
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
