//! The trait that every layer implements.

use crate::{
    Commit, KeyPage, PageRequest, Revision, StorageError, StorageValue, Usage, VersionedValue,
    derived,
};

/// Key-value storage as a component, a decorator and a store all see it.
///
/// # Contract
///
/// - **`get`, `set`, `delete`, `exists` and `list_keys` are required.**
///   [`list_page`](Self::list_page), [`get_many`](Self::get_many) and
///   [`usage`](Self::usage) have defaults that build on them.
///   [`get_versioned`](Self::get_versioned) and [`commit`](Self::commit) cannot be
///   built on them and return [`StorageError::Unsupported`] by default. Override every
///   method that an implementation can do better.
/// - **Calls may come from any thread at any time.** One operation on one key
///   is atomic: a read returns a value exactly as one write stored it.
/// - **Read your writes**: once a write has returned, every later read through the same
///   storage sees it. The write is as durable as the storage promises.
/// - **Reads of several keys are not a snapshot.** [`get_many`](Self::get_many),
///   pages and consecutive reads may or may not see a write that has not
///   returned. Use the checks of a commit to keep invariants over several keys.
/// - **Keys are opaque**: compared byte by byte, never trimmed or normalised.
///   A store may refuse keys that break the rules of
///   [`validate_full_key`](crate::validate_full_key), but no others. A decorator may
///   have stricter rules.
/// - **An error changes nothing**, except where [`StorageError`] says that the
///   outcome is indeterminate.
///
/// The suite in `storage_core::conformance` (feature `conformance`) tests this
/// contract on any implementation, and lists what it does not test.
///
/// # Decorators
///
/// A decorator that does not override a provided method silently bypasses the
/// storage that it wraps. Put `#[deny(clippy::missing_trait_methods)]` on its
/// `impl`, and forward unchanged methods with
/// [`forward_storage!`](crate::forward_storage).
pub trait ComponentStorage: Send + Sync {
    /// Reads the value of a key.
    ///
    /// Returns `None` for a missing key. An empty value is `Some`.
    ///
    /// # Errors
    /// [`StorageError::InvalidKey`]; [`StorageError::Corrupt`] if the stored
    /// value fails its checksum; [`StorageError::Unavailable`] or
    /// [`StorageError::IoError`] if the store cannot be read.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("user:123", "Ada".into())?;
    /// assert_eq!(storage.get("user:123")?, Some("Ada".into()));
    /// assert_eq!(storage.get("user:124")?, None);
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError>;

    /// Stores a value under a key, whether or not the key exists.
    ///
    /// Atomic. When it returns, later reads see the value, and a persistent
    /// store has made it as durable as its settings promise.
    ///
    /// # Errors
    /// [`StorageError::InvalidKey`]; [`StorageError::QuotaExceeded`] and
    /// [`StorageError::LimitExceeded`] where a decorator enforces them;
    /// [`StorageError::ReadOnly`]. After [`StorageError::IoError`] or
    /// [`StorageError::Unavailable`] the key has its old value or the new one.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("greeting", "hello".into())?;
    /// storage.set("greeting", "good evening".into())?;
    /// assert_eq!(storage.get("greeting")?, Some("good evening".into()));
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError>;

    /// Removes a key.
    ///
    /// Atomic and, like [`set`](Self::set), durable when it returns. Deleting a
    /// missing key succeeds. A quota never prevents a delete.
    ///
    /// # Errors
    /// As [`set`](Self::set), without quota and size limits.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("draft", "...".into())?;
    /// storage.delete("draft")?;
    /// storage.delete("draft")?; // already gone
    /// assert!(!storage.exists("draft")?);
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn delete(&self, key: &str) -> Result<(), StorageError>;

    /// Returns whether a key has a value.
    ///
    /// Agrees with [`get`](Self::get), but need not read the value: it may
    /// return `true` for a value that `get` finds corrupt.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("empty", "".into())?;
    /// assert!(storage.exists("empty")?);
    /// assert!(!storage.exists("missing")?);
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn exists(&self, key: &str) -> Result<bool, StorageError>;

    /// Lists all keys, or all keys that begin with `prefix`, in ascending byte
    /// order.
    ///
    /// The list is unbounded: use [`list_page`](Self::list_page) where there may
    /// be many keys. `Some("")` is the same as `None`. `prefix` may be any text and
    /// need not be a valid key.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`StorageError::LimitExceeded`] where a decorator
    /// limits listings. A listing is never truncated silently.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// for key in ["user:2", "user:10", "admin:1"] {
    ///     storage.set(key, "".into())?;
    /// }
    /// assert_eq!(storage.list_keys(Some("user:"))?, ["user:10", "user:2"]);
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError>;

    /// Lists one page of keys in ascending byte order.
    ///
    /// A listing that continues after the last key of each page neither skips
    /// nor repeats a key that exists throughout. A page may have fewer keys than
    /// its limit although more follow, but is empty only at the end or if the limit is
    /// 0; [`KeyPage::more`] marks the end. The cost should grow with the page, not with
    /// the store. The default is slow: it lists all keys.
    ///
    /// # Errors
    /// As [`list_keys`](Self::list_keys).
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage, PageRequest};
    /// let storage = ReferenceStorage::new();
    /// for key in ["a", "b", "c"] {
    ///     storage.set(key, "".into())?;
    /// }
    /// let first = storage.list_page(PageRequest::new(2))?;
    /// assert_eq!((first.keys, first.more), (vec!["a".into(), "b".into()], true));
    /// storage.delete("b")?;
    /// let second = storage.list_page(PageRequest::new(2).after("b"))?;
    /// assert_eq!((second.keys, second.more), (vec!["c".into()], false));
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        derived::list_page(self, request)
    }

    /// Reads several keys and returns their values in the order of the keys.
    ///
    /// Not a snapshot. A missing key is `None`; a repeated key is read for each
    /// of its occurrences.
    ///
    /// # Errors
    /// As [`get`](Self::get), for the first key that fails;
    /// [`StorageError::LimitExceeded`] where a decorator limits batches.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("a", "1".into())?;
    /// assert_eq!(storage.get_many(&["b", "a"])?, [None, Some("1".into())]);
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        derived::get_many(self, keys)
    }

    /// Counts all keys, or all keys that begin with `prefix`, and the bytes of
    /// these keys and their values.
    ///
    /// Not a snapshot. May read every key that it counts.
    ///
    /// # Errors
    /// As [`list_keys`](Self::list_keys).
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage, Usage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("key", "value".into())?;
    /// assert_eq!(storage.usage(None)?, Usage { bytes: 8, keys: 1 });
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        derived::usage(self, prefix)
    }

    /// Reads a key without I/O, if its value or absence is known in memory.
    ///
    /// The key is the concatenation of `prefix` and `key`; a caller with a whole key
    /// passes `""` as `prefix`. The two are separate so that a decorator that adds a
    /// prefix need not join them for a cache hit. Decorators in front of a store
    /// of many components pass a component prefix
    /// ([`split_full_key`](crate::split_full_key)).
    ///
    /// Returns `None` if nothing is known: call [`get`](Self::get) next. Otherwise
    /// returns what `get` would return, so `Some(None)` means that the key is known to
    /// be missing. May wait for a short lock, but does no I/O and does not wait for other
    /// reads, so async hosts can call it in place. The default returns `None`.
    ///
    /// # Errors
    /// None. Returns `None` for an invalid key, so that [`get`](Self::get) refuses it.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("app/notes/home/a", "1".into())?;
    /// let value = match storage.try_get("app/notes/home/", "a") {
    ///     Some(known) => known,
    ///     None => storage.get("app/notes/home/a")?, // on a thread that may block
    /// };
    /// assert_eq!(value, Some("1".into()));
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn try_get(&self, _prefix: &str, _key: &str) -> Option<Option<StorageValue>> {
        None
    }

    /// Reads the value of a key together with its revision.
    ///
    /// The revision is that of the write that stored this value. Returns `None`
    /// for a missing key.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`StorageError::Unsupported`] from a storage
    /// without revisions, which is the default.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// let written = storage_core::put(&storage, "a", "1".into())?;
    /// assert_eq!(storage.get_versioned("a")?.map(|found| found.revision), Some(written));
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn get_versioned(&self, _key: &str) -> Result<Option<VersionedValue>, StorageError> {
        Err(derived::no_revisions())
    }

    /// Applies all writes of a commit if every check holds and the budget allows
    /// them; otherwise none.
    ///
    /// Checks and writes are one atomic step: no other write to a key of the
    /// commit happens between them, and after a crash all writes exist or none.
    /// Checks run in order, and the first one that fails determines the error; the
    /// budget is checked after them. Of several writes to one key the last one counts.
    /// All writes get the returned revision; a commit without writes returns a new one
    /// too. The keys of a commit with a budget must belong to one component.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`], [`StorageError::NotFound`] or
    /// [`StorageError::Conflict`] with the key of the failed check;
    /// [`StorageError::QuotaExceeded`]; [`StorageError::InvalidKey`] for the key of any
    /// check or write, and for a budget if the keys belong to several components;
    /// otherwise as [`set`](Self::set), where an indeterminate outcome is all writes or
    /// none. [`StorageError::Unsupported`] from a storage without commits, which is the
    /// default, or for a budget or a revision check that the storage does not support.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, Commit, ComponentStorage, StorageError};
    /// let storage = ReferenceStorage::new();
    /// // Create: of two creators one succeeds.
    /// let create = || Commit::new().require_absent("lock").set("lock", "mine".into());
    /// let revision = storage.commit(create())?;
    /// assert_eq!(storage.commit(create()), Err(StorageError::AlreadyExists("lock".into())));
    ///
    /// // Compare and swap: fails after any later write, even of the same value.
    /// storage.set("lock", "mine".into())?;
    /// let swap = Commit::new().require_revision("lock", revision).delete("lock");
    /// assert_eq!(storage.commit(swap), Err(StorageError::Conflict("lock".into())));
    /// # Ok::<(), StorageError>(())
    /// ```
    fn commit(&self, _commit: Commit) -> Result<Revision, StorageError> {
        Err(derived::no_commits())
    }
}

/// Stores a value as [`ComponentStorage::set`] does and returns the write's
/// revision.
///
/// # Errors
/// As [`ComponentStorage::commit`].
///
/// ```
/// # use storage_core::{conformance::ReferenceStorage, put};
/// let storage = ReferenceStorage::new();
/// let first = put(&storage, "a", "1".into())?;
/// let second = put(&storage, "a", "1".into())?;
/// assert!(second > first);
/// # Ok::<(), storage_core::StorageError>(())
/// ```
pub fn put<S: ComponentStorage + ?Sized>(
    storage: &S,
    key: &str,
    value: StorageValue,
) -> Result<Revision, StorageError> {
    storage.commit(Commit::new().set(key, value))
}
