//! The store itself: opening it, and the methods of the trait.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ::redb::ReadTransaction;
use storage_core::{
    Commit, ComponentStorage, Durability, KeyPage, PageRequest, Problem, Revision, SnapshotVisitor,
    StorageError, StorageValue, Store, StoreProperties, Usage, Verified, VersionedValue,
    validate_full_key,
};

use super::engine::{Engine, Purpose};
use super::fail::Fail;
use super::options::RedbOptions;
use super::place::{self, Found};
use super::tables::{DATA, FORMAT};
use super::write::{Writer, damaged};
use super::{listing, verify};
use crate::identity;
use crate::record;
use crate::store_path;

/// How long what is written to a relaxed store may stay in memory. In the tests of
/// this crate's inside, which flush when it is time, for ever: a write that
/// happens to share a transaction with a flush is told what that met.
const FLUSH_EVERY: Duration =
    if cfg!(test) { Duration::from_secs(3_600) } else { Duration::from_millis(100) };

/// A store in one file, on redb, an engine in pure Rust.
///
/// Every value has a checksum that covers its key too, so damage is
/// [`StorageError::Corrupt`] and never a wrong value. One process has the store
/// open for writing, or several for reading ([`StorageError::Locked`]).
///
/// Costs: a `get` is a search in pages that are in memory, or few reads; a `set`
/// with [`Durability::Sync`] is one fsync. Writers that wait at the same
/// time share a transaction and its fsync, each with its own checks. A listing
/// costs a page. A budget is kept in a ledger for its component, which every
/// write to the component keeps up; the first budget counts the component's
/// keys, and nobody else waits for that.
///
/// After an I/O error the last durable state stays readable. If a write found no
/// room, nothing of it has happened, and writes resume when there is room. After
/// a failed fsync writes answer [`StorageError::Unavailable`] until the store is
/// opened anew.
///
/// Before each group of writes the store compares its path with the file that it
/// has locked. If the file was moved or replaced, writes answer
/// [`StorageError::Unavailable`] and nothing is written. Reads go on in the file
/// that was moved, and a relaxed store makes durable there what it has
/// acknowledged.
///
/// ```
/// use storage_backends::{RedbOptions, RedbStorage};
/// use storage_core::ComponentStorage;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("store.redb");
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
    // In front of what it uses: dropped, it waits for its thread.
    flusher: Option<Flusher>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What writing takes; `None` where the store is open for reading only.
    writer: Option<Writer>,
    engine: Engine,
}

impl RedbStorage {
    /// Opens the store in a file for reading and writing, and makes it, and the
    /// folders above it, if there is none. A file that it makes is for the
    /// process's own user alone.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if it is open anywhere else;
    /// [`StorageError::Unsupported`] for a store of another format;
    /// [`StorageError::Corrupt`]; [`StorageError::IoError`] if the path cannot be
    /// written, has something else, which is left as it is, is a symbolic link to
    /// nothing, or is where locks do not work.
    pub fn open(path: impl AsRef<Path>, options: RedbOptions) -> Result<Self, StorageError> {
        let relaxed = options.is_relaxed()?;
        let path = &store_path::resolve(path.as_ref())?;
        if matches!(place::look(path)?, Found::Nothing) {
            place::create(path, Engine::create)?;
        }
        let file = place::open_to_write(path)?;
        // Whoever made the store may have been killed before this.
        place::sync_parent(path)?;
        let (engine, meta) = Engine::open(path, file, &options, Purpose::Write)?;
        let writer = Writer::new(relaxed, meta.reserved_up_to);
        let inner = Arc::new(Inner { writer: Some(writer), engine });
        let flusher = if relaxed { Some(Flusher::start(&inner)?) } else { None };
        Ok(Self { store_id: meta.store_id, durability: options.durability, flusher, inner })
    }

    /// Opens the store in a file for reading. Creates nothing and changes
    /// nothing: what a killed writer left behind is recovered in memory.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if it is open for writing;
    /// [`StorageError::IoError`] if there is no store;
    /// [`StorageError::Unsupported`] and [`StorageError::Corrupt`] as in
    /// [`open`](Self::open).
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: RedbOptions,
    ) -> Result<Self, StorageError> {
        let path = &store_path::resolve(path.as_ref())?;
        if matches!(place::look(path)?, Found::Nothing) {
            return Err(identity::no_store(path, "does not exist"));
        }
        let file = place::open_to_read(path)?;
        let (engine, meta) = Engine::open(path, file, &options, Purpose::Read)?;
        let inner = Arc::new(Inner { writer: None, engine });
        let durability = options.durability;
        Ok(Self { store_id: meta.store_id, durability, flusher: None, inner })
    }

    /// Reads the whole store in a file and calls `report` with whatever is not as
    /// it should be: pages against their checksums, every record, ledgers
    /// against a recount, and the counter of revisions. Changes nothing.
    ///
    /// # Errors
    /// As [`open_read_only`](Self::open_read_only), but damage is a problem that
    /// is reported.
    pub fn verify(
        path: impl AsRef<Path>,
        report: &mut dyn FnMut(Problem),
    ) -> Result<Verified, StorageError> {
        let path = &store_path::resolve(path.as_ref())?;
        if matches!(place::look(path)?, Found::Nothing) {
            return Err(identity::no_store(path, "does not exist"));
        }
        verify::verify(path, place::open_to_read(path)?, report)
    }

    /// The store's random id, which no copy of it that was made through
    /// [`ComponentStorage`] shares.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    fn writer(&self) -> Result<&Writer, StorageError> {
        self.inner.writer.as_ref().ok_or(StorageError::ReadOnly)
    }

    fn read<T>(
        &self,
        run: impl FnMut(&ReadTransaction) -> Result<T, Fail>,
    ) -> Result<T, StorageError> {
        self.inner.engine.read(run)
    }
}

impl Drop for RedbStorage {
    fn drop(&mut self) {
        if let Some(flusher) = &mut self.flusher {
            flusher.stop();
        }
    }
}

/// The thread that makes a relaxed store durable again and again.
#[derive(Debug)]
struct Flusher {
    ends: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    fn start(inner: &Arc<Inner>) -> Result<Self, StorageError> {
        let ends = Arc::new((Mutex::new(false), Condvar::new()));
        let (inner, told) = (Arc::clone(inner), Arc::clone(&ends));
        let inherit_faults = super::disk::inherit_faults();
        let run = move || {
            inherit_faults();
            let (ended, changed) = &*told;
            let mut end = ended.lock().unwrap_or_else(PoisonError::into_inner);
            while !*end {
                end = changed
                    .wait_timeout(end, FLUSH_EVERY)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                drop(end);
                if let Some(writer) = &inner.writer {
                    // Nobody is here to be told; writes and flushes will be.
                    let _ = writer.flush_silently(&inner.engine);
                }
                end = ended.lock().unwrap_or_else(PoisonError::into_inner);
            }
        };
        let thread =
            thread::Builder::new().name("storage-flush".into()).spawn(run).map_err(|error| {
                StorageError::IoError(format!("cannot start a thread that flushes: {error}"))
            })?;
        Ok(Self { ends, thread: Some(thread) })
    }

    /// Flushes for the last time and ends the thread.
    fn stop(&mut self) {
        *self.ends.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ends.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is stored under a key.
fn find(txn: &ReadTransaction, key: &str) -> Result<Option<VersionedValue>, Fail> {
    let table = txn.open_table(DATA)?;
    let Some(found) = ::redb::ReadableTable::get(&table, key.as_bytes())? else { return Ok(None) };
    let (value, revision) =
        record::decode_beside_key(key, found.value()).map_err(|problem| damaged(key, problem))?;
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
            Ok(::redb::ReadableTable::get(&table, key.as_bytes())?.is_some())
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
        self.read(|txn| listing::partitions(txn, after, limit))
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let mut panic: Option<Box<dyn Any + Send>> = None;
        let read = self.inner.engine.read_through(|txn| {
            listing::walk(&txn.open_table(DATA)?, prefix, after, |key, bytes| {
                let (value, _) = record::decode_beside_key(key, bytes)
                    .map_err(|problem| damaged(key, problem))?;
                // A panic of the visitor is none of the engine's.
                match catch_unwind(AssertUnwindSafe(|| visit(key, value.into()))) {
                    Ok(visited) => visited.map(|()| true).map_err(Fail::from),
                    Err(visitors) => {
                        panic = Some(visitors);
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

    fn verify(&self, _report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        Err(StorageError::Unsupported(
            "a redb store cannot be verified while it is open; close it first".into(),
        ))
    }
}
