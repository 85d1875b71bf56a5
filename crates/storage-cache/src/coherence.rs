//! Keeps the caches of one host coherent with a store that other hosts write to.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use storage_core::{Change, Revision, SharedStore, StorageError, Watcher};

use crate::clock::{Clock, Moment, Timer};
use crate::freshness::PollStart;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::table::Table;

/// How old a value may be that a cache returns, unless the host sets another time.
pub const DEFAULT_MAX_STALENESS: Duration = Duration::from_secs(1);

/// A component that answered nothing from the cache for this many times its maximum staleness
/// is not polled any more.
const IDLE: u64 = 3;

/// Follows the writes of other hosts to a [`SharedStore`], for the caches of one host.
///
/// It is the [`Watcher`] of the store: a change removes the keys that it names from the cache
/// at once. Changes may be lost or late, so [`poll`](Self::poll) must be called several times
/// within the maximum staleness. It asks the store for the revisions of all components that
/// answer from the cache, and drops the entries of a component whose changes were not all
/// reported. A cache that was not confirmed in time answers nothing until then.
///
/// Changes may be reported during calls of a cache, also by the call itself to the storage
/// below. A clone is another handle to the same. Keys are named in full, so a component may have one
/// cache only.
///
/// ```
/// use std::sync::Arc;
/// use storage_cache::{CacheConfig, CachedStorage, Clock, Coherence, DEFAULT_MAX_STALENESS};
/// use storage_core::conformance::SharedReference;
/// use storage_core::{ComponentStorage, SharedStore};
///
/// let store = SharedReference::new();
/// let (here, there) = (store.connect(), store.connect());
/// let coherence = Coherence::new(Clock::system());
/// here.watch(Arc::new(coherence.clone()));
/// let config = CacheConfig::default();
/// let prefix = "app/notes/home/";
/// let cached = CachedStorage::coherent(&here, config, prefix, DEFAULT_MAX_STALENESS, &coherence);
///
/// let key = "app/notes/home/title";
/// cached.set(key, "Home".into())?;
/// there.set(key, "House".into())?;
/// assert_eq!(cached.get(key)?, Some("House".into()));
/// assert_eq!(cached.get(key)?, Some("House".into())); // from memory
/// coherence.poll(&here)?;
/// assert_eq!(coherence.stats().polls, 1);
/// # Ok::<(), storage_core::StorageError>(())
/// ```
#[derive(Clone)]
pub struct Coherence(Arc<Inner>);

struct Inner {
    clock: Clock,
    timer: Timer,
    components: Mutex<Components>,
    polls: AtomicU64,
    failed_polls: AtomicU64,
    /// When the last successful poll ended, plus one; zero before the first.
    succeeded: AtomicU64,
}

#[derive(Default)]
struct Components {
    /// All that have a cache, by their prefix.
    all: HashMap<Box<str>, Weak<Table>>,
    /// Those that answered from the cache not long ago.
    active: HashMap<Box<str>, Active>,
}

struct Active {
    /// The hits at the last poll, and when there was a new one.
    hits: u64,
    used: Moment,
}

/// What a [`Coherence`] has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoherenceStats {
    /// How often the store was asked for revisions.
    pub polls: u64,
    /// How often it did not answer.
    pub failed_polls: u64,
    /// How long ago the last successful poll was; `None` before the first. Without components
    /// that answer from the cache there are no polls.
    pub last_success: Option<Duration>,
    /// The components that are polled.
    pub components: u64,
}

impl Coherence {
    /// Follows no component yet. All caches that use it have this clock.
    pub fn new(clock: Clock) -> Self {
        let timer = Timer::running(&clock, None);
        Self(Arc::new(Inner {
            clock,
            timer,
            components: Mutex::default(),
            polls: AtomicU64::new(0),
            failed_polls: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
        }))
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Asks the store for the revisions of the components that answer from the cache, in one
    /// call. Does nothing if there are none.
    ///
    /// # Errors
    /// As [`SharedStore::component_revisions`]. Nothing was confirmed.
    pub fn poll(&self, store: &dyn SharedStore) -> Result<(), StorageError> {
        let polled = self.begin_poll();
        if polled.is_empty() {
            return Ok(());
        }
        self.0.polls.fetch_add(1, Ordering::Relaxed);
        let prefixes: Vec<&str> = polled.iter().map(|(table, _)| table.scope().prefix()).collect();
        let found = store.component_revisions(&prefixes).and_then(|found| {
            let (asked, answered) = (prefixes.len(), found.len());
            let detail =
                || format!("the store returned {answered} revisions for {asked} components");
            if asked == answered { Ok(found) } else { Err(StorageError::IoError(detail())) }
        });
        let found: Vec<Option<Revision>> = found.inspect_err(|_| {
            self.0.failed_polls.fetch_add(1, Ordering::Relaxed);
        })?;
        for ((table, start), revision) in polled.iter().zip(found) {
            table.polled(*start, revision);
        }
        self.0.succeeded.store(self.0.timer.now().saturating_add(1), Ordering::Relaxed);
        Ok(())
    }

    /// The statistics.
    pub fn stats(&self) -> CoherenceStats {
        let succeeded = self.0.succeeded.load(Ordering::Relaxed).checked_sub(1);
        let age = |moment| Duration::from_nanos(self.0.timer.now().saturating_sub(moment));
        CoherenceStats {
            polls: self.0.polls.load(Ordering::Relaxed),
            failed_polls: self.0.failed_polls.load(Ordering::Relaxed),
            last_success: succeeded.map(age),
            components: self.lock().active.len() as u64,
        }
    }

    /// The components to poll, and when the poll of each began.
    fn begin_poll(&self) -> Vec<(Arc<Table>, PollStart)> {
        let mut tables = Vec::new();
        let mut idle = Vec::new();
        let mut components = self.lock();
        let Components { all, active } = &mut *components;
        active.retain(|prefix, active| {
            let Some(table) = all.get(prefix).and_then(Weak::upgrade) else { return false };
            let (hits, now) = (table.counters().hits(), table.now());
            if hits != active.hits {
                *active = Active { hits, used: now };
            }
            let limit = table.scope().freshness.max_staleness().saturating_mul(IDLE);
            let is_used = now.saturating_sub(active.used) <= limit;
            // Dropped after the lock, which a table takes when it is dropped.
            if is_used {
                tables.push(table)
            } else {
                idle.push(table)
            }
            is_used
        });
        drop(components);
        let begin = |table: Arc<Table>| {
            let start = table.scope().freshness.begin_poll(table.timer());
            (table, start)
        };
        tables.into_iter().map(begin).collect()
    }

    /// Includes a component in the next polls, and in the changes that are passed on.
    pub(crate) fn register(&self, table: &Arc<Table>) {
        let prefix = table.scope().prefix();
        let active = Active { hits: table.counters().hits(), used: table.now() };
        let mut components = self.lock();
        components.all.insert(prefix.into(), Arc::downgrade(table));
        components.active.insert(prefix.into(), active);
    }

    /// Removes a component whose cache is dropped.
    pub(crate) fn forget(&self, table: &Table) {
        let prefix = table.scope().prefix();
        let mut components = self.lock();
        // It may have another cache already.
        if components.all.get(prefix).is_some_and(|one| std::ptr::eq(one.as_ptr(), table)) {
            components.all.remove(prefix);
            components.active.remove(prefix);
            let capacity = components.all.capacity();
            if components.all.len() < capacity / 4 {
                components.all.shrink_to(capacity / 2);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Components> {
        // A panic cannot leave a state in which an entry is served for too long.
        self.0.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Coherence {
    fn changed(&self, change: &Change) {
        let table = self.lock().all.get(&*change.prefix).and_then(Weak::upgrade);
        if let Some(table) = table {
            table.changed(change);
        }
    }
}

impl fmt::Debug for Coherence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coherence").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
