//! What the store remembers of one component: its folder, the index of its keys
//! and its ledger.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use storage_core::{Revision, StorageError, Usage};

use super::disk::{self, Kind};
use super::index::KeyIndex;
use super::layout::Layout;
use super::name;

/// A partition: the keys of one component, or the loose ones.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) name: Box<str>,
    pub(super) folder: PathBuf,
    /// Shared by writers, exclusive to whoever reads the folder as a whole, so
    /// that an index or a ledger misses no write.
    gate: RwLock<()>,
    state: Mutex<PartitionState>,
    /// Held by whoever counts the keys, so that the others wait for that.
    counting: Mutex<()>,
    /// Whether it was used since the store last looked for idle ones.
    used: AtomicBool,
    /// Whether reads may trust the folder; see [`Self::prepare_to_read`].
    synced: AtomicBool,
    /// Whether it is known to be reached through no symbolic link.
    has_no_links: AtomicBool,
}

/// What is kept in memory; all of it can be rebuilt from the folder.
#[derive(Debug, Default)]
pub(super) struct PartitionState {
    pub(super) index: Option<KeyIndex>,
    /// What the keys take up, once a budget or `usage` has asked. Growth of a
    /// write that is under way counts already, shrinkage not yet.
    pub(super) ledger: Option<Usage>,
    /// The own keys that were written since somebody began to count, while that
    /// goes on.
    pub(super) written_since: Option<BTreeSet<Box<str>>>,
    prepared_to_write: bool,
}

impl Partition {
    pub(super) fn new(name: &str, layout: &Layout) -> Self {
        Self {
            name: name.into(),
            folder: layout.folder(name),
            gate: RwLock::new(()),
            state: Mutex::default(),
            counting: Mutex::default(),
            used: AtomicBool::new(true),
            synced: AtomicBool::new(false),
            has_no_links: AtomicBool::new(false),
        }
    }

    /// The file of one of its keys.
    pub(super) fn file(&self, own: &str) -> PathBuf {
        self.folder.join(name::encode(own))
    }

    pub(super) fn enter_to_write(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter_alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter_to_count(&self) -> MutexGuard<'_, ()> {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, PartitionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a directory that is reached through a symbolic link. Looks once an
    /// opening, and again as long as the directory is missing.
    pub(super) fn refuse_links(&self, layout: &Layout) -> Result<(), StorageError> {
        if !self.has_no_links.load(Ordering::Acquire) {
            let is_there = layout.refuse_links(&self.folder)?;
            self.has_no_links.store(is_there, Ordering::Release);
        }
        Ok(())
    }

    /// Refuses symbolic links. Makes durable, if `sync`, what an earlier process may
    /// have left visible only, so that no value that is read now is gone after a
    /// power cut. Once an opening.
    pub(super) fn prepare_to_read(&self, layout: &Layout, sync: bool) -> Result<(), StorageError> {
        self.refuse_links(layout)?;
        if !sync || self.synced.load(Ordering::Acquire) {
            return Ok(());
        }
        let _state = self.state();
        if disk::is_there(&self.folder)? {
            layout.up_to_root(&self.folder).try_for_each(disk::sync_folder)?;
            self.synced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Makes the folder, if it is not there, and sweeps what an earlier process
    /// left half-written in it. Once an opening.
    ///
    /// `first` is the first revision of this opening: what it writes itself is
    /// not swept, not even if all this was forgotten since.
    pub(super) fn prepare_to_write(
        &self,
        layout: &Layout,
        sync: bool,
        first: Revision,
    ) -> Result<(), StorageError> {
        // Held throughout: nobody else writes here before the sweep is over.
        let mut state = self.state();
        if state.prepared_to_write {
            return Ok(());
        }
        self.refuse_links(layout)?;
        disk::create_private_directories(&self.folder)?;
        // Also where the folders were there: whoever made them may have been
        // killed before they were durable.
        if sync {
            layout.up_to_root(&self.folder).try_for_each(disk::sync_folder)?;
            self.synced.store(true, Ordering::Release);
        }
        for name in disk::names(&self.folder, Kind::File)? {
            if Layout::is_temp_before(&name, first) {
                let path = self.folder.join(name);
                disk::remove(&path).map_err(|error| disk::failed("remove", &path, &error))?;
            }
        }
        state.prepared_to_write = true;
        Ok(())
    }

    /// Forgets what may not be true any more, after a write of unknown outcome.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.index = None;
        state.ledger = None;
        state.written_since = None;
    }

    pub(super) fn mark_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether it should stay in memory until the next time that this is asked:
    /// an index has a budget of its own, a ledger stays while it is used.
    pub(super) fn is_worth_keeping(&self) -> bool {
        let used = self.used.swap(false, Ordering::Relaxed);
        let state = self.state();
        state.index.is_some() || (used && state.ledger.is_some())
    }
}
