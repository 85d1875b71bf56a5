//! The store itself: opening it, and the methods of the trait.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use storage_core::{
    Commit, ComponentStorage, Durability, KeyPage, PageRequest, Problem, Revision, SnapshotVisitor,
    StorageError, StorageValue, Store, StoreProperties, Usage, Verified, VersionedValue,
    split_full_key, validate_full_key,
};

use super::components::ComponentNames;
use super::index::IndexBudget;
use super::layout::{self, Layout};
use super::lock::WriterLock;
use super::locks::UnsettledKeys;
use super::partition::Partition;
use super::read_only::Unfinished;
use super::revisions::Revisions;
use super::snapshot::Walks;
use super::sweep::Sweep;
use super::unflushed::Unflushed;
use super::{disk, journal, listing};
use crate::key_locks::{KEY_STRIPES, Stripes};
use crate::lock::LOCK_FILE;
use crate::{identity, partitions, record, store_path};

/// How to open a [`FileStorage`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileOptions {
    /// How much an acknowledged write survives.
    pub durability: Durability,
    /// What the sorted indexes for listings may take together, in bytes; those
    /// not used for longest are dropped. One that is larger on its own is kept
    /// while it is in use. Default: 64 MiB, some 600,000 keys of 60 bytes.
    pub index_budget_bytes: usize,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { durability: Durability::Sync, index_budget_bytes: 64 << 20 }
    }
}

impl FileOptions {
    /// The same with another durability.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The same with another budget for indexes.
    #[must_use]
    pub fn with_index_budget_bytes(mut self, bytes: usize) -> Self {
        self.index_budget_bytes = bytes;
        self
    }
}

/// A store in a folder: a file a key, in a folder a component, legible to a
/// person.
///
/// Every file has a checksum and its own key, so damage is
/// [`StorageError::Corrupt`] and never a wrong value. One process writes at a
/// time ([`StorageError::Locked`]); others may read beside it.
///
/// Costs: a `get` reads a file; a `set` writes one and, with
/// [`Durability::Sync`], fsyncs it and its folder; a commit of several keys adds
/// a journal file. A listing sorts the component's names at the first time and
/// costs a page after that.
///
/// [`read_snapshot`](Store::read_snapshot) copies nothing: while it
/// walks, writes to keys that it has not reached yet wait for it, and others go
/// on. A store that is open for reading only shares the writer's lock for as
/// long as its walk takes, so that no writer can begin, and beside a running
/// one it answers [`StorageError::Locked`]. Its memory is that of a listing.
///
/// After an I/O error of the kind that leaves a write's outcome open, its key
/// answers [`StorageError::Unavailable`] until it is written again or the store
/// is opened anew, so that no value that was read is taken back.
///
/// Before each write the store compares its path with what it has locked. If it
/// was moved or replaced, the write answers [`StorageError::Unavailable`] and
/// nothing is written. Reads go to the path, and so to what is there now; listings
/// that are not in memory are refused.
///
/// ```
/// use storage_backends::{FileOptions, FileStorage};
/// use storage_core::ComponentStorage;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("store");
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
    pub(super) layout: Layout,
    store_id: String,
    durability: Durability,
    /// What writing takes; `None` where the store is open for reading only.
    pub(super) writer: Option<Writer>,
    /// Commits that a writer would finish; empty in a writer.
    pub(super) unfinished: Unfinished,
    pub(super) index_budget: Arc<IndexBudget>,
    /// The partitions that hold a key, once a listing over several has asked.
    pub(super) names: Mutex<Option<ComponentNames>>,
    pub(super) key_locks: Stripes,
    pub(super) unsettled: UnsettledKeys,
    pub(super) walks: Walks,
    partitions: KnownPartitions,
}

/// The partitions that are remembered.
pub(super) type KnownPartitions = Arc<RwLock<Partitions>>;

/// The partitions that are remembered, by name.
#[derive(Debug)]
pub(super) struct Partitions {
    known: HashMap<Box<str>, Arc<Partition>>,
    /// How many there may be before idle ones are dropped.
    sweep_at: usize,
}

impl Partitions {
    /// Whether the partition with a directory is remembered. Whoever uses one has
    /// it from here, and one in use is not forgotten.
    pub(super) fn uses(&self, name: Option<&str>, folder: &Path) -> bool {
        match name {
            Some(name) => self.known.contains_key(name),
            None => self.known.values().any(|one| one.folder == folder),
        }
    }
}

/// What a store needs to write.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) sync: bool,
    pub(super) revisions: Revisions,
    pub(super) unflushed: Unflushed,
    /// Ends before another opening can begin.
    _sweep: Sweep,
    // The last field: dropped when everything else is.
    pub(super) lock: Arc<WriterLock>,
}

/// How many partitions may be remembered before idle ones are dropped: some
/// 2 MB.
const MIN_SWEEP_AT: usize = 4096;

impl FileStorage {
    /// Opens the store in a folder for reading and writing, makes it if there is
    /// none, and finishes commits that a killed process left behind. What else
    /// such a process left is removed in the background. Files and directories are
    /// made for the process's own user alone, whatever the umask.
    ///
    /// A symbolic link in the place of a directory or a file of the store is refused,
    /// here or when its component or key is used. The store's own directory may be a
    /// link.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process writes, or this one already
    /// does; [`StorageError::Unsupported`] for a store of another format;
    /// [`StorageError::Corrupt`], also for a directory with records and without
    /// `FORMAT`; [`StorageError::IoError`] if the path is a file, cannot be written,
    /// holds other people's files, is a symbolic link to nothing, is where locks do
    /// not work, or has a link in the place of a file.
    pub fn open(path: impl AsRef<Path>, options: FileOptions) -> Result<Self, StorageError> {
        let root = &store_path::resolve(path.as_ref())?;
        let layout = Layout::new(root);
        let sync = crate::disk::syncs(options.durability, "file")?;
        identity::refuse_file(root)?;
        disk::create_store_folder(root)?;
        layout.refuse_links_in_root()?;
        if !layout.is_store()? {
            let is_foreign = !layout.may_become_store()?;
            if !is_foreign || layout.has_files_of_store()? {
                layout.refuse_records_without_format()?;
            }
            if is_foreign {
                return Err(identity::foreign_folder(root));
            }
        }
        let lock = Arc::new(WriterLock::take(root, LOCK_FILE)?);
        if !layout.is_store()? {
            layout.create()?;
        }
        let store_id = layout.check_format()?;
        layout.make_missing_directories()?;
        // Whoever made the store may have been killed before this.
        disk::sync_folder(root)?;
        disk::sync_parent(root)?;
        journal::recover(&layout, sync)?;
        let revisions = Revisions::open(root, || listing::largest_revision(root))?;
        let mut storage = Self::new(layout, store_id, None, Unfinished::default(), &options);
        let partitions = Arc::clone(&storage.partitions);
        let (layout, first) = (storage.layout.clone(), revisions.first());
        let sweep = Sweep::start(layout, first, partitions, Arc::clone(&lock));
        let unflushed = Unflushed::default();
        storage.writer = Some(Writer { sync, revisions, unflushed, _sweep: sweep, lock });
        Ok(storage)
    }

    /// Opens the store in a folder for reading. Creates nothing, changes
    /// nothing, takes no lock, and works beside a running writer.
    ///
    /// A commit that a killed writer left unfinished is seen as a writer would
    /// finish it. A listing sees the keys as they were when it began.
    ///
    /// # Errors
    /// [`StorageError::IoError`] if there is no store;
    /// [`StorageError::Unsupported`] and [`StorageError::Corrupt`] as in
    /// [`open`](Self::open).
    pub fn open_read_only(
        path: impl AsRef<Path>,
        options: FileOptions,
    ) -> Result<Self, StorageError> {
        let root = &store_path::resolve(path.as_ref())?;
        Self::refuse_missing(root)?;
        let layout = Layout::new(root);
        let store_id = layout.check_format()?;
        let unfinished = Unfinished::read(&layout)?;
        Ok(Self::new(layout, store_id, None, unfinished, &options))
    }

    /// Refuses what is no store, for whoever does not make one.
    pub(super) fn refuse_missing(root: &Path) -> Result<(), StorageError> {
        identity::refuse_file(root)?;
        let layout = Layout::new(root);
        layout.refuse_links_in_root()?;
        if !layout.is_store()? {
            layout.refuse_records_without_format()?;
            let what = if disk::is_there(root)? { "is no store" } else { "does not exist" };
            return Err(identity::no_store(root, what));
        }
        Ok(())
    }

    pub(super) fn new(
        layout: Layout,
        store_id: String,
        writer: Option<Writer>,
        unfinished: Unfinished,
        options: &FileOptions,
    ) -> Self {
        Self {
            layout,
            store_id,
            durability: options.durability,
            writer,
            unfinished,
            index_budget: Arc::new(IndexBudget::new(options.index_budget_bytes)),
            names: Mutex::default(),
            key_locks: Stripes::new(KEY_STRIPES),
            unsettled: UnsettledKeys::default(),
            walks: Walks::default(),
            partitions: Arc::new(RwLock::new(Partitions {
                known: HashMap::new(),
                sweep_at: MIN_SWEEP_AT,
            })),
        }
    }

    #[cfg(test)]
    pub(super) fn wait_for_sweep(&mut self) {
        self.writer.as_mut().unwrap()._sweep.wait();
    }

    #[cfg(test)]
    pub(super) fn known_partitions(&self) -> KnownPartitions {
        Arc::clone(&self.partitions)
    }

    /// The store's random id, which no copy of it shares.
    pub fn store_id(&self) -> &str {
        &self.store_id
    }

    /// Whether it makes durable what it reads and writes.
    pub(super) fn syncs(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.sync)
    }

    pub(super) fn writer(&self) -> Result<&Writer, StorageError> {
        self.writer.as_ref().ok_or(StorageError::ReadOnly)
    }

    /// What is remembered of a partition.
    pub(super) fn partition(&self, name: &str) -> Arc<Partition> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(partition) = partitions.known.get(name) {
            partition.mark_used();
            return Arc::clone(partition);
        }
        drop(partitions);
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let Partitions { known, sweep_at } = &mut *partitions;
        if known.len() >= *sweep_at {
            // Whoever uses one holds an Arc of it, and gets it from this map.
            known.retain(|_, one| Arc::strong_count(one) > 1 || one.is_worth_keeping());
            known.shrink_to(known.len().saturating_mul(2));
            // Twice what is in use, so that sweeps stay rare.
            *sweep_at = known.len().saturating_mul(2).max(MIN_SWEEP_AT);
        }
        let make = || Arc::new(Partition::new(name, &self.layout));
        Arc::clone(known.entry(name.into()).or_insert_with(make))
    }

    /// Drops the indexes that were not used for longest until the others fit
    /// their budget; never the one of `in_use`.
    pub(super) fn shed_indexes(&self, in_use: &Partition) {
        if !self.index_budget.is_exceeded() {
            return;
        }
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let mut others: Vec<(u64, Arc<Partition>)> = partitions
            .known
            .values()
            .filter(|one| one.name != in_use.name)
            .filter_map(|one| Some((one.state().index.as_ref()?.used_at, Arc::clone(one))))
            .collect();
        drop(partitions);
        others.sort_by_key(|(used_at, _)| *used_at);
        for (_, other) in others {
            if !self.index_budget.is_exceeded() {
                return;
            }
            other.state().index = None;
        }
    }

    /// Reads a key whose lock is held, or in a store that is not written to.
    pub(super) fn read(
        &self,
        partition: &Partition,
        key: &str,
    ) -> Result<Option<VersionedValue>, StorageError> {
        let (_, own) = split_full_key(key);
        let file = partition.file(own);
        self.unfinished.read_key(key, &file)
    }
}

/// Reads the record of a key from a file.
pub(super) fn read_record(key: &str, file: &Path) -> Result<Option<VersionedValue>, StorageError> {
    let Some(bytes) = disk::read_regular(file)? else { return Ok(None) };
    let problem = match record::decode(&bytes) {
        Ok(record) if record.key == key => return Ok(Some(record.found)),
        Ok(_) => "it holds the value of another key",
        Err(problem) => problem,
    };
    Err(StorageError::Corrupt {
        key: Some(key.to_owned()),
        detail: format!(
            "{}: {problem}; restore the file from a copy, or write or delete the key",
            file.display()
        ),
    })
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
        if self.unfinished.concerns(key) {
            return Ok(self.get_versioned(key)?.is_some());
        }
        let (partition, own) = split_full_key(key);
        let partition = self.partition(partition);
        let _lock = self.lock_to_read(&partition, key)?;
        Ok(disk::regular_len(&partition.file(own))?.is_some())
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let all = PageRequest::new(usize::MAX);
        Ok(partitions::list_page(self, all.with_prefix(prefix.unwrap_or_default()))?.keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        partitions::list_page(self, request)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        partitions::usage(self, prefix)
    }

    fn try_get(&self, _prefix: &str, _key: &str) -> Option<Option<StorageValue>> {
        // Every read looks at the disk.
        None
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        validate_full_key(key)?;
        let partition = self.partition(split_full_key(key).0);
        let _lock = self.lock_to_read(&partition, key)?;
        self.read(&partition, key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        self.write(&commit)
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
        partitions::list_components(self, after, limit)
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
        match &self.writer {
            Some(writer) if !writer.sync => {
                // By their names, which must be those of what was written.
                writer.lock.check_flushed()?;
                writer.unflushed.flush(&self.layout)
            }
            _ => Ok(()),
        }
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        FileStorage::verify(&self.layout.root, report)
    }
}
