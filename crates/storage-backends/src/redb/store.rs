//! [`RedbStorage`]: opening a store, and its traits.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use ::redb::ReadTransaction;
use storage_core::{
    Commit, Compacted, ComponentStorage, Durability, KeyPage, PageRequest, Problem, Revision,
    SharedStore, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties, Usage,
    Verified, VersionedValue, validate_full_key,
};

use super::engine::{Engine, Purpose};
use super::error::{Error, corrupt_record};
use super::flusher::Flusher;
use super::options::RedbOptions;
use super::store_file::{self, Found};
use super::tables::{DATA, FORMAT};
use super::writer::Writer;
use super::{listing, verify};
use crate::identity;
use crate::locked_file::LockedFile;
use crate::record;
use crate::store_path;

/// A store in one file, on redb, an engine in pure Rust.
///
/// Every value has a checksum that also covers its key, so damage is
/// [`StorageError::Corrupt`] and never a wrong value. One process has the store open for
/// writing, or several for reading ([`StorageError::Locked`]).
///
/// Costs: a `get` searches pages in memory and reads few from disk; a `set` with
/// [`Durability::Sync`] is one fsync. Writes that wait at the same time share a
/// transaction and its fsync, each with its own checks. The cost of a page of a listing
/// grows with its keys. The first commit with a budget counts the component's keys while
/// others write; every later write to the component updates a usage counter.
///
/// After an I/O error the last durable state stays readable. If the disk is full, the
/// write did not happen, and writes resume when there is room. After a failed fsync,
/// writes return [`StorageError::Unavailable`] until the store is reopened.
///
/// Before each group of writes the store compares its path with the file that it has
/// locked. If the file was moved or replaced, writes return
/// [`StorageError::Unavailable`] and write nothing. Reads continue in the moved file, and
/// a store with [`Durability::Relaxed`] makes its acknowledged writes durable there.
///
/// ```
/// use storage_backends::{RedbOptions, RedbStorage};
/// use storage_core::ComponentStorage;
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store.redb");
/// let storage = RedbStorage::open(&path, RedbOptions::default())?;
/// storage.set("app/notes/home/note-1", "buy milk".into())?;
/// drop(storage);
///
/// let again = RedbStorage::open_read_only(&path, RedbOptions::default())?;
/// assert_eq!(again.get("app/notes/home/note-1")?, Some("buy milk".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RedbStorage {
    store_id: String,
    durability: Durability,
    // Dropped first: it flushes.
    _flusher: Option<Flusher>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` in a read-only store.
    writer: Option<Writer>,
    engine: Engine,
}

impl RedbStorage {
    /// Opens a store for reading and writing. Creates it, and the directories above it,
    /// if the path is missing. A new file is private to the process's user.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if it is open elsewhere; [`StorageError::Unsupported`]
    /// for another format or a durability that redb lacks; [`StorageError::Corrupt`];
    /// [`StorageError::IoError`] if the path cannot be written, holds something else,
    /// is a dangling symbolic link, or is on a file system without locks.
    pub fn open(path: impl AsRef<Path>, options: RedbOptions) -> Result<Self, StorageError> {
        let relaxed = options.is_relaxed()?;
        let path = &store_path::resolve(path.as_ref())?;
        if matches!(store_file::inspect(path)?, Found::Nothing) {
            store_file::create(path, Engine::create)?;
        }
        let file = store_file::open_to_write(path)?;
        // The process that created the store may have been killed before this.
        store_file::sync_parent(path)?;
        let (engine, meta) = Engine::open(path, file, &options, Purpose::Write)?;
        let writer = Writer::new(relaxed, meta.reserved_up_to);
        let inner = Arc::new(Inner { writer: Some(writer), engine });
        let flushed = Arc::clone(&inner);
        let flush = move || {
            if let Some(writer) = &flushed.writer {
                // Later writes and flushes report the error.
                let _ = writer.flush_in_background(&flushed.engine);
            }
        };
        let flusher = if relaxed { Some(Flusher::start(flush)?) } else { None };
        let durability = options.durability;
        Ok(Self { store_id: meta.store_id, durability, _flusher: flusher, inner })
    }

    /// Opens a store for reading. Changes nothing: what a killed writer left is recovered
    /// in memory.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if it is open for writing; [`StorageError::IoError`] if
    /// there is no store; [`StorageError::Unsupported`] and [`StorageError::Corrupt`] as
    /// in [`open`](Self::open).
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: RedbOptions,
    ) -> Result<Self, StorageError> {
        let path = &store_path::resolve(path.as_ref())?;
        let file = open_existing(path)?;
        let (engine, meta) = Engine::open(path, file, &options, Purpose::Read)?;
        let inner = Arc::new(Inner { writer: None, engine });
        let durability = options.durability;
        Ok(Self { store_id: meta.store_id, durability, _flusher: None, inner })
    }

    /// Reads the whole store and reports problems: pages and records against their
    /// checksums, usage counters against a recount, and revisions against their counter.
    /// Changes nothing.
    ///
    /// # Errors
    /// As [`open_read_only`](Self::open_read_only), except that damage is reported as a
    /// problem.
    pub fn verify(
        path: impl AsRef<Path>,
        report: &mut dyn FnMut(Problem),
    ) -> Result<Verified, StorageError> {
        let path = &store_path::resolve(path.as_ref())?;
        verify::verify(path, open_existing(path)?, report)
    }

    /// The store's id, chosen at random when it was created. `copy` gives the target an id
    /// of its own.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    fn writer(&self) -> Result<&Writer, StorageError> {
        self.inner.writer.as_ref().ok_or(StorageError::ReadOnly)
    }

    fn read<T>(
        &self,
        run: impl FnMut(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        self.inner.engine.read(run)
    }
}

fn open_existing(path: &Path) -> Result<Arc<LockedFile>, StorageError> {
    if matches!(store_file::inspect(path)?, Found::Nothing) {
        let what = if path.exists() { "is empty" } else { "does not exist" };
        return Err(identity::no_store(path, what));
    }
    store_file::open_to_read(path)
}

fn find(txn: &ReadTransaction, key: &str) -> Result<Option<VersionedValue>, Error> {
    let table = txn.open_table(DATA)?;
    let Some(found) = table.get(key.as_bytes())? else { return Ok(None) };
    let (value, revision) = record::decode_keyless(key, found.value())
        .map_err(|problem| corrupt_record(key, problem))?;
    Ok(Some(VersionedValue { value: value.into(), revision }))
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for RedbStorage {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(self.get_versioned(key)?.map(|found| found.value))
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.commit(Commit::new().set(key, value)).map(drop)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.commit(Commit::new().delete(key)).map(drop)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        validate_full_key(key)?;
        self.read(|txn| {
            let table = txn.open_table(DATA)?;
            Ok(table.get(key.as_bytes())?.is_some())
        })
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let all = PageRequest::new(usize::MAX).with_prefix(prefix.unwrap_or_default());
        Ok(self.list_page(all)?.keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        self.read(|txn| listing::page(txn, request))
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        keys.iter().try_for_each(|key| validate_full_key(key))?;
        self.read(|txn| {
            let value_of = |key: &&str| Ok(find(txn, key)?.map(|found| found.value));
            keys.iter().map(value_of).collect()
        })
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        self.read(|txn| listing::usage(txn, prefix.unwrap_or_default()))
    }

    fn try_get(&self, _prefix: &str, _key: &str) -> Option<Option<StorageValue>> {
        // The page may have to be read from the disk.
        None
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        validate_full_key(key)?;
        self.read(|txn| find(txn, key))
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        let writer = self.writer()?;
        commit.keys().try_for_each(validate_full_key)?;
        commit.budgeted_component()?;
        writer.commit(&self.inner.engine, commit)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for RedbStorage {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("redb")
            .with_format(FORMAT)
            .with_store_id(self.store_id.as_str())
            .with_durability(self.durability)
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        self.read(|txn| listing::components(txn, after, limit))
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let mut panic: Option<Box<dyn Any + Send>> = None;
        let read = self.inner.engine.read_without_retry(|txn| {
            listing::scan(&txn.open_table(DATA)?, prefix, after, |key, bytes| {
                let (value, _) = record::decode_keyless(key, bytes)
                    .map_err(|problem| corrupt_record(key, problem))?;
                // Keep a panic of the visitor apart from the engine's.
                match catch_unwind(AssertUnwindSafe(|| visit(key, value.into()))) {
                    Ok(visited) => visited.map(|()| true).map_err(Error::from),
                    Err(payload) => {
                        panic = Some(payload);
                        Ok(false)
                    }
                }
            })
        });
        match panic {
            Some(panic) => resume_unwind(panic),
            None => read,
        }
    }

    fn flush(&self) -> Result<(), StorageError> {
        match &self.inner.writer {
            Some(writer) => writer.flush(&self.inner.engine),
            None => Ok(()),
        }
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        verify::verify_open(&self.inner.engine, || self.flush(), report)
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        self.writer()?.compact(&self.inner.engine)
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}
