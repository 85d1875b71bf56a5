//! Limits on the size of one call.

use std::sync::Arc;

use storage_core::{
    Commit, ComponentStorage, Expected, KeyPage, MAX_KEY_BYTES, PageRequest, Revision,
    StorageError, StorageValue, forward_storage, validate_key,
};

use crate::live::Account;

/// Limits on the size of one call of a component, and on its open handles.
///
/// Exceeding a limit is an error that names the limit; nothing changes and nothing
/// is truncated. The defaults are large enough for the usual uses of a key-value
/// store and small enough that a thousand concurrent calls do not exhaust a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The maximum length of a written key, in bytes. Default 1,024; more has no effect,
    /// because longer keys are invalid. Reading and deleting are not limited, so that keys
    /// remain accessible when the limit is lowered.
    pub key_bytes: usize,
    /// The maximum length of a written value, in bytes. Default 1 MiB.
    pub value_bytes: usize,
    /// The maximum number of keys of a listing that is not paged. Default 100,000.
    pub listing_keys: usize,
    /// The maximum number of bytes of all keys of such a listing. Default 16 MiB.
    pub listing_bytes: usize,
    /// The maximum number of operations of a batch: the keys of a read, or the checks and
    /// writes of a commit. Default 1,000.
    pub batch_operations: usize,
    /// The maximum number of bytes of a batch: the keys and values of a commit, or the
    /// keys of a read and the values that it finds. Default 16 MiB.
    pub batch_bytes: usize,
    /// The maximum number of handles that a guest may have open at a time. Default 1,000.
    pub handles: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes: MAX_KEY_BYTES,
            value_bytes: 1 << 20,
            listing_keys: 100_000,
            listing_bytes: 16 << 20,
            batch_operations: 1_000,
            batch_bytes: 16 << 20,
            handles: 1_000,
        }
    }
}

impl Limits {
    /// Returns the lower one of each limit.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn lower(self, other: &Self) -> Self {
        Self {
            key_bytes: self.key_bytes.min(other.key_bytes),
            value_bytes: self.value_bytes.min(other.value_bytes),
            listing_keys: self.listing_keys.min(other.listing_keys),
            listing_bytes: self.listing_bytes.min(other.listing_bytes),
            batch_operations: self.batch_operations.min(other.batch_operations),
            batch_bytes: self.batch_bytes.min(other.batch_bytes),
            handles: self.handles.min(other.handles),
        }
    }

    /// Checks a key before it is written.
    ///
    /// # Errors
    /// [`StorageError::InvalidKey`] names the rule or the limit.
    pub fn check_key(&self, key: &str) -> Result<(), StorageError> {
        if key.len() > self.key_bytes {
            // The rule for all keys is the better message.
            validate_key(key)?;
            return Err(StorageError::InvalidKey(format!(
                "a key has at most {} bytes here; this one has {}",
                self.key_bytes,
                key.len()
            )));
        }
        Ok(())
    }

    /// Checks the length of a value before it is copied and written.
    ///
    /// # Errors
    /// [`StorageError::LimitExceeded`].
    pub fn check_value_len(&self, len: usize) -> Result<(), StorageError> {
        at_most("bytes of a value", self.value_bytes, len)
    }

    fn check_write(&self, key: &str, value: &StorageValue) -> Result<(), StorageError> {
        self.check_key(key)?;
        self.check_value_len(value.len())
    }

    /// Checks the number of operations of a batch.
    ///
    /// # Errors
    /// [`StorageError::LimitExceeded`].
    pub fn check_batch_len(&self, operations: usize) -> Result<(), StorageError> {
        at_most("operations of a batch", self.batch_operations, operations)
    }

    /// Checks the bytes of a batch.
    ///
    /// # Errors
    /// [`StorageError::LimitExceeded`].
    pub fn check_batch_bytes(&self, bytes: usize) -> Result<(), StorageError> {
        at_most("bytes of a batch", self.batch_bytes, bytes)
    }
}

fn at_most(limit: &'static str, max: usize, actual: usize) -> Result<(), StorageError> {
    if actual <= max {
        return Ok(());
    }
    Err(StorageError::LimitExceeded { limit, max: max as u64, actual: actual as u64 })
}

/// The maximum number of keys of one page from the storage below: 5.5 MiB of the longest
/// keys. A listing over its limit reads at most one page too many.
const KEYS_PER_PAGE: usize = 4_096;

/// How many values of a batch are read from the storage below at a time.
pub(crate) const VALUES_PER_READ: usize = 16;

/// Enforces [`Limits`] on one component's calls.
///
/// Use it above [`NamespacedStorage`](storage_core::NamespacedStorage), where keys
/// are user keys.
///
/// ```
/// use storage_core::conformance::ReferenceStorage;
/// use storage_host::{ComponentStorage, LimitedStorage, Limits, StorageError};
///
/// let mut limits = Limits::default();
/// limits.value_bytes = 4;
/// let storage = LimitedStorage::new(ReferenceStorage::new(), limits);
/// storage.set("key", "1234".into())?;
/// assert_eq!(
///     storage.set("key", "12345".into()),
///     Err(StorageError::LimitExceeded { limit: "bytes of a value", max: 4, actual: 5 }),
/// );
/// # Ok::<(), StorageError>(())
/// ```
#[derive(Debug)]
pub struct LimitedStorage<S: ComponentStorage> {
    inner: S,
    limits: Source,
}

/// Where the limits come from.
#[derive(Debug)]
enum Source {
    Fixed(Box<Limits>),
    Live(Arc<Account>),
    /// The lower ones of two components.
    #[cfg(feature = "wasmtime")]
    Lower([Arc<Account>; 2]),
}

impl<S: ComponentStorage> LimitedStorage<S> {
    /// Enforces `limits` on the calls of `storage`.
    pub fn new(storage: S, limits: Limits) -> Self {
        Self { inner: storage, limits: Source::Fixed(Box::new(limits)) }
    }

    /// Enforces the limits of a component, which may change.
    pub(crate) fn live(storage: S, account: Arc<Account>) -> Self {
        Self { inner: storage, limits: Source::Live(account) }
    }

    /// Enforces the lower ones of the limits of two components, which may change.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn lower(storage: S, accounts: [Arc<Account>; 2]) -> Self {
        Self { inner: storage, limits: Source::Lower(accounts) }
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        match &self.limits {
            Source::Fixed(limits) => **limits,
            Source::Live(account) => account.limits(),
            #[cfg(feature = "wasmtime")]
            Source::Lower([one, other]) => one.limits().lower(&other.limits()),
        }
    }

    /// The storage below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn check_commit(&self, commit: &Commit) -> Result<(), StorageError> {
        let limits = self.limits();
        let operations = commit.checks.len().saturating_add(commit.writes.len());
        limits.check_batch_len(operations)?;
        // Values share their bytes, so the sum can exceed the size of memory.
        let mut bytes: usize = 0;
        for check in &commit.checks {
            bytes = bytes.saturating_add(check.key.len());
            if let Expected::Value(value) = &check.expected {
                bytes = bytes.saturating_add(value.len());
            }
        }
        for write in &commit.writes {
            bytes = bytes.saturating_add(write.key.len());
            if let Some(value) = &write.value {
                limits.check_write(&write.key, value)?;
                bytes = bytes.saturating_add(value.len());
            }
        }
        limits.check_batch_bytes(bytes)
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: ComponentStorage> ComponentStorage for LimitedStorage<S> {
    forward_storage!(self => self.inner; get, delete, exists, usage, try_get, get_versioned);

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.limits().check_write(key, &value)?;
        self.inner.set(key, value)
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let prefix = prefix.unwrap_or_default();
        if prefix.len() > MAX_KEY_BYTES {
            // Longer than any key; do not copy it.
            return Ok(Vec::new());
        }
        let limits = self.limits();
        let mut keys: Vec<String> = Vec::new();
        let mut bytes = 0;
        loop {
            let after = keys.last().map(String::as_str);
            let request = PageRequest { prefix, after, limit: KEYS_PER_PAGE };
            let page = self.inner.list_page(request)?;
            if page.more && page.keys.is_empty() {
                // Without a last key the listing cannot continue, and it is not complete.
                return Err(StorageError::IoError(
                    "the storage below reports more keys but lists none".into(),
                ));
            }
            for key in page.keys {
                bytes += key.len();
                keys.push(key);
                at_most("keys of a listing", limits.listing_keys, keys.len())?;
                at_most("bytes of a listing", limits.listing_bytes, bytes)?;
            }
            if !page.more {
                return Ok(keys);
            }
        }
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        if request.prefix.len() > MAX_KEY_BYTES {
            return Ok(KeyPage::default());
        }
        // A page may be shorter than its limit, and shows whether more keys follow.
        let limit = request.limit.min(KEYS_PER_PAGE);
        let after = request.after.map(truncate_cursor);
        let mut page = self.inner.list_page(PageRequest { limit, after, ..request })?;
        let max_bytes = self.limits().listing_bytes;
        let mut bytes = 0;
        let fits = page.keys.iter().take_while(|key| {
            bytes += key.len();
            bytes <= max_bytes
        });
        // At least one key, so that the listing can continue after it.
        let kept = fits.count().max(1);
        if kept < page.keys.len() {
            page.keys.truncate(kept);
            page.more = true;
        }
        Ok(page)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        let limits = self.limits();
        limits.check_batch_len(keys.len())?;
        let mut bytes = keys.iter().map(|key| key.len()).sum();
        limits.check_batch_bytes(bytes)?;
        let mut values = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(VALUES_PER_READ) {
            for value in self.inner.get_many(chunk)? {
                bytes += value.as_ref().map_or(0, StorageValue::len);
                limits.check_batch_bytes(bytes)?;
                values.push(value);
            }
        }
        Ok(values)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        self.check_commit(&commit)?;
        self.inner.commit(commit)
    }
}

/// Truncates a text to little more than the longest key. The same keys follow the
/// result as follow the whole text.
pub(crate) fn truncate_cursor(text: &str) -> &str {
    // A character ends within four bytes.
    (1..=4).find_map(|more| text.get(..MAX_KEY_BYTES + more)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage_core::conformance::{CountingStorage, Method, ReferenceStorage};

    /// Limits that a few bytes exceed.
    fn small() -> Limits {
        Limits {
            key_bytes: 8,
            value_bytes: 4,
            listing_keys: 3,
            listing_bytes: 10,
            batch_operations: 3,
            batch_bytes: 10,
            handles: 1,
        }
    }

    fn limited() -> LimitedStorage<CountingStorage<ReferenceStorage>> {
        LimitedStorage::new(CountingStorage::new(ReferenceStorage::new()), small())
    }

    fn over(limit: &'static str, max: u64, actual: u64) -> StorageError {
        StorageError::LimitExceeded { limit, max, actual }
    }

    #[test]
    fn the_defaults_are_as_documented() {
        let limits = Limits::default();
        assert_eq!((limits.key_bytes, limits.value_bytes), (1_024, 1_048_576));
        assert_eq!((limits.listing_keys, limits.listing_bytes), (100_000, 16_777_216));
        assert_eq!((limits.batch_operations, limits.batch_bytes), (1_000, 16_777_216));
        assert_eq!(limits.handles, 1_000);
    }

    #[test]
    fn a_write_over_a_limit_does_not_reach_the_storage() {
        let storage = limited();
        let value = over("bytes of a value", 4, 5);
        assert_eq!(storage.set("key", "12345".into()), Err(value.clone()));
        assert_eq!(storage.commit(Commit::new().set("key", "12345".into())), Err(value));
        for result in [
            storage.set("123456789", "".into()),
            storage.commit(Commit::new().set("123456789", "".into())).map(drop),
        ] {
            let message = result.unwrap_err().to_string();
            assert_eq!(message, "invalid key: a key has at most 8 bytes here; this one has 9");
        }
        assert_eq!(storage.inner().total(), 0);
        storage.set("12345678", "1234".into()).unwrap();
    }

    #[test]
    fn a_key_over_a_lowered_limit_can_be_read_and_deleted() {
        let storage = limited();
        storage.inner().set("123456789", "old".into()).unwrap();
        assert_eq!(storage.get("123456789").unwrap(), Some("old".into()));
        assert!(storage.exists("123456789").unwrap());
        storage.commit(Commit::new().delete("123456789")).unwrap();
        storage.delete("123456789").unwrap();
        assert!(!storage.exists("123456789").unwrap());
    }

    #[test]
    fn a_key_longer_than_any_key_is_refused_by_the_general_rule() {
        let message = limited().set(&"k".repeat(1_025), "".into()).unwrap_err().to_string();
        assert!(message.contains("a key has at most 1024 bytes;"), "{message}");
    }

    #[test]
    fn a_listing_over_a_limit_is_an_error() {
        let storage = limited();
        for key in ["a", "b", "c"] {
            storage.set(key, "".into()).unwrap();
        }
        assert_eq!(storage.list_keys(None).unwrap(), ["a", "b", "c"]);
        storage.set("d", "".into()).unwrap();
        assert_eq!(storage.list_keys(None), Err(over("keys of a listing", 3, 4)));
        assert_eq!(storage.list_keys(Some("d")).unwrap(), ["d"]);

        let storage = limited();
        storage.set("12345", "".into()).unwrap();
        storage.set("23456", "".into()).unwrap();
        assert_eq!(storage.list_keys(None).unwrap(), ["12345", "23456"]);
        storage.set("3", "".into()).unwrap();
        assert_eq!(storage.list_keys(None), Err(over("bytes of a listing", 10, 11)));
    }

    #[test]
    fn a_listing_of_several_pages_is_complete() {
        let storage = LimitedStorage::new(ReferenceStorage::new(), Limits::default());
        let keys: Vec<String> = (0..2 * KEYS_PER_PAGE + 1).map(|n| format!("{n:06}")).collect();
        for key in &keys {
            storage.set(key, "".into()).unwrap();
        }
        assert_eq!(storage.list_keys(None).unwrap(), keys);
        assert_eq!(storage.list_keys(Some("00001")).unwrap(), keys[10..20]);
    }

    #[test]
    fn a_prefix_longer_than_any_key_does_not_reach_the_storage() {
        let storage = limited();
        let prefix = "x".repeat(MAX_KEY_BYTES + 1);
        assert_eq!(storage.list_keys(Some(&prefix)).unwrap(), Vec::<String>::new());
        let page = storage.list_page(PageRequest::new(10).with_prefix(&prefix)).unwrap();
        assert_eq!(page, KeyPage::default());
        assert_eq!(storage.inner().total(), 0);
    }

    #[test]
    fn a_cursor_longer_than_any_key_is_truncated() {
        let storage = LimitedStorage::new(ReferenceStorage::new(), Limits::default());
        let longest = "k".repeat(MAX_KEY_BYTES);
        let keys = ["a", &longest, "k\u{e9}", "l"];
        for key in keys {
            storage.set(key, "".into()).unwrap();
        }
        let all = PageRequest::new(10);
        for (after, from) in [
            (format!("{longest}k"), 2),
            (longest.repeat(9), 2),
            (format!("{}\u{1f600}\u{1f600}", &longest[..MAX_KEY_BYTES - 1]), 2),
            ("\u{1f600}".repeat(1_000), 4),
            ("A".repeat(2_000), 0),
        ] {
            let cut = truncate_cursor(&after);
            assert!(cut.len() > MAX_KEY_BYTES && cut.len() <= MAX_KEY_BYTES + 4, "{}", cut.len());
            assert_eq!(storage.list_page(all.after(&after)).unwrap().keys, keys[from..]);
        }
        assert_eq!(truncate_cursor("short"), "short");
    }

    #[test]
    fn a_page_over_the_limit_is_shortened() {
        let storage = limited();
        for key in ["1234567", "2345678", "3456789"] {
            storage.set(key, "".into()).unwrap();
        }
        let page = storage.list_page(PageRequest::new(usize::MAX)).unwrap();
        assert_eq!((page.keys, page.more), (vec!["1234567".to_owned()], true));
        let page = storage.list_page(PageRequest::new(9).after("2345678")).unwrap();
        assert_eq!((page.keys, page.more), (vec!["3456789".to_owned()], false));

        // A single key over the limit is still listed.
        let limits = Limits { listing_bytes: 3, ..small() };
        let storage = LimitedStorage::new(ReferenceStorage::new(), limits);
        storage.set("1234567", "".into()).unwrap();
        let page = storage.list_page(PageRequest::new(9)).unwrap();
        assert_eq!((page.keys, page.more), (vec!["1234567".to_owned()], false));
    }

    #[test]
    fn a_batch_is_limited_in_operations_and_bytes() {
        let storage = limited();
        let four = Commit::new().require_absent("a").delete("b").delete("c").delete("d");
        assert_eq!(storage.commit(four), Err(over("operations of a batch", 3, 4)));
        let eleven = Commit::new().require_value("abc", "123".into()).set("d", "1234".into());
        assert_eq!(storage.commit(eleven), Err(over("bytes of a batch", 10, 11)));
        assert_eq!(storage.get_many(&["a"; 4]), Err(over("operations of a batch", 3, 4)));
        assert_eq!(storage.get_many(&["12345", "123456"]), Err(over("bytes of a batch", 10, 11)));
        assert_eq!(storage.inner().total(), 0);

        storage.set("a", "1234".into()).unwrap();
        storage.set("b", "1234".into()).unwrap();
        let found = storage.get_many(&["a", "b"]).unwrap();
        assert_eq!(found, [Some("1234".into()), Some("1234".into())]);
        // 3 bytes of keys and 8 bytes of values.
        assert_eq!(storage.get_many(&["a", "b", "c"]), Err(over("bytes of a batch", 10, 11)));
    }

    #[test]
    fn a_large_read_ends_at_the_limit() {
        let limits = Limits { batch_operations: 1_000, value_bytes: 100, ..small() };
        let inner = CountingStorage::new(ReferenceStorage::new());
        let storage = LimitedStorage::new(inner, Limits { batch_bytes: 1_500, ..limits });
        storage.set("k", "x".repeat(100).as_str().into()).unwrap();
        assert!(storage.get_many(&["k"; 500]).is_err());
        assert_eq!(storage.inner().calls(Method::GetMany), 1);
    }

    /// Always reports that more keys follow.
    struct Endless(ReferenceStorage);

    impl ComponentStorage for Endless {
        forward_storage!(self => self.0; get, set, delete, exists, list_keys);

        fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
            Ok(KeyPage { more: true, ..self.0.list_page(request)? })
        }
    }

    #[test]
    fn an_endless_listing_is_an_error() {
        let storage = LimitedStorage::new(Endless(ReferenceStorage::new()), small());
        storage.set("a", "".into()).unwrap();
        assert!(matches!(storage.list_keys(None), Err(StorageError::IoError(_))));
    }
}
