//! The store itself: opening it, and the methods of the trait.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, mem};

use ::rocksdb::{DB, FlushOptions, IteratorMode, ReadOptions, WriteOptions};
use storage_core::{
    Commit, ComponentStorage, Durability, KeyPage, PageRequest, Problem, Revision, SnapshotVisitor,
    StorageError, StorageValue, Store, StoreProperties, Usage, Verified, VersionedValue,
};

use super::errors;
use super::layout::Layout;
use super::meta;
use super::opening::{self, Opened};
use super::options::{COLUMN_FAMILIES, LEDGERS, RocksDbOptions};
use super::usage::Ledgers;
use super::writer::{self, Writer};

/// A store in RocksDB, an engine in C++: for many keys, many writers, and more
/// data than memory.
///
/// Every record has a checksum that covers its key, and RocksDB's blocks have
/// theirs, so damage is [`StorageError::Corrupt`] and never a wrong value. One
/// process writes at a time ([`StorageError::Locked`]); others may read beside
/// it.
///
/// Costs: a `get` looks into memory and, by bloom filters, into few files. A
/// `set` appends to a log and, with [`Durability::Sync`], syncs it; writers that
/// wait at the same time share a sync. A page of a listing costs a page. `usage`
/// of a component reads its values, or one number once a budget has been used
/// with it.
///
/// When it is dropped, what is in memory is written to files, so that nothing
/// has to be replayed when the store is opened again. A process that is killed
/// loses nothing either: it takes longer to open.
///
/// A write that fails with [`StorageError::IoError`] may have happened after the
/// store was opened again, so its keys answer [`StorageError::Unavailable`] until
/// they are written again or the store is opened anew. Until RocksDB accepts
/// writes again, which after a full disk it does by itself, others are refused
/// before they begin.
///
/// Before each write the store compares its path with what it has locked. If it
/// was moved or replaced, the write answers [`StorageError::Unavailable`] and
/// nothing is written. Files that RocksDB has not opened yet are then read from
/// what is at the path. If it is dropped meanwhile, RocksDB stays open, with its
/// memory, until the process ends.
///
/// ```
/// use storage_backends::{RocksDbOptions, RocksDbStorage};
/// use storage_core::ComponentStorage;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("store");
/// let storage = RocksDbStorage::open(&path, RocksDbOptions::default())?;
/// storage.set("app/notes/home/note-1", "buy milk".into())?;
/// drop(storage);
///
/// let again = RocksDbStorage::open_read_only(&path, RocksDbOptions::default())?;
/// assert_eq!(again.get("app/notes/home/note-1")?, Some("buy milk".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RocksDbStorage {
    // Closed before the writer's lock is dropped. Shared with nobody but its drop.
    pub(super) db: Arc<DB>,
    /// What is done behind it.
    closing: Closing,
    pub(super) root: PathBuf,
    store_id: String,
    durability: Durability,
    pub(super) read_options: ReadOptions,
    pub(super) write_options: WriteOptions,
    /// What writing takes; `None` where the store is open for reading only.
    pub(super) writer: Option<Writer>,
}

impl RocksDbStorage {
    /// Opens the store in a folder for reading and writing, makes it if there is
    /// none, and replays what a killed process left in the log. A folder that it
    /// makes is for the process's own user alone.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process writes, or this one already
    /// does; [`StorageError::Unsupported`] for a store of another format;
    /// [`StorageError::Corrupt`]; [`StorageError::IoError`] if the path is a
    /// file, cannot be written, holds other people's files, is a symbolic link to
    /// nothing, or is where locks do not work.
    pub fn open(path: impl AsRef<Path>, options: RocksDbOptions) -> Result<Self, StorageError> {
        let sync = crate::disk::syncs(options.durability, "rocksdb")?;
        let layout = Layout::of_store(path.as_ref())?;
        let (Opened { db, meta }, lock) = opening::open(&layout, &options)?;
        let has_ledgers = has_ledgers(&db, &layout.root)?;
        let writer = Writer::new(sync, meta.reserved, Ledgers::new(has_ledgers), lock);
        Ok(Self::new(Opened { db, meta }, layout.root, options.durability, Some(writer)))
    }

    /// Opens the store in a folder for reading, as it is at that moment: what a
    /// running writer writes later is not seen. Creates nothing, changes nothing
    /// and takes no lock. What is in the log is replayed in memory.
    ///
    /// # Errors
    /// [`StorageError::IoError`] if there is no store;
    /// [`StorageError::Unsupported`] and [`StorageError::Corrupt`] as in
    /// [`open`](Self::open); [`StorageError::Unavailable`] if a writer changes
    /// files faster than they can be opened.
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: RocksDbOptions,
    ) -> Result<Self, StorageError> {
        let layout = Layout::of_store(path.as_ref())?;
        let opened = opening::open_to_read(&layout, &options)?;
        Ok(Self::new(opened, layout.root, options.durability, None))
    }

    fn new(opened: Opened, root: PathBuf, durability: Durability, writer: Option<Writer>) -> Self {
        let sync = writer.as_ref().is_some_and(|writer| writer.sync);
        Self {
            db: Arc::new(opened.db),
            closing: Closing { layout: Layout::new(&root), in_order: false },
            root,
            store_id: opened.meta.store_id,
            durability,
            read_options: ReadOptions::default(),
            write_options: writer::write_options(sync),
            writer,
        }
    }

    /// The store's random id, which no copy of it shares.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }
}

/// Writes what a database has in memory to files, so that its log holds nothing
/// that is needed.
pub(super) fn write_out(db: &DB) -> Result<(), ::rocksdb::Error> {
    let families: Vec<_> = COLUMN_FAMILIES.iter().filter_map(|name| db.cf_handle(name)).collect();
    let mut options = FlushOptions::default();
    options.set_wait(true);
    db.flush_cfs_opt(&families, &options)
}

/// Whether any partition has a ledger.
fn has_ledgers(db: &DB, root: &Path) -> Result<bool, StorageError> {
    let Some(family) = db.cf_handle(LEDGERS) else { return Ok(false) };
    match db.iterator_cf(family, IteratorMode::Start).next() {
        None => Ok(false),
        Some(Ok(_)) => Ok(true),
        // There is something, which whoever needs it will find broken.
        Some(Err(error)) if error.kind() == ::rocksdb::ErrorKind::Corruption => Ok(true),
        Some(Err(error)) => Err(errors::failed("read", root, &error)),
    }
}

impl Drop for RocksDbStorage {
    fn drop(&mut self) {
        let Some(writer) = &self.writer else { return };
        if writer.lock.check().is_err() {
            // RocksDB is not closed: it would write its list of files to the path,
            // where another store may be, and remove files that it does not know.
            // Everything that was written is in the log of the store that was moved.
            self.db.cancel_all_background_work(true);
            mem::forget(Arc::clone(&self.db));
            return;
        }
        // If it fails, it is in the log still.
        if write_out(&self.db).is_err() {
            return;
        }
        if !writer.sync {
            let _ = self.closing.layout.set_unsynced(false);
        }
        self.closing.in_order = true;
    }
}

/// Dropped behind the database, which writes to its list of files until then, and
/// before the writer's lock.
#[derive(Debug)]
struct Closing {
    layout: Layout,
    in_order: bool,
}

impl Drop for Closing {
    fn drop(&mut self) {
        if self.in_order {
            // Without it the store opens as after a kill.
            let _ = opening::seal_closed(&self.layout);
        }
    }
}

impl fmt::Debug for RocksDbStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDbStorage")
            .field("root", &self.root)
            .field("store_id", &self.store_id)
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for RocksDbStorage {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        self.value(key)
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.write_one(key, Some(value.as_bytes())).map(drop)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.write_one(key, None).map(drop)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.record_asked_for(key)?.is_some())
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let all = PageRequest::new(usize::MAX).with_prefix(prefix.unwrap_or_default());
        Ok(self.page(all)?.keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        self.page(request)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        self.values(keys)
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        self.usage_of(prefix.unwrap_or_default())
    }

    fn try_get(&self, _prefix: &str, _key: &str) -> Option<Option<StorageValue>> {
        // The value may have to be read from the disk.
        None
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.versioned(key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        self.write_commit(&commit)
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
        self.partitions(after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        self.visit_as_of_now(prefix, after, visit)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.make_durable()
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        RocksDbStorage::verify(&self.root, report)
    }
}
