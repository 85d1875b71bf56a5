//! [`RocksDbStorage`]: opening a store, and its traits.

use std::mem;
use std::path::Path;
use std::sync::Arc;

use storage_core::{
    Commit, Compacted, ComponentStorage, Durability, KeyPage, PageRequest, Problem, Revision,
    SharedStore, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties, Usage,
    Verified, VersionedValue, split_full_key, validate_full_key,
};

use super::database::Database;
use super::engine_writer::EngineWriter;
use super::layout::Layout;
use super::options::RocksDbOptions;
use super::writer::Writer;
use super::{checkpoint, close_marker, compaction, listing, meta, opening, verify};
use crate::disk;

/// A store in RocksDB, an engine in C++: for many keys, many writers, and more data than
/// memory.
///
/// Every record has a checksum that covers its key, and RocksDB's blocks have theirs, so
/// damage is [`StorageError::Corrupt`] and never a wrong value. One process writes at a
/// time ([`StorageError::Locked`]); others may read at the same time.
///
/// Costs: a `get` looks in memory and, thanks to bloom filters, in few files. A `set`
/// appends to a log and, with [`Durability::Sync`], syncs it; waiting writers share a sync.
/// The cost of a page of a listing grows with its keys. `usage` reads all values of a
/// component, or one number once the component had a budget.
///
/// When the store is dropped, it writes what is in memory to files, so that the next
/// opening need not replay the log. A killed process loses nothing either, but the next
/// opening takes longer.
///
/// A write that fails with [`StorageError::IoError`] may take effect when the store is
/// reopened. So its keys return [`StorageError::Unavailable`] until they are written
/// again or the store is reopened. Other writes fail before they start, until RocksDB
/// accepts writes again; after a full disk it does so by itself.
///
/// Before each write the store compares its path with what it has locked. If it was moved
/// or replaced, the write returns [`StorageError::Unavailable`] and writes nothing. Files
/// that RocksDB has not opened yet are then read from the new store at the path. If the
/// store is dropped then, RocksDB stays open, with its memory, until the process ends.
///
/// ```
/// use storage_backends::{RocksDbOptions, RocksDbStorage};
/// use storage_core::ComponentStorage;
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// let storage = RocksDbStorage::open(&path, RocksDbOptions::default())?;
/// storage.set("app/notes/home/note-1", "buy milk".into())?;
/// drop(storage);
///
/// let again = RocksDbStorage::open_read_only(&path, RocksDbOptions::default())?;
/// assert_eq!(again.get("app/notes/home/note-1")?, Some("buy milk".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RocksDbStorage {
    store_id: String,
    durability: Durability,
    // The fields from here on are dropped in this order: the database writes to its files
    // until it is closed, then it is marked as closed, then its lock is released.
    database: Arc<Database>,
    closing: Closing,
    /// `None` in a read-only store.
    writer: Option<Writer>,
}

impl RocksDbStorage {
    /// Opens a store for reading and writing, creates it if there is none, and replays
    /// the log that a killed process left. A new directory is private to the process's
    /// user.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another opening writes; [`StorageError::Unsupported`]
    /// for another format or a durability that RocksDB lacks;
    /// [`StorageError::Corrupt`]; [`StorageError::IoError`] if the path is a file,
    /// cannot be written, holds other files, is a dangling symbolic link, or is on a
    /// file system without locks.
    pub fn open(path: impl AsRef<Path>, options: RocksDbOptions) -> Result<Self, StorageError> {
        let sync = disk::syncs(options.durability, "rocksdb")?;
        let layout = Layout::of_store(path.as_ref())?;
        let (opened, lock) = opening::open(&layout, &options)?;
        let has_counters = opened.database.has_counters()?;
        let engine = EngineWriter::new(sync, opened.meta.reserved, lock);
        let writer = Writer::new(engine, has_counters);
        Ok(Self {
            store_id: opened.meta.store_id,
            durability: options.durability,
            database: Arc::new(opened.database),
            closing: Closing { layout, in_order: false },
            writer: Some(writer),
        })
    }

    /// Opens a store for reading, at one point in time: later writes are not seen.
    /// Changes nothing and takes no lock. The log is replayed in memory.
    ///
    /// # Errors
    /// [`StorageError::IoError`] if there is no store; [`StorageError::Unsupported`] and
    /// [`StorageError::Corrupt`] as in [`open`](Self::open);
    /// [`StorageError::Unavailable`] if a writer changes files faster than they can be
    /// opened.
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: RocksDbOptions,
    ) -> Result<Self, StorageError> {
        let layout = Layout::of_store(path.as_ref())?;
        let opened = opening::open_to_read(&layout, &options)?;
        Ok(Self {
            store_id: opened.meta.store_id,
            durability: options.durability,
            database: Arc::new(opened.database),
            closing: Closing { layout, in_order: false },
            writer: None,
        })
    }

    /// Creates a store at `target`, which must not exist, with everything that this one
    /// holds at one point in time during the call, while others write.
    ///
    /// On one file system the copy takes little room and time, because it shares the
    /// files that never change. It has its own store id, because from now on the two
    /// stores use the same revisions for different writes.
    ///
    /// The copy is made in a directory next to `target`, whose name adds `.partial-`, and
    /// is renamed when it is complete and durable. A killed process leaves that directory
    /// behind.
    ///
    /// # Errors
    /// [`StorageError::ReadOnly`] if this store is read-only; [`StorageError::IoError`]
    /// if `target` exists or cannot be written.
    pub fn checkpoint(&self, target: &Path) -> Result<(), StorageError> {
        let writer = self.writer()?;
        checkpoint::create(&self.database, writer.engine(), target)
    }

    /// Reads the whole store at one point in time and reports problems: blocks and
    /// records against their checksums, keys against the rules, revisions against their
    /// counter, and usage counters against a recount. Changes nothing, takes no lock and
    /// works while a process writes.
    ///
    /// Damage to RocksDB's log or list of files is the only problem reported, because the
    /// store cannot be opened then.
    ///
    /// # Errors
    /// As [`open_read_only`](Self::open_read_only), except that damage is reported as a
    /// problem.
    pub fn verify(
        path: impl AsRef<Path>,
        report: &mut dyn FnMut(Problem),
    ) -> Result<Verified, StorageError> {
        verify::verify(&Layout::of_store(path.as_ref())?, report)
    }

    /// The store's id, chosen at random when it was created.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    fn writer(&self) -> Result<&Writer, StorageError> {
        self.writer.as_ref().ok_or(StorageError::ReadOnly)
    }

    /// Checks a key that is about to be read.
    fn check_key(&self, key: &str) -> Result<(), StorageError> {
        validate_full_key(key)?;
        self.writer.as_ref().map_or(Ok(()), |writer| writer.check_key(key))
    }
}

impl Drop for RocksDbStorage {
    fn drop(&mut self) {
        let Some(writer) = &self.writer else { return };
        if writer.engine().check_in_place().is_err() {
            // Do not close RocksDB: it would write its list of files to the path, where
            // another store may be, and remove unknown files. All writes are in the log
            // of the moved store.
            self.database.db.cancel_all_background_work(true);
            mem::forget(Arc::clone(&self.database));
            return;
        }
        // If this fails, all writes are still in the log.
        if opening::flush_memory(&self.database.db).is_err() {
            return;
        }
        if !writer.engine().is_sync() {
            let _ = self.closing.layout.set_unsynced(false);
        }
        self.closing.in_order = true;
    }
}

/// Writes the close marker when it is dropped.
#[derive(Debug)]
struct Closing {
    layout: Layout,
    in_order: bool,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if self.in_order {
            // Without the marker the store opens as after a kill.
            let _ = close_marker::write(&self.layout);
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for RocksDbStorage {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(self.get_versioned(key)?.map(|found| found.value))
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.writer()?.write_one(&self.database, key, Some(value)).map(drop)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.writer()?.write_one(&self.database, key, None).map(drop)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        self.check_key(key)?;
        Ok(self.database.record(key)?.is_some())
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let all = PageRequest::new(usize::MAX).with_prefix(prefix.unwrap_or_default());
        Ok(listing::page(&self.database, all)?.keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        listing::page(&self.database, request)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        keys.iter().try_for_each(|key| self.check_key(key))?;
        self.database.get_many(keys)
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        let prefix = prefix.unwrap_or_default();
        let (component, rest) = split_full_key(prefix);
        let may_have_counter = self.writer.as_ref().is_none_or(Writer::has_counters);
        if may_have_counter
            && !component.is_empty()
            && rest.is_empty()
            && let Some(usage) = self.database.usage_counter(component)?
        {
            let prefixes = usage.keys.saturating_mul(component.len() as u64);
            return Ok(usage + Usage { bytes: prefixes, keys: 0 });
        }
        listing::usage(&self.database, prefix)
    }

    fn try_get(&self, _prefix: &str, _key: &str) -> Option<Option<StorageValue>> {
        // The value may have to be read from the disk.
        None
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.check_key(key)?;
        self.database.get(key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        self.writer()?.commit(&self.database, &commit)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for RocksDbStorage {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("rocksdb")
            .with_format(meta::FORMAT_NUMBER)
            .with_store_id(self.store_id.as_str())
            .with_durability(self.durability)
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        listing::components(&self.database, after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let request = PageRequest { prefix, after, limit: usize::MAX };
        // An indeterminate key may be missing from the snapshot and appear later.
        let check = || match &self.writer {
            Some(writer) => writer.check_keys(|key| request.wants(key)),
            None => Ok(()),
        };
        listing::read_snapshot(&self.database, request, check, visit)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.engine().flush(&self.database))
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        verify::verify(&self.closing.layout, report)
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        compaction::compact(&self.database, self.writer()?.engine())
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}
