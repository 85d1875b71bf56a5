//! The store as of one moment, while as few writers wait as can be.
//!
//! A walk begins when no write is half-way. From then on a write to a key that
//! the walk has not passed waits until it has; all others go on, and what they
//! change is behind the walk. So what is ahead of it is always what was there at
//! its beginning, and nothing has to be copied for that. A reader beside no
//! writer keeps writers out instead.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use storage_core::{ComponentStorage, PageRequest, SnapshotVisitor, StorageError, Write};

use super::lock::ReadersHold;
use super::read_only::Unfinished;
use super::store::{FileOptions, FileStorage};
use crate::lock::LOCK_FILE;
use crate::partitions;

/// How many keys are listed at a time; writers learn of the progress as often.
const KEYS_AT_A_TIME: usize = 256;

/// The walks through the store that are under way.
#[derive(Debug, Default)]
pub(super) struct Walks {
    /// Shared by writes. A walk takes it alone for the moment of its beginning.
    gate: RwLock<()>,
    /// Spares every write the lock below.
    count: AtomicUsize,
    under_way: Mutex<Vec<Walk>>,
    progress: Condvar,
}

#[derive(Debug)]
struct Walk {
    number: usize,
    prefix: String,
    /// The last key that it has passed.
    passed: Option<String>,
}

impl Walk {
    fn has_yet_to_see(&self, key: &str) -> bool {
        let wanted = PageRequest::new(usize::MAX).with_prefix(&self.prefix);
        match &self.passed {
            Some(passed) => wanted.after(passed),
            None => wanted,
        }
        .wants(key)
    }
}

impl Walks {
    /// Waits until no walk has yet to see what the writes will change. No walk
    /// begins before the guard is dropped. Taken before every other lock.
    pub(super) fn enter(&self, writes: &[&Write]) -> RwLockReadGuard<'_, ()> {
        let awaited = |walks: &mut Vec<Walk>| {
            let seen_later =
                |write: &&Write| walks.iter().any(|one| one.has_yet_to_see(&write.key));
            writes.iter().any(seen_later)
        };
        loop {
            let entered = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            if self.count.load(Ordering::Acquire) == 0 {
                return entered;
            }
            let mut walks = self.lock();
            if !awaited(&mut walks) {
                return entered;
            }
            drop(entered);
            let waited = self.progress.wait_while(walks, awaited);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Walk>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a walk, once the writes under way have ended.
    fn begin(&self, prefix: &str, after: Option<&str>) -> Walking<'_> {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut walks = self.lock();
        let number = walks.last().map_or(0, |last| last.number + 1);
        walks.push(Walk { number, prefix: prefix.to_owned(), passed: after.map(str::to_owned) });
        self.count.store(walks.len(), Ordering::Release);
        Walking { walks: self, number }
    }
}

/// A walk, until it is dropped.
struct Walking<'a> {
    walks: &'a Walks,
    number: usize,
}

impl Walking<'_> {
    /// Lets the writers go on that wait for keys up to this one.
    fn pass(&self, key: &str) {
        if let Some(walk) = self.walks.lock().iter_mut().find(|one| one.number == self.number) {
            walk.passed = Some(key.to_owned());
        }
        self.walks.progress.notify_all();
    }
}

impl Drop for Walking<'_> {
    fn drop(&mut self) {
        let mut walks = self.walks.lock();
        walks.retain(|one| one.number != self.number);
        self.walks.count.store(walks.len(), Ordering::Release);
        drop(walks);
        self.walks.progress.notify_all();
    }
}

impl FileStorage {
    /// Visits every key behind `after` that begins with `prefix`, as of one
    /// moment.
    pub(super) fn visit_as_of_now(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        if self.writer.is_none() {
            let hold = ReadersHold::take(&self.layout.root, LOCK_FILE)?;
            // What was remembered may be older than the hold.
            let store_id = self.layout.check_format()?;
            let unfinished = Unfinished::read(&self.layout)?;
            let options =
                FileOptions::default().with_index_budget_bytes(self.index_budget.max_bytes());
            let now = Self::new(self.layout.clone(), store_id, None, unfinished, &options);
            now.walk(prefix, after, visit, |_| {})?;
            return hold.end();
        }
        let walking = self.walks.begin(prefix, after);
        // A key in doubt may be missing from the listing, and be back later.
        self.unsettled.check_all(|key| PageRequest { prefix, after, limit: 1 }.wants(key))?;
        self.walk(prefix, after, visit, |key| walking.pass(key))
    }

    /// Visits keys that nobody changes before they are `passed`.
    fn walk(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
        passed: impl Fn(&str),
    ) -> Result<(), StorageError> {
        let mut after = after.map(str::to_owned);
        loop {
            let request = PageRequest { prefix, after: after.as_deref(), limit: KEYS_AT_A_TIME };
            let page = partitions::list_page(self, request)?;
            for key in &page.keys {
                // None if a hand has removed the file.
                if let Some(value) = self.get(key).map_err(|error| self.of_listed(key, error))? {
                    visit(key, value)?;
                }
            }
            let Some(last) = page.keys.last() else { return Ok(()) };
            passed(last);
            if !page.more {
                return Ok(());
            }
            after = Some(last.clone());
        }
    }

    /// A key that no store can hold, but is listed, was made by a hand.
    fn of_listed(&self, key: &str, error: StorageError) -> StorageError {
        let StorageError::InvalidKey(rule) = error else { return error };
        let file = self.layout.key_file(key);
        StorageError::Corrupt {
            key: Some(key.to_owned()),
            detail: format!("{}: {rule}; remove the file", file.display()),
        }
    }
}
