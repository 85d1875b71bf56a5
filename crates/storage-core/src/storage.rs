//! The one trait that every layer implements.

use std::sync::Arc;

use crate::derived;
use crate::{
    Commit, KeyPage, PageRequest, Revision, StorageError, StorageValue, Usage, VersionedValue,
};

/// What [`read_snapshot`](ComponentStorage::read_snapshot) calls with each key and
/// its value.
pub type SnapshotVisitor<'a> = dyn FnMut(&str, StorageValue) -> Result<(), StorageError> + 'a;

/// Key-value storage, as a component, a cache and a backend all have it.
///
/// # Contract
///
/// - **Five methods are required.** The others are derived from them, except
///   the versioned reads and writes and the atomic [`commit`](Self::commit),
///   which only an implementation itself can offer and which otherwise answer
///   [`StorageError::Unsupported`]. An implementation overrides whatever it can
///   do better.
/// - **Calls may come from any thread at any time.** One operation on one key
///   is atomic: a read sees a value whole, as one write left it.
/// - **A write that returned is seen by every later read** through the same
///   storage, and lasts as long as the storage promises.
/// - **Reads of several keys are not a snapshot**: [`get_many`](Self::get_many),
///   pages and two reads in a row may each run ahead of or behind a write that
///   has not returned. Invariants over several keys are kept by the checks of a
///   commit.
/// - **Keys are opaque**: compared byte by byte, never trimmed or normalised.
///   An implementation may refuse keys that break the rules of
///   [`validate_full_key`](crate::validate_full_key), no others.
/// - **An error changes nothing**, except where [`StorageError`] says that the
///   outcome is unknown.
///
/// The suite in `storage_core::conformance` (feature `conformance`) tests all
/// of this on any implementation.
///
/// # Decorators
///
/// A wrapper that forgets a provided method silently bypasses what it wraps.
/// Put `#[deny(clippy::missing_trait_methods)]` on its `impl`.
pub trait ComponentStorage: Send + Sync {
    /// Reads the value of a key.
    ///
    /// A missing key is `None`; an empty value is `Some`.
    ///
    /// # Errors
    /// [`StorageError::InvalidKey`]; [`StorageError::Corrupt`] if what is stored
    /// cannot be trusted, never a wrong value; [`StorageError::Unavailable`] or
    /// [`StorageError::IoError`] if the backend cannot answer.
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
    /// Atomic. When it returns, later reads see the value; a store that lasts
    /// has made it durable as far as its settings promise.
    ///
    /// # Errors
    /// [`StorageError::InvalidKey`]; [`StorageError::QuotaExceeded`] and
    /// [`StorageError::LimitExceeded`] where a layer sets them;
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
    /// Atomic and, like [`set`](Self::set), durable when it returns. A missing
    /// key is no error. A quota never stands in its way.
    ///
    /// # Errors
    /// As [`set`](Self::set), without quota and limits of size.
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

    /// Tells whether a key has a value.
    ///
    /// Agrees with [`get`](Self::get), but need not read the value, so it may
    /// say `true` for a value that `get` finds corrupt.
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

    /// Lists every key, or every key that begins with `prefix`, in ascending
    /// byte order.
    ///
    /// Unbounded: [`list_page`](Self::list_page) is the choice for listings of
    /// unknown length. `Some("")` is the same as `None`. Nothing found is an
    /// empty list.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`StorageError::LimitExceeded`] where a layer
    /// limits listings, which are never cut short.
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
    /// Going on after the last key seen never skips or repeats a key that was
    /// there all along. A page may be shorter than its limit although more keys
    /// follow, but then it has one at least; [`KeyPage::more`] tells. Its cost
    /// grows with the page, not with the store: implementations override the
    /// default, which lists everything.
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

    /// Lists the partitions that hold a key, in ascending byte order, each as
    /// the prefix that its keys share: `namespace/name/instance/`.
    ///
    /// A partition is everything up to the third slash of a key
    /// ([`split_full_key`](crate::split_full_key)), so on a backend this
    /// enumerates the components. Keys with fewer slashes belong to none. `after`
    /// is the last partition seen. The cost grows with the number of partitions
    /// where the implementation overrides the default, which lists every key.
    ///
    /// # Errors
    /// As [`list_keys`](Self::list_keys);
    /// [`StorageError::UnreadableComponent`] if the first component after `after`
    /// cannot be read. A page ends before such a component, and with its prefix
    /// as `after` the listing goes on behind it.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("app/notes/home/1", "".into())?;
    /// storage.set("app/notes/work/1", "".into())?;
    /// storage.set("app/notes/work/2", "".into())?;
    /// let page = storage.list_partitions(None, 10)?;
    /// assert_eq!(page.keys, ["app/notes/home/", "app/notes/work/"]);
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn list_partitions(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        derived::partitions_from_listing(self, after, limit)
    }

    /// Reads several keys; the answers stand in the order of the keys.
    ///
    /// Not a snapshot. A missing key is `None`, a key named twice is answered
    /// twice.
    ///
    /// # Errors
    /// As [`get`](Self::get), for the first key that fails.
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

    /// Counts the keys, or the keys that begin with `prefix`, and the bytes of
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

    /// Reads every key that begins with `prefix` and lies behind `after`, with
    /// its value, in ascending byte order, all as of one moment.
    ///
    /// A write that returned before the call is seen, one that began after it is
    /// not, and a commit is seen whole or not at all. It is what a consistent
    /// copy of a storage in use is taken from. Writers may have to wait until it
    /// returns, so `visit` must not write to the same storage. What `visit`
    /// answers ends the walk if it is an error, and is returned.
    ///
    /// # Errors
    /// The visitor's; as [`get`](Self::get), for the first key that cannot be
    /// read: nothing is left out silently; [`StorageError::Unsupported`] where
    /// one moment cannot be had, which is the default.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let (storage, copy) = (ReferenceStorage::new(), ReferenceStorage::new());
    /// storage.set("user:1", "Ada".into())?;
    /// storage.set("user:2", "Bob".into())?;
    /// storage.read_snapshot("user:", None, &mut |key, value| copy.set(key, value))?;
    /// assert_eq!(copy.list_keys(None)?, ["user:1", "user:2"]);
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn read_snapshot(
        &self,
        _prefix: &str,
        _after: Option<&str>,
        _visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        Err(derived::no_snapshots())
    }

    /// Makes every write that has returned as durable as the storage can make
    /// it.
    ///
    /// A storage whose writes are durable when they return, or that never lasts,
    /// has nothing to do; that is the default.
    ///
    /// # Errors
    /// [`StorageError::IoError`] or [`StorageError::Unavailable`]: what was not
    /// durable before may still not be.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("a", "1".into())?;
    /// storage.flush()?;
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn flush(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Reads a key if the answer is at hand, without blocking and without I/O.
    ///
    /// `None`: not at hand, ask [`get`](Self::get). `Some(None)`: the key is
    /// known to be missing. A caller that must not block, such as an async host,
    /// asks here first. The default never knows.
    ///
    /// # Errors
    /// None: whatever is not a ready answer is `None`, a key that
    /// [`get`](Self::get) refuses too.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("a", "1".into())?;
    /// let value = match storage.try_get("a") {
    ///     Some(at_hand) => at_hand,
    ///     None => storage.get("a")?, // on a thread that may block
    /// };
    /// assert_eq!(value, Some("1".into()));
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn try_get(&self, _key: &str) -> Option<Option<StorageValue>> {
        None
    }

    /// Reads a key from memory if it is there, for a caller who has the key's
    /// partition and the rest apart ([`split_full_key`](crate::split_full_key)),
    /// and who asks [`get`](Self::get) next if it is not.
    ///
    /// It spares a cache's caller from joining the two for a hit, which takes as
    /// long as the look-up itself. The answer is what `get` would give; `None` says
    /// nothing, and is always right. It never waits for I/O or another read, but
    /// unlike [`try_get`](Self::try_get) it may wait for a lock for a moment. It knows
    /// no key that breaks the rules of [`validate_full_key`](crate::validate_full_key),
    /// so a caller need not look at every byte of a key that it knows.
    ///
    /// The default never knows, so a decorator that does not override it is asked
    /// by `get`.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// storage.set("app/notes/home/a", "1".into())?;
    /// let value = match storage.recall("app/notes/home/", "a") {
    ///     Some(at_hand) => at_hand,
    ///     None => storage.get("app/notes/home/a")?,
    /// };
    /// assert_eq!(value, Some("1".into()));
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn recall(&self, _partition: &str, _own_key: &str) -> Option<Option<StorageValue>> {
        None
    }

    /// Reads the value of a key together with its revision.
    ///
    /// The two belong together: the value is the one that the revision's write
    /// stored. A missing key is `None`.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`StorageError::Unsupported`] where there are no
    /// revisions, which is the default.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// let written = storage.put("a", "1".into())?;
    /// assert_eq!(storage.get_versioned("a")?.map(|found| found.revision), Some(written));
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn get_versioned(&self, _key: &str) -> Result<Option<VersionedValue>, StorageError> {
        Err(derived::no_revisions())
    }

    /// Stores a value as [`set`](Self::set) does and tells the write's revision.
    ///
    /// # Errors
    /// As [`set`](Self::set); [`StorageError::Unsupported`] where there are no
    /// revisions, which is the default.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage};
    /// let storage = ReferenceStorage::new();
    /// let first = storage.put("a", "1".into())?;
    /// let second = storage.put("a", "1".into())?;
    /// assert!(second > first);
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn put(&self, _key: &str, _value: StorageValue) -> Result<Revision, StorageError> {
        Err(derived::no_revisions())
    }

    /// Applies a commit: if every check holds and the budget allows it, all of
    /// its writes, else none.
    ///
    /// Checks and writes happen at one moment: no other write to a key that the
    /// commit names comes between them, and after a crash all writes are there
    /// or none. Checks are tried in their order and the first that does not hold
    /// is reported; then the budget. A key may be written more than once, the
    /// last write counts. All writes have the revision that is returned; a
    /// commit without writes returns one too. With a budget, all keys must lie
    /// in one partition.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`], [`StorageError::NotFound`] or
    /// [`StorageError::Conflict`] with the key of the check that did not hold;
    /// [`StorageError::QuotaExceeded`]; [`StorageError::InvalidKey`] also for a
    /// budget over several partitions; otherwise as [`set`](Self::set), with all
    /// writes or none behind an unknown outcome.
    /// [`StorageError::Unsupported`] where there are no commits, which is the
    /// default, and for a budget or a check of a revision where there are
    /// commits without them.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, Commit, ComponentStorage, StorageError};
    /// let storage = ReferenceStorage::new();
    /// // Create-only: of two creators one wins.
    /// let create = || Commit::new().require_absent("lock").set("lock", "mine".into());
    /// storage.commit(create())?;
    /// assert_eq!(storage.commit(create()), Err(StorageError::AlreadyExists("lock".into())));
    ///
    /// // Increment: read, compare the revision, write.
    /// let held = storage.get_versioned("lock")?.ok_or(StorageError::QuotaExceeded)?;
    /// storage.set("lock", "mine".into())?; // the same value, but a later write
    /// let swap = Commit::new().require_revision("lock", held.revision).delete("lock");
    /// assert_eq!(storage.commit(swap), Err(StorageError::Conflict("lock".into())));
    /// # Ok::<(), StorageError>(())
    /// ```
    fn commit(&self, _commit: Commit) -> Result<Revision, StorageError> {
        Err(derived::no_commits())
    }
}

/// Forwards every method to what a pointer points to.
macro_rules! forward_to_pointee {
    ($($pointer:ty),+) => {$(
        #[deny(clippy::missing_trait_methods)]
        impl<T: ComponentStorage + ?Sized> ComponentStorage for $pointer {
            fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
                (**self).get(key)
            }
            fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
                (**self).set(key, value)
            }
            fn delete(&self, key: &str) -> Result<(), StorageError> {
                (**self).delete(key)
            }
            fn exists(&self, key: &str) -> Result<bool, StorageError> {
                (**self).exists(key)
            }
            fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
                (**self).list_keys(prefix)
            }
            fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
                (**self).list_page(request)
            }
            fn list_partitions(
                &self,
                after: Option<&str>,
                limit: usize,
            ) -> Result<KeyPage, StorageError> {
                (**self).list_partitions(after, limit)
            }
            fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
                (**self).get_many(keys)
            }
            fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
                (**self).usage(prefix)
            }
            fn read_snapshot(
                &self,
                prefix: &str,
                after: Option<&str>,
                visit: &mut SnapshotVisitor<'_>,
            ) -> Result<(), StorageError> {
                (**self).read_snapshot(prefix, after, visit)
            }
            fn flush(&self) -> Result<(), StorageError> {
                (**self).flush()
            }
            fn try_get(&self, key: &str) -> Option<Option<StorageValue>> {
                (**self).try_get(key)
            }
            fn recall(&self, partition: &str, own_key: &str) -> Option<Option<StorageValue>> {
                (**self).recall(partition, own_key)
            }
            fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
                (**self).get_versioned(key)
            }
            fn put(&self, key: &str, value: StorageValue) -> Result<Revision, StorageError> {
                (**self).put(key, value)
            }
            fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
                (**self).commit(commit)
            }
        }
    )+};
}

forward_to_pointee!(&T, Box<T>, Arc<T>);
