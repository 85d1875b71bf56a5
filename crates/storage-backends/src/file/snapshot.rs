//! Snapshots of a store during which few writers wait.
//!
//! A snapshot begins when no write is in progress. From then on, a write to a key that
//! the scan has not reached waits until the scan has passed it. All other writes continue.
//! So the scan finds every key as it was at the beginning, and nothing has to be copied.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use storage_core::{KeyPage, PageRequest, SnapshotVisitor, StorageError, StorageValue};

/// How many keys the scan lists at once. After each page it lets writers continue.
const KEYS_PER_PAGE: usize = 256;

/// The snapshots that are being read.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Shared by writes. Exclusive while a snapshot begins.
    lock: RwLock<()>,
    /// The number of `scans`: writes need not lock them while it is zero.
    count: AtomicUsize,
    scans: Mutex<Vec<Scan>>,
    progress: Condvar,
}

#[derive(Debug)]
struct Scan {
    number: usize,
    prefix: String,
    /// The last key that it has passed.
    passed: Option<String>,
}

impl Scan {
    fn will_read(&self, key: &str) -> bool {
        let after = self.passed.as_deref();
        PageRequest { prefix: &self.prefix, after, limit: usize::MAX }.wants(key)
    }
}

impl Snapshots {
    /// Waits until no scan will read these keys. No snapshot begins before the guard is
    /// dropped. Take it before every other lock.
    pub(super) fn wait_for<'a>(
        &self,
        keys: impl Iterator<Item = &'a str> + Clone,
    ) -> RwLockReadGuard<'_, ()> {
        let must_wait = |scans: &mut Vec<Scan>| {
            keys.clone().any(|key| scans.iter().any(|scan| scan.will_read(key)))
        };
        loop {
            let guard = self.lock.read().unwrap_or_else(PoisonError::into_inner);
            if self.count.load(Ordering::Acquire) == 0 {
                return guard;
            }
            let mut scans = self.scans();
            if !must_wait(&mut scans) {
                return guard;
            }
            drop(guard);
            let waited = self.progress.wait_while(scans, must_wait);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn scans(&self) -> MutexGuard<'_, Vec<Scan>> {
        self.scans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a snapshot when the writes in progress have ended.
    pub(super) fn begin(&self, prefix: &str, after: Option<&str>) -> Snapshot<'_> {
        let _exclusive = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        let mut scans = self.scans();
        let number = scans.last().map_or(0, |last| last.number + 1);
        scans.push(Scan { number, prefix: prefix.to_owned(), passed: after.map(str::to_owned) });
        self.count.store(scans.len(), Ordering::Release);
        Snapshot { snapshots: self, number }
    }
}

/// A snapshot until it is dropped.
pub(super) struct Snapshot<'a> {
    snapshots: &'a Snapshots,
    number: usize,
}

impl Snapshot<'_> {
    /// Lets writes to the keys up to this one continue.
    pub(super) fn pass(&self, key: &str) {
        let mut scans = self.snapshots.scans();
        if let Some(scan) = scans.iter_mut().find(|scan| scan.number == self.number) {
            scan.passed = Some(key.to_owned());
        }
        drop(scans);
        self.snapshots.progress.notify_all();
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        let mut scans = self.snapshots.scans();
        scans.retain(|scan| scan.number != self.number);
        self.snapshots.count.store(scans.len(), Ordering::Release);
        drop(scans);
        self.snapshots.progress.notify_all();
    }
}

/// Calls `visit` with every key after `after` that begins with `prefix`, page by page,
/// and then `passed` with the last key of the page.
pub(super) fn scan(
    list: impl Fn(PageRequest<'_>) -> Result<KeyPage, StorageError>,
    get: impl Fn(&str) -> Result<Option<StorageValue>, StorageError>,
    (prefix, after): (&str, Option<&str>),
    visit: &mut SnapshotVisitor<'_>,
    passed: impl Fn(&str),
) -> Result<(), StorageError> {
    let mut after = after.map(str::to_owned);
    loop {
        let page = list(PageRequest { prefix, after: after.as_deref(), limit: KEYS_PER_PAGE })?;
        for key in &page.keys {
            // `None` if the file was removed by hand.
            if let Some(value) = get(key)? {
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
