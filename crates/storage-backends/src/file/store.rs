//! The store: opening it, and the methods of the trait.

use std::path::Path;
use std::sync::Arc;

use storage_core::{
    Commit, Compacted, ComponentStorage, Durability, KeyPage, PageRequest, Problem, Revision,
    SharedStore, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties, Usage,
    Verified, VersionedValue, validate_full_key,
};

use super::layout::{self, Layout};
use super::lock::{SharedLock, WriterLock};
use super::pending::PendingCommits;
use super::reader::Reader;
use super::revisions::Revisions;
use super::writer::Writer;
use super::{disk, journal, key_file, snapshot, verify};
use crate::lock::LOCK_FILE;
use crate::{component_index, identity, store_path};

/// How to open a [`FileStorage`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileOptions {
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// The memory for the sorted indexes of all listings, in bytes. The least recently
    /// used indexes are dropped first; one that is larger is kept while it is in use.
    /// Default: 64 MiB, about 600,000 keys of 60 bytes.
    pub index_budget_bytes: usize,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { durability: Durability::Sync, index_budget_bytes: 64 << 20 }
    }
}

impl FileOptions {
    /// Sets the durability.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the memory for indexes.
    #[must_use]
    pub fn with_index_budget_bytes(mut self, bytes: usize) -> Self {
        self.index_budget_bytes = bytes;
        self
    }
}

/// A store in a directory: one readable file for each key, one directory for each
/// component.
///
/// Each file has a checksum and its full key, so damage is [`StorageError::Corrupt`] and
/// never a wrong value. One process can write at a time ([`StorageError::Locked`]); others
/// can read at the same time.
///
/// A `get` reads a file. A `set` writes one and, with [`Durability::Sync`], fsyncs it and
/// its directory. A commit of several keys adds a journal file. The first listing of a
/// component sorts its names; after that, the cost of a page does not grow with the
/// component.
///
/// [`read_snapshot`](Store::read_snapshot) copies nothing. While it runs, writes to keys
/// that it has not reached wait; others continue. It needs as much memory as a listing. A
/// store that is open for reading only shares the store lock during that time, so that no
/// writer can open the store, and returns [`StorageError::Locked`] if one has.
///
/// If an I/O error leaves the outcome of a write unknown, reads of its key return
/// [`StorageError::Unavailable`] until the key is written again or the store is reopened:
/// a power cut never undoes a value that was read.
///
/// Before each write the store checks that its path still leads to what it has locked. If
/// the store was moved or replaced, the write returns [`StorageError::Unavailable`] and
/// changes nothing. Reads use the path, so they read what is there now; listings that are
/// not in memory are refused.
///
/// ```
/// use storage_backends::{FileOptions, FileStorage};
/// use storage_core::ComponentStorage;
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// let storage = FileStorage::open(&path, FileOptions::default())?;
/// storage.set("app/notes/home/note-1", "buy milk".into())?;
/// drop(storage);
///
/// let again = FileStorage::open_read_only(&path, FileOptions::default())?;
/// assert_eq!(again.get("app/notes/home/note-1")?, Some("buy milk".into()));
/// assert!(path.join("components/app/notes/home/note-1").is_file());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileStorage {
    store_id: String,
    durability: Durability,
    /// `None` if the store is open for reading only.
    writer: Option<Writer>,
    reader: Arc<Reader>,
}

impl FileStorage {
    /// Opens the store in a directory for reading and writing. Creates it if it is
    /// missing, and applies pending commits of killed processes. Temporary files that
    /// they left are removed in the background. New files and directories are accessible
    /// to the user of the process only, whatever the umask.
    ///
    /// A symbolic link where the store has a file or directory is refused, here or when
    /// its component or key is used. The store directory itself may be a link.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if the store is open for writing already, in this process
    /// or another; [`StorageError::Unsupported`] for another format version;
    /// [`StorageError::Corrupt`] for a damaged store, or a directory with records but
    /// without `FORMAT`; [`StorageError::IoError`] if the path is a file, is not writable,
    /// holds foreign files, is a dangling link, is on a file system without working locks,
    /// or has a link where the store has a file.
    pub fn open(path: impl AsRef<Path>, options: FileOptions) -> Result<Self, StorageError> {
        let root = &store_path::resolve(path.as_ref())?;
        let layout = Layout::new(root);
        let sync = disk::syncs(options.durability, "file")?;
        identity::refuse_file(root)?;
        disk::create_store_directory(root)?;
        layout.refuse_links_in_root()?;
        if !layout.is_store()? {
            let allowed = layout.refuse_foreign_directory();
            // Another process may have created the store in the meantime.
            if allowed.is_err() && !layout.is_store()? {
                allowed?;
            }
        }
        let lock = Arc::new(WriterLock::take(root, LOCK_FILE)?);
        if !layout.is_store()? {
            layout.create()?;
        }
        let store_id = layout.check_format()?;
        layout.create_missing_directories()?;
        // The process that created the store may have been killed before this.
        disk::sync_directory(root)?;
        disk::sync_parent(root)?;
        journal::recover(&layout, sync)?;
        let revisions = Revisions::open(root, || key_file::largest_revision(root))?;
        let index_budget = options.index_budget_bytes;
        let reader = Arc::new(Reader::of_writer(layout, index_budget, sync, Arc::clone(&lock)));
        let writer = Writer::new(Arc::clone(&reader), sync, revisions, lock);
        Ok(Self { store_id, durability: options.durability, writer: Some(writer), reader })
    }

    /// Opens the store in a directory for reading. Creates nothing, changes nothing, takes
    /// no lock, and can be used while a writer has the store open.
    ///
    /// Shows a pending commit of a killed writer as if it were applied. A listing shows
    /// the keys at the time of its first page.
    ///
    /// # Errors
    /// [`StorageError::IoError`] if there is no store; [`StorageError::Unsupported`] and
    /// [`StorageError::Corrupt`] as [`open`](Self::open).
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: FileOptions,
    ) -> Result<Self, StorageError> {
        let layout = Layout::new(&store_path::resolve(path.as_ref())?);
        layout.refuse_missing()?;
        Self::read_only(layout, &options)
    }

    fn read_only(layout: Layout, options: &FileOptions) -> Result<Self, StorageError> {
        let store_id = layout.check_format()?;
        let pending = PendingCommits::read(&layout)?;
        let reader = Arc::new(Reader::new(layout, pending, options.index_budget_bytes));
        Ok(Self { store_id, durability: options.durability, writer: None, reader })
    }

    /// Reads every file of the store in a directory and calls `report` with each problem:
    /// wrong checksums, files that do not match their keys, pending commits with damaged
    /// values, a wrong revision counter, foreign files, modes that let other users in,
    /// and a usage that differs from what the store counts.
    ///
    /// Changes nothing and holds the store lock only briefly. A writer may have the store
    /// open; then the usage is not compared. Memory grows with the keys of the largest
    /// component, as for a listing.
    ///
    /// # Errors
    /// [`StorageError::IoError`] if there is no store, [`StorageError::Unsupported`] for
    /// another format version. Everything else is a [`Problem`].
    pub fn verify(
        path: impl AsRef<Path>,
        report: &mut dyn FnMut(Problem),
    ) -> Result<Verified, StorageError> {
        verify::verify(&store_path::resolve(path.as_ref())?, report)
    }

    /// The store's id, chosen at random when it was created.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    #[cfg(test)]
    pub(super) fn writer_mut(&mut self) -> &mut Writer {
        self.writer.as_mut().unwrap()
    }

    /// Reads a snapshot of a store that is open for reading only, while no writer can open
    /// it.
    fn read_snapshot_locked(
        &self,
        range: (&str, Option<&str>),
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let Reader { layout, components, .. } = &*self.reader;
        let hold = SharedLock::take(&layout.root, LOCK_FILE)?;
        // What this store has in memory may be older than the lock.
        let options =
            FileOptions::default().with_index_budget_bytes(components.index_budget_bytes());
        let current = Self::read_only(layout.clone(), &options)?;
        current.scan(range, visit, |_| {})?;
        hold.release()
    }

    fn scan(
        &self,
        range: (&str, Option<&str>),
        visit: &mut SnapshotVisitor<'_>,
        passed: impl Fn(&str),
    ) -> Result<(), StorageError> {
        let get = |key: &str| self.get(key).map_err(|error| self.invalid_name(key, error));
        snapshot::scan(|request| self.list_page(request), get, range, visit, passed)
    }

    /// The error for a listed key that is not a valid key: the file was created by hand.
    fn invalid_name(&self, key: &str, error: StorageError) -> StorageError {
        let StorageError::InvalidKey(rule) = error else { return error };
        let file = self.reader.layout.key_file(key);
        StorageError::Corrupt {
            key: Some(key.to_owned()),
            detail: format!("{}: {rule}; remove the file", file.display()),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for FileStorage {
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
        let key = self.reader.components.resolve(key);
        self.reader.prepare(&key.component)?;
        let _lock = self.writer.as_ref().map(|one| one.lock_to_read(key.full)).transpose()?;
        self.reader.exists(&key)
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let all = PageRequest::new(usize::MAX).with_prefix(prefix.unwrap_or_default());
        Ok(self.list_page(all)?.keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        component_index::list_page(&*self.reader, request)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        component_index::usage(&*self.reader, prefix)
    }

    fn try_get(&self, _prefix: &str, _key: &str) -> Option<Option<StorageValue>> {
        // Every read needs the disk.
        None
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        validate_full_key(key)?;
        let key = self.reader.components.resolve(key);
        self.reader.prepare(&key.component)?;
        let _lock = self.writer.as_ref().map(|one| one.lock_to_read(key.full)).transpose()?;
        self.reader.read(&key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        self.writer.as_ref().ok_or(StorageError::ReadOnly)?.commit(&commit)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for FileStorage {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("file")
            .with_format(layout::FORMAT)
            .with_store_id(self.store_id.as_str())
            .with_durability(self.durability)
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        component_index::list_components(&*self.reader, after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let Some(writer) = &self.writer else {
            return self.read_snapshot_locked((prefix, after), visit);
        };
        let snapshot = writer.begin_snapshot(prefix, after)?;
        self.scan((prefix, after), visit, |key| snapshot.pass(key))
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.writer.as_ref().map_or(Ok(()), Writer::flush)
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        verify::verify(&self.reader.layout.root, report)
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        Err(StorageError::Unsupported(
            "a file store has nothing to compact: each value is a file, and deleting a key returns \
             its space at once".into(),
        ))
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}
