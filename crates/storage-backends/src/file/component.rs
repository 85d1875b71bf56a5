//! What the store keeps in memory for one component: its directory, its component
//! lock, the index of its keys and its usage counter.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use storage_core::{Budget, Revision, StorageError, Usage, UsageChange};

use super::disk::{self, Kind};
use super::index::KeyIndex;
use super::layout::Layout;
use super::{key_file, name};
use crate::hooks;

/// A component. The unscoped keys form one more, with an empty prefix.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) prefix: Box<str>,
    pub(super) directory: PathBuf,
    /// The component lock: shared by writes, exclusive for scans of the directory, so
    /// that an index or a usage counter misses no write.
    lock: RwLock<()>,
    state: Mutex<State>,
    /// Held while the keys are counted, so that only one thread counts.
    counting: Mutex<()>,
    /// Whether it was used since the store last looked for idle components.
    used: AtomicBool,
    /// Whether the directory is known to be durable; see [`Self::prepare_to_read`].
    synced: AtomicBool,
    /// Whether the directory is known to be reached through no symbolic link.
    has_no_links: AtomicBool,
}

/// What can be rebuilt from the directory.
#[derive(Debug, Default)]
struct State {
    index: Option<KeyIndex>,
    /// The usage counter. Includes the growth of writes in progress, but not yet their
    /// shrinkage.
    usage: Option<Usage>,
    /// During a count: the user keys written since it began.
    written_since: Option<BTreeSet<Box<str>>>,
    prepared_to_write: bool,
}

impl Component {
    pub(super) fn new(prefix: &str, layout: &Layout) -> Self {
        Self {
            prefix: prefix.into(),
            directory: layout.directory(prefix),
            lock: RwLock::new(()),
            state: Mutex::default(),
            counting: Mutex::default(),
            used: AtomicBool::new(true),
            synced: AtomicBool::new(false),
            has_no_links: AtomicBool::new(false),
        }
    }

    /// The file of one of its keys.
    pub(super) fn file(&self, user_key: &str) -> PathBuf {
        self.directory.join(name::encode(user_key))
    }

    pub(super) fn lock_shared(&self) -> RwLockReadGuard<'_, ()> {
        self.lock.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_exclusive(&self) -> RwLockWriteGuard<'_, ()> {
        self.lock.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a directory that is reached through a symbolic link. Checks once per
    /// opening, and again while the directory is missing.
    pub(super) fn refuse_links(&self, layout: &Layout) -> Result<(), StorageError> {
        if !self.has_no_links.load(Ordering::Acquire) {
            let exists = layout.refuse_links(&self.directory)?;
            self.has_no_links.store(exists, Ordering::Release);
        }
        Ok(())
    }

    /// Refuses symbolic links. If `sync`, syncs the directory once per opening: an
    /// earlier process may have been killed before its last change was durable, and a
    /// power cut must not undo what is read now.
    pub(super) fn prepare_to_read(&self, layout: &Layout, sync: bool) -> Result<(), StorageError> {
        self.refuse_links(layout)?;
        if !sync || self.synced.load(Ordering::Acquire) {
            return Ok(());
        }
        let _state = self.state();
        if disk::exists(&self.directory)? {
            layout.up_to_root(&self.directory).try_for_each(disk::sync_directory)?;
            self.synced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Creates the directory if it is missing, and removes the temporary files that
    /// earlier processes left in it. Once per opening.
    ///
    /// `first` is the first revision of this opening. Temporary files of this opening
    /// stay, because pending commits may need them.
    pub(super) fn prepare_to_write(
        &self,
        layout: &Layout,
        sync: bool,
        first: Revision,
    ) -> Result<(), StorageError> {
        // Held throughout, so that no other write begins before the sweep is complete.
        let mut state = self.state();
        if state.prepared_to_write {
            return Ok(());
        }
        self.refuse_links(layout)?;
        disk::create_private_directories(&self.directory)?;
        // Even if it exists: the process that created it may have been killed before it
        // was durable.
        if sync {
            layout.up_to_root(&self.directory).try_for_each(disk::sync_directory)?;
            self.synced.store(true, Ordering::Release);
        }
        for name in disk::names(&self.directory, Kind::File)? {
            if Layout::is_temp_before(&name, first) {
                let path = self.directory.join(name);
                disk::remove(&path).map_err(|error| disk::failed("remove", &path, &error))?;
            }
        }
        state.prepared_to_write = true;
        Ok(())
    }

    /// Runs `look` on the index. Builds the index first if there is none or if
    /// `rebuild`.
    pub(super) fn with_index<T>(
        &self,
        rebuild: bool,
        build: impl FnOnce() -> Result<KeyIndex, StorageError>,
        look: impl FnOnce(&mut KeyIndex) -> T,
    ) -> Result<T, StorageError> {
        if !rebuild && let Some(index) = &mut self.state().index {
            return Ok(look(index));
        }
        let _exclusive = self.lock_exclusive();
        let index = build()?;
        Ok(look(self.state().index.insert(index)))
    }

    /// When the index was last used, if there is one.
    pub(super) fn index_used_at(&self) -> Option<u64> {
        self.state().index.as_ref().map(|index| index.used_at)
    }

    pub(super) fn drop_index(&self) {
        self.state().index = None;
    }

    /// The usage counter, if the component has been counted.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.state().usage
    }

    /// Counts the keys, unless there is a usage counter. Other writes go on during the
    /// count; their keys are counted again at the end.
    ///
    /// `scan` lists the user keys, `check` says whether the scan can be trusted.
    pub(super) fn count(
        &self,
        scan: impl FnOnce() -> Result<BTreeSet<String>, StorageError>,
        check: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if self.usage().is_some() {
            return Ok(());
        }
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.usage().is_some() {
            return Ok(());
        }
        // Writes that hold the shared lock now do not add their keys to the set.
        let exclusive = self.lock_exclusive();
        self.state().written_since = Some(BTreeSet::new());
        drop(exclusive);
        hooks::before_count();
        let usage_of = |key: String| self.usage_of(&key).map(|usage| (key, usage));
        let counted: Result<BTreeMap<String, Usage>, _> =
            scan().and_then(|keys| keys.into_iter().map(usage_of).collect());
        hooks::after_count();

        let _exclusive = self.lock_exclusive();
        let written = self.state().written_since.take();
        // `forget` removes the set when a write fails: the count may be wrong then.
        let (mut counted, Some(written)) = (counted?, written) else { return Ok(()) };
        for key in written {
            let usage = self.usage_of(&key)?;
            counted.insert(key.into(), usage);
        }
        check()?;
        self.state().usage = Some(counted.into_values().sum());
        Ok(())
    }

    fn usage_of(&self, user_key: &str) -> Result<Usage, StorageError> {
        let full_key_len = self.prefix.len() + user_key.len();
        let len = key_file::value_len(full_key_len, &self.file(user_key))?;
        Ok(len.map(|len| Usage::of(user_key, len)).unwrap_or_default())
    }

    /// Tells a count in progress that a key is about to be written.
    pub(super) fn add_written(&self, user_key: &str) {
        if let Some(written) = &mut self.state().written_since {
            written.insert(user_key.into());
        }
    }

    /// Checks the budget and adds the growth of a write to the usage counter, so that
    /// concurrent writes cannot use the same room. Returns `false` if there is a budget
    /// but no counter: a failed write has dropped it.
    pub(super) fn reserve(
        &self,
        change: UsageChange,
        budget: Option<&Budget>,
    ) -> Result<bool, StorageError> {
        let mut state = self.state();
        let Some(before) = state.usage else { return Ok(budget.is_none()) };
        change.apply(before, budget)?;
        state.usage = Some(before + change.growth());
        Ok(true)
    }

    /// Subtracts the shrinkage of a successful write or the growth of a failed one.
    pub(super) fn release(&self, usage: Usage) {
        let mut state = self.state();
        state.usage = state.usage.map(|before| before - usage);
    }

    /// Updates the index after a write. Calls `then` under the same lock, so that it
    /// sees the writes in their order; its argument says whether the component holds a
    /// key, if there is an index.
    pub(super) fn update_index(
        &self,
        user_key: &str,
        is_set: bool,
        then: impl FnOnce(Option<bool>),
    ) {
        let mut state = self.state();
        let holds_a_key = state.index.as_mut().map(|index| {
            if is_set {
                index.insert(user_key)
            } else {
                index.remove(user_key)
            }
            !index.is_empty()
        });
        then(holds_a_key);
    }

    /// Drops what may be wrong after a write with an unknown outcome.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.index = None;
        state.usage = None;
        state.written_since = None;
    }

    pub(super) fn mark_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether it should stay in memory until the next time this is called. An index
    /// has a budget of its own; a usage counter stays while it is used.
    pub(super) fn is_worth_keeping(&self) -> bool {
        let used = self.used.swap(false, Ordering::Relaxed);
        let state = self.state();
        state.index.is_some() || (used && state.usage.is_some())
    }
}
