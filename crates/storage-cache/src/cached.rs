//! The decorator.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use storage_core::{
    Commit, ComponentStorage, Revision, StorageError, StorageValue, VersionedValue,
    forward_storage, join_key, split_full_key,
};

use crate::clock::{Clock, Moment, Timer};
use crate::coherence::Coherence;
use crate::config::CacheConfig;
use crate::entry::{Cached, KnownRevision, Marker};
use crate::layout::Layout;
use crate::pool::SharedPool;
use crate::read::{Exists, Get, GetVersioned, Read};
use crate::stats::CacheStats;
use crate::sync::{OnceLock, unwinding};
use crate::table::{Flight, Followed, Guard, Table};

/// A read cache in front of a storage. Every write goes through to the storage before it
/// returns.
///
/// ```
/// use storage_cache::{CacheConfig, CachedStorage};
/// use storage_core::{ComponentStorage, conformance::ReferenceStorage};
///
/// let storage = CachedStorage::new(ReferenceStorage::new(), CacheConfig::default());
/// storage.set("user:123", "Ada".into())?;
/// assert_eq!(storage.get("user:123")?, Some("Ada".into())); // from memory
/// assert_eq!(storage.get("user:124")?, None); // from the storage below
/// assert_eq!(storage.get("user:124")?, None); // from memory: absence is cached too
/// assert_eq!((storage.stats().hits, storage.stats().misses), (2, 1));
/// # Ok::<(), storage_core::StorageError>(())
/// ```
///
/// # Coherence
///
/// - **Calls through this `CachedStorage` are linearizable** for each key. After a
///   write returns, no read sees an older value, and no read sees an older value than
///   an earlier read did. After a write that failed or panicked, the next read is a
///   miss.
/// - **A write that bypasses the cache** (directly to the storage below, through another
///   `CachedStorage`, or by another process) becomes visible within
///   [`CacheConfig::ttl`], and at once after [`clear`](Self::clear). Without a TTL it may
///   stay invisible while the entry is cached. The storage below evaluates every commit,
///   and a commit that fails removes the entries of its keys, so a caller that reads
///   again and retries makes progress.
/// - Listings and usage come from the storage below.
/// - If other hosts write to the storage below, use [`coherent`](Self::coherent), which bounds
///   how old a value may be.
///
/// # Misses
///
/// Concurrent reads that miss the same key become one read of the storage below. If it
/// fails, the readers that waited share one more read. Errors are not cached.
/// [`get_many`](ComponentStorage::get_many) reads all missing keys in one call.
///
/// # What is cached
///
/// Values, absence, and revisions that a write or read returned:
/// [`get_versioned`](ComponentStorage::get_versioned) of an entry without a revision is a
/// miss. Keys, values and the memory of the cache itself stay within
/// [`CacheConfig::max_size_bytes`]. Entries that are rarely used are evicted first; a
/// scan does not evict entries that are used often.
///
/// A cache of at least 8 MiB and 512 entries has several shards, up to 64, each of at
/// least 4 MiB and 256 entries. A value is cached if it fills at most 97 % of a shard.
/// Larger values are counted in [`CacheStats::refusals`] and read from the storage below
/// each time.
///
/// Use one `CachedStorage` per component, or a [`SharedCache`](crate::SharedCache) for
/// many. An `Arc` of one `CachedStorage` may also serve several
/// [`NamespacedStorage`](storage_core::NamespacedStorage)s, but then each component can
/// evict the entries of all others.
///
/// # Costs
///
/// The memory is allocated on first use: 3 KiB, 1 KiB for each shard, the entries, and
/// 1 KiB for each key that is being read from below. Writes to one key wait for each
/// other, as do writes to keys that share one of 64 locks. Reads do not wait for
/// writes, except for a read that four writes in succession have overtaken.
///
/// The storage below must not call back into this cache: the call could deadlock.
pub struct CachedStorage<S: ComponentStorage> {
    inner: S,
    origin: Origin,
    /// Created by the first call; the inner `Option` is `None` if the cache is off.
    table: OnceLock<Option<Arc<Table>>>,
}

/// How to create the table.
enum Origin {
    Private { config: CacheConfig, clock: Clock },
    Followed { config: CacheConfig, component: FollowedComponent },
    Shared { pool: Arc<SharedPool>, prefix: Box<str>, max_staleness: Duration },
}

/// A component that other hosts may write to.
struct FollowedComponent {
    prefix: Box<str>,
    max_staleness: Duration,
    coherence: Coherence,
}

/// A read that writes have overtaken this many times takes the key's lock.
const ATTEMPTS: usize = 4;

impl<S: ComponentStorage> CachedStorage<S> {
    /// Creates a cache in front of `storage`.
    pub fn new(storage: S, config: CacheConfig) -> Self {
        Self::with_clock(storage, config, Clock::system())
    }

    /// Creates a cache with another clock, for tests.
    pub fn with_clock(storage: S, config: CacheConfig, clock: Clock) -> Self {
        let origin = Origin::Private { config, clock };
        Self { inner: storage, origin, table: OnceLock::new() }
    }

    /// Creates a cache for the component with this prefix, which other hosts may write to.
    /// Keys of other components are not cached.
    ///
    /// No read returns a value that was replaced more than `max_staleness` before the read
    /// began, as long as [`Coherence::poll`] is called several times in that time. Otherwise
    /// more reads go to the storage below. Reads of a key through this cache never go back to
    /// an older value. Needs 1 KiB in addition to the limit of `config`.
    pub fn coherent(
        storage: S,
        config: CacheConfig,
        prefix: &str,
        max_staleness: Duration,
        coherence: &Coherence,
    ) -> Self {
        let (prefix, coherence) = (prefix.into(), coherence.clone());
        let component = FollowedComponent { prefix, max_staleness, coherence };
        let origin = Origin::Followed { config, component };
        Self { inner: storage, origin, table: OnceLock::new() }
    }

    /// A part of a shared cache, for the keys that begin with `prefix`.
    pub(crate) fn shared(
        storage: S,
        pool: Arc<SharedPool>,
        prefix: Box<str>,
        max_staleness: Duration,
    ) -> Self {
        let origin = Origin::Shared { pool, prefix, max_staleness };
        Self { inner: storage, origin, table: OnceLock::new() }
    }

    /// The storage below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The limits of the cache; for a part of a [`SharedCache`](crate::SharedCache),
    /// those of the whole.
    pub fn config(&self) -> &CacheConfig {
        match &self.origin {
            Origin::Private { config, .. } | Origin::Followed { config, .. } => config,
            Origin::Shared { pool, .. } => &pool.config,
        }
    }

    /// The statistics; all zero if the cache is off.
    pub fn stats(&self) -> CacheStats {
        match (self.existing_table(), &self.origin) {
            (Some(table), _) => table.stats(),
            (None, Origin::Shared { pool, prefix, .. }) => pool.stats_of(prefix),
            (None, Origin::Private { .. } | Origin::Followed { .. }) => CacheStats::default(),
        }
    }

    /// Removes all entries: reads that start afterwards see what the storage below
    /// holds. Call it after a write that bypasses the cache.
    pub fn clear(&self) {
        if let Some(table) = self.existing_table().or_else(|| self.shared_table()) {
            table.clear();
        }
    }

    /// The table; `None` if the cache is off. A private table stores the component prefix
    /// of the first key once, and other keys in full.
    #[inline]
    fn table(&self, key: &str) -> Option<&Arc<Table>> {
        self.table.get_or_init(|| self.new_table(key)).as_ref()
    }

    #[inline]
    fn existing_table(&self) -> Option<&Arc<Table>> {
        self.table.get()?.as_ref()
    }

    /// The table of a shared cache, which may have entries of other views before the
    /// first call of this one.
    #[cold]
    fn shared_table(&self) -> Option<&Arc<Table>> {
        match self.origin {
            Origin::Private { .. } | Origin::Followed { .. } => None,
            Origin::Shared { .. } => self.table(""),
        }
    }

    #[cold]
    fn new_table(&self, key: &str) -> Option<Arc<Table>> {
        let table = match &self.origin {
            Origin::Private { config, clock } => {
                let (prefix, _) = split_full_key(key);
                Table::private(Layout::of(config)?, Timer::new(clock, config.ttl), prefix)
            }
            Origin::Followed { config, component } => {
                let FollowedComponent { prefix, max_staleness, coherence } = component;
                let timer = Timer::running(coherence.clock(), config.ttl);
                Table::followed(Layout::of(config)?, timer, prefix, *max_staleness, coherence)
            }
            Origin::Shared { pool, prefix, max_staleness } => {
                Table::shared(pool, prefix, *max_staleness)
            }
        };
        let table = Arc::new(table?);
        // The changes of a component concern its entries from the first one on; a shared
        // cache may still have some.
        table.register();
        Some(table)
    }

    #[inline]
    fn read<R: Read>(&self, key: &str) -> Result<R::Output, StorageError> {
        let Some(table) = self.table(key) else {
            return R::fetch(&self.inner, key);
        };
        let began = table.now();
        if let Some(output) = table.get::<R>(key, began) {
            table.counters().hit();
            return Ok(output);
        }
        table.counters().missed(1);
        self.read_below::<R>(table, key, began)
    }

    /// Reads a key that does not begin with the prefix of the table.
    #[cold]
    #[inline(never)]
    fn try_get_joined(table: &Table, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        let output = table.get::<Get>(&join_key(prefix, key), table.now())?;
        table.counters().hit();
        Some(output)
    }

    /// Reads a key that is not cached.
    ///
    /// Returns only what the cache holds, or would hold but for its size, at some point
    /// during the call. The value of the storage below alone does not suffice: while a
    /// write is in progress it may be newer than the cached one, and a later read would
    /// then return an older value.
    #[inline(never)]
    fn read_below<R: Read>(
        &self,
        table: &Arc<Table>,
        key: &str,
        began: Moment,
    ) -> Result<R::Output, StorageError> {
        if !table.scope().owns(key) {
            return R::fetch(&self.inner, key);
        }
        let mut failed_before = false;
        for _ in 0..ATTEMPTS {
            let flight = match table.join::<R>(key, began) {
                Flight::Follow => match table.follow(key) {
                    Followed::Done => continue,
                    Followed::Lead(guard) => Flight::Lead(guard),
                    Followed::Failed(failure) if failure.kind == R::KIND => {
                        // The first flight may have started before this call, so its
                        // error may be outdated. That of the second one is not.
                        if failed_before {
                            return Err(failure.error);
                        }
                        failed_before = true;
                        continue;
                    }
                    Followed::Failed(_) => continue,
                },
                flight => flight,
            };
            let output = match flight {
                Flight::Hit(output) => Some(output),
                Flight::Lead(guard) => self.fill::<R>(table, key, guard)?,
                Flight::Bypass { id } => self.bypass::<R>(table, key, id)?,
                Flight::Follow => None,
            };
            if let Some(output) = output {
                return Ok(output);
            }
        }
        let _lock = table.scope().key_locks.lock(key);
        let output = R::fetch(&self.inner, key);
        // Another host may have replaced what is cached, and later reads must not see an older
        // value.
        table.remove_if_followed(key);
        output
    }

    /// Reads the key and adds it to the cache, for all readers that wait for the guard.
    /// `None` if a write overtook the read.
    fn fill<R: Read>(
        &self,
        table: &Arc<Table>,
        key: &str,
        guard: Guard<'_>,
    ) -> Result<Option<R::Output>, StorageError> {
        let validity = table.validity();
        match R::fetch(&self.inner, key) {
            Ok(output) => {
                let filled = table.fill(guard, key, R::cached(&output), validity);
                Ok(filled.then_some(output))
            }
            Err(error) => {
                table.fail(guard, key, R::KIND, error.clone());
                Err(error)
            }
        }
    }

    /// Reads a value that is too large to cache. `None` if a write overtook the read.
    fn bypass<R: Read>(
        &self,
        table: &Arc<Table>,
        key: &str,
        id: u64,
    ) -> Result<Option<R::Output>, StorageError> {
        let output = R::fetch(&self.inner, key)?;
        if !table.has_marker(key, id) {
            return Ok(None);
        }
        if table.admits(key, R::cached(&output)) {
            // A write in progress, or one that bypassed the cache, replaced or deleted
            // the large value: the marker is outdated.
            table.remove(key);
        }
        Ok(Some(output))
    }

    /// Reads the keys that have no output yet: first, with one call, those that no other
    /// caller is reading, then the others.
    fn get_missing(
        &self,
        table: &Arc<Table>,
        keys: &[&str],
        outputs: &mut [Option<Option<StorageValue>>],
        began: Moment,
    ) -> Result<(), StorageError> {
        let mut leading = Vec::new();
        for (key, output) in missing(keys, outputs) {
            if !table.scope().owns(key) {
                leading.push((key, output, None));
                continue;
            }
            match table.join::<Get>(key, began) {
                Flight::Hit(found) => *output = Some(found),
                Flight::Lead(guard) => leading.push((key, output, Some(guard))),
                // Read below: a reader that holds guards must not wait.
                Flight::Follow | Flight::Bypass { .. } => {}
            }
        }
        if !leading.is_empty() {
            let requested: Vec<&str> = leading.iter().map(|(key, ..)| *key).collect();
            let validity = table.validity();
            // An error may concern a single key, so the waiting readers do not get it.
            // Dropping the guards lets them read.
            let found = self.inner.get_many(&requested)?;
            if found.len() != requested.len() {
                return Err(StorageError::IoError(format!(
                    "the storage below returned {} values for {} keys",
                    found.len(),
                    requested.len()
                )));
            }
            for ((key, output, guard), value) in leading.into_iter().zip(found) {
                let cached = Get::cached(&value);
                if guard.is_none_or(|guard| table.fill(guard, key, cached, validity)) {
                    *output = Some(value);
                }
            }
        }
        for (key, output) in missing(keys, outputs) {
            *output = Some(self.read_below::<Get>(table, key, began)?);
        }
        Ok(())
    }

    /// Writes one key with `call`, and caches `cached`.
    fn write(
        &self,
        key: &str,
        call: impl FnOnce(&S) -> Result<(), StorageError>,
        cached: Cached,
    ) -> Result<(), StorageError> {
        let Some(table) = self.table(key) else {
            return call(&self.inner);
        };
        let _lock = table.scope().key_locks.lock(key);
        let validity = table.validity();
        let remove = RemoveOnDrop { table, keys: &[key] };
        let result = unwinding(|| call(&self.inner))?;
        drop(remove);
        if result.is_ok() {
            table.insert(key, cached, validity);
        }
        result
    }
}

/// The keys without an output, and their slots.
fn missing<'k, 'o, T>(
    keys: &[&'k str],
    outputs: &'o mut [Option<T>],
) -> impl Iterator<Item = (&'k str, &'o mut Option<T>)> {
    keys.iter().copied().zip(outputs).filter(|(_, output)| output.is_none())
}

/// Removes keys from the cache when it is dropped, even while a panic unwinds.
struct RemoveOnDrop<'a> {
    table: &'a Table,
    keys: &'a [&'a str],
}

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        for key in self.keys {
            self.table.remove(key);
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<S: ComponentStorage> ComponentStorage for CachedStorage<S> {
    forward_storage!(self => self.inner; list_keys, list_page, usage);

    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        self.read::<Get>(key)
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        let cached = Cached::Value(value.clone(), KnownRevision::UNKNOWN);
        self.write(key, |inner| inner.set(key, value), cached)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        let cached = Cached::Marker(Marker::Absent { versioned: false });
        self.write(key, |inner| inner.delete(key), cached)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        self.read::<Exists>(key)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        let Some(table) = self.table(keys.first().copied().unwrap_or_default()) else {
            return self.inner.get_many(keys);
        };
        let began = table.now();
        let mut outputs: Vec<_> = keys.iter().map(|key| table.get::<Get>(key, began)).collect();
        let misses = outputs.iter().filter(|output| output.is_none()).count();
        (misses..keys.len()).for_each(|_| table.counters().hit());
        if misses > 0 {
            table.counters().missed(misses as u64);
            self.get_missing(table, keys, &mut outputs, began)?;
        }
        Ok(outputs.into_iter().map(Option::flatten).collect())
    }

    // Inlined, like all that it calls: moving an entry out of a call costs a copy on every hit.
    #[inline(always)]
    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        let table = self.existing_table().or_else(|| self.shared_table())?;
        let Some(key) = table.split_key(prefix, key) else {
            return Self::try_get_joined(table, prefix, key);
        };
        let output = table.get_split::<Get>(&key)?;
        table.counters().hit();
        Some(output)
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.read::<GetVersioned>(key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        let first = commit.keys().next().unwrap_or_default();
        let Some(table) = self.table(first) else {
            return self.inner.commit(commit);
        };
        let applied = commit.clone();
        let writes = applied.effective_writes();
        let all: Vec<&str> = applied.keys().collect();
        let written: Vec<&str> = writes.iter().map(|write| write.key.as_str()).collect();

        let _locks = table.scope().key_locks.lock_all(all.iter().copied());
        let validity = table.validity();
        let mut remove = RemoveOnDrop { table, keys: &all };
        let result = unwinding(|| self.inner.commit(commit))?;
        if result.is_ok() {
            // Keys that were only checked have not changed.
            remove.keys = &written;
        }
        drop(remove);
        if let Ok(revision) = &result {
            for write in writes {
                let cached = match &write.value {
                    Some(value) => Cached::Value(value.clone(), (*revision).into()),
                    None => Cached::Marker(Marker::Absent { versioned: true }),
                };
                table.insert(&write.key, cached, validity);
            }
        }
        result
    }
}

impl<S: ComponentStorage + fmt::Debug> fmt::Debug for CachedStorage<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStorage")
            .field("inner", &self.inner)
            .field("config", self.config())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
