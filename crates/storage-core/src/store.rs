//! A whole store, as the host and the operator see it.

use crate::derived;
use crate::{
    Compacted, ComponentStorage, Durability, KeyPage, Problem, SharedStore, StorageError,
    StorageValue, Verified,
};

/// The callback of [`Store::read_snapshot`], which is called with each key and its value.
pub type SnapshotVisitor<'a> = dyn FnMut(&str, StorageValue) -> Result<(), StorageError> + 'a;

/// One opened store, which holds the data of many components.
///
/// Backends implement it; the decorators of a component implement only
/// [`ComponentStorage`]. All keys of a store are full keys
/// ([`split_full_key`](crate::split_full_key)).
/// `Arc<dyn Store>` upcasts to `Arc<dyn ComponentStorage>`.
///
/// ```
/// use std::sync::Arc;
/// use storage_core::conformance::ReferenceStorage;
/// use storage_core::{ComponentStorage, NamespacedStorage, Store};
///
/// let store: Arc<dyn Store> = Arc::new(ReferenceStorage::new());
/// let storage: Arc<dyn ComponentStorage> = store.clone();
/// let home = NamespacedStorage::new("app/notes/home".parse()?, storage);
/// home.set("title", "Home".into())?;
/// assert_eq!(store.list_components(None, 10)?.keys, ["app/notes/home/"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Store: ComponentStorage {
    /// Returns the properties of the store, which do not change while it is open.
    ///
    /// # Errors
    /// None.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, Store};
    /// let properties = ReferenceStorage::new().properties();
    /// assert_eq!((properties.kind, properties.durability), ("reference", None));
    /// ```
    fn properties(&self) -> StoreProperties;

    /// Lists the component prefixes that have at least one key, in ascending
    /// byte order.
    ///
    /// Unscoped keys belong to no component. `after` is the last prefix of the previous
    /// page; `after` and `limit` work as in a [`PageRequest`](crate::PageRequest). The
    /// cost should grow with the number of components. The default is slow: it lists all
    /// keys.
    ///
    /// # Errors
    /// As [`ComponentStorage::list_keys`];
    /// [`StorageError::UnreadableComponent`] if the first component after `after`
    /// cannot be read. A page ends before such a component; pass its prefix as `after`
    /// to skip it.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage, Store};
    /// let store = ReferenceStorage::new();
    /// for key in ["app/notes/home/1", "app/notes/work/1", "app/notes/work/2"] {
    ///     store.set(key, "".into())?;
    /// }
    /// let page = store.list_components(None, 10)?;
    /// assert_eq!(page.keys, ["app/notes/home/", "app/notes/work/"]);
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        derived::list_components(self, after, limit)
    }

    /// Calls `visit` with every key that begins with `prefix` and follows
    /// `after`, and its value, in ascending byte order, all at one point in time.
    ///
    /// The snapshot contains every write that returned before the call and none
    /// that began after it, and each commit as a whole or not at all. Writers may wait
    /// until it returns, so `visit` must not use the same store. An error of `visit` ends
    /// the snapshot and is returned.
    ///
    /// # Errors
    /// The error of `visit`; as [`ComponentStorage::get`], for the first key that cannot
    /// be read; [`StorageError::Unsupported`] from a store without snapshots, which is
    /// the default.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage, Store};
    /// let (store, copy) = (ReferenceStorage::new(), ReferenceStorage::new());
    /// store.set("a", "1".into())?;
    /// store.read_snapshot("", None, &mut |key, value| copy.set(key, value))?;
    /// assert_eq!(copy.get("a")?, Some("1".into()));
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

    /// Makes every write that has returned durable.
    ///
    /// A store whose writes are durable when they return, or that is not
    /// persistent, has nothing to do. That is the default.
    ///
    /// # Errors
    /// [`StorageError::IoError`] or [`StorageError::Unavailable`]: writes that
    /// were not durable before may still not be.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage, Store};
    /// let store = ReferenceStorage::new();
    /// store.set("a", "1".into())?;
    /// store.flush()?;
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn flush(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Reads the whole store and calls `report` with each problem that it finds.
    ///
    /// Changes nothing. Returns what it read; damaged data is reported and not
    /// counted as keys. A persistent store reads its files, even if it has a copy in memory:
    /// a key that is undamaged only in memory would be lost when the store is opened again.
    /// It may wait for writes, and writers may wait until it returns, so `report` must not
    /// use the same store.
    ///
    /// # Errors
    /// [`StorageError::IoError`] or [`StorageError::Unavailable`] if the store
    /// cannot be read at all; damage is a [`Problem`], not an error.
    /// [`StorageError::Unsupported`] from a store that cannot verify itself while
    /// it is open, which is the default.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, ComponentStorage, Store};
    /// let store = ReferenceStorage::new();
    /// store.set("app/notes/home/a", "1".into())?;
    /// let verified = store.verify(&mut |problem| println!("{problem}"))?;
    /// assert_eq!((verified.usage.keys, verified.problems), (1, 0));
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    fn verify(&self, _report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        Err(derived::no_verify())
    }

    /// Returns space that deleted and overwritten values took to the file system.
    ///
    /// Keys, values and revisions stay as they are, and so do writes that have returned,
    /// whose durability does not change. A process that is killed meanwhile, or a power cut,
    /// loses nothing; the next opening may take longer. Other calls may wait until it
    /// returns, which takes time in proportion to the size of the store. It may need free
    /// space.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if a long read, such as a snapshot, prevents it: retry
    /// when that has ended. [`StorageError::ReadOnly`]; [`StorageError::IoError`], after
    /// which the store holds the same data. [`StorageError::Unsupported`] from a store that
    /// has nothing to compact or cannot do so, which is the default; the text says what
    /// returns the space instead.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, StorageError, Store};
    /// let store = ReferenceStorage::new();
    /// assert!(matches!(store.compact(), Err(StorageError::Unsupported(_))));
    /// ```
    fn compact(&self) -> Result<Compacted, StorageError> {
        Err(derived::no_compact())
    }

    /// Returns what a host needs to cache a store that other hosts write to.
    ///
    /// Required of a store whose properties say
    /// [`shared_with_other_hosts`](StoreProperties::shared_with_other_hosts). `None`, the
    /// default, from a store that belongs to one host.
    ///
    /// # Errors
    /// None.
    ///
    /// # Examples
    /// ```
    /// # use storage_core::{conformance::ReferenceStorage, Store};
    /// assert!(ReferenceStorage::new().shared().is_none());
    /// ```
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}

/// The properties of an open [`Store`], which do not change.
///
/// ```
/// use storage_core::{Durability, StoreProperties};
///
/// let properties = StoreProperties::new("file")
///     .with_format(1)
///     .with_durability(Durability::Sync);
/// assert!(properties.may_block && !properties.shared_with_other_hosts);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreProperties {
    /// The kind of store, such as `file` or `memory`.
    pub kind: &'static str,
    /// The version of the on-disk format; `None` without one.
    pub format: Option<u32>,
    /// The store's id, chosen at random when it is created; `None` without one. Optional:
    /// `doctor` shows it, so that operators can tell stores apart. `copy` gives the target
    /// an id of its own.
    pub store_id: Option<String>,
    /// What an acknowledged write survives; `None` if the store is not persistent.
    pub durability: Option<Durability>,
    /// Whether calls may wait for I/O. If not, an async host may make them on its
    /// executor's threads.
    pub may_block: bool,
    /// Whether other hosts may write to the same data, so that a cache in front
    /// of the store can be stale.
    pub shared_with_other_hosts: bool,
    /// Whether a failover to a replica can lose acknowledged writes whatever the settings
    /// of the servers, because they replicate asynchronously. Then `durability` is that of one
    /// server. `false` from a store without replicas, and if the settings decide.
    pub failover_can_lose_writes: bool,
}

impl StoreProperties {
    /// Properties of a store that is not persistent, may block and belongs to
    /// this host alone.
    pub const fn new(kind: &'static str) -> Self {
        Self {
            kind,
            format: None,
            store_id: None,
            durability: None,
            may_block: true,
            shared_with_other_hosts: false,
            failover_can_lose_writes: false,
        }
    }

    /// Sets the version of the on-disk format.
    #[must_use]
    pub fn with_format(mut self, format: u32) -> Self {
        self.format = Some(format);
        self
    }

    /// Sets the store's id.
    #[must_use]
    pub fn with_store_id(mut self, id: impl Into<String>) -> Self {
        self.store_id = Some(id.into());
        self
    }

    /// Sets what an acknowledged write survives.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Sets whether calls may wait for I/O.
    #[must_use]
    pub fn with_may_block(mut self, may_block: bool) -> Self {
        self.may_block = may_block;
        self
    }

    /// Sets whether other hosts may write to the same data.
    #[must_use]
    pub fn with_shared_with_other_hosts(mut self, shared: bool) -> Self {
        self.shared_with_other_hosts = shared;
        self
    }

    /// Sets whether a failover can lose acknowledged writes.
    #[must_use]
    pub fn with_failover_can_lose_writes(mut self, can_lose: bool) -> Self {
        self.failover_can_lose_writes = can_lose;
        self
    }

    /// Returns what a failover can lose, in words to show next to the durability; `None` if
    /// nothing.
    ///
    /// ```
    /// use storage_core::StoreProperties;
    ///
    /// let properties = StoreProperties::new("mine").with_failover_can_lose_writes(true);
    /// assert!(properties.failover_loss().unwrap().starts_with("a failover can lose"));
    /// ```
    pub fn failover_loss(&self) -> Option<&'static str> {
        self.failover_can_lose_writes.then_some(
            "a failover can lose acknowledged writes, because the servers replicate asynchronously",
        )
    }
}
