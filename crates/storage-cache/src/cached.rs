//! The decorator.

use std::fmt;
use std::sync::Arc;

use storage_core::{
    Commit, ComponentStorage, Revision, StorageError, StorageValue, VersionedValue,
    forward_storage, join_key, split_full_key,
};

use crate::clock::{Clock, Moment, Timer};
use crate::config::{CacheConfig, Layout};
use crate::entry::{Fact, Held, Question, ReadPresence, ReadValue, ReadVersioned, WrittenBy};
use crate::reentry::{Below, Doing, doing_below};
use crate::shared::Shared;
use crate::stats::CacheStats;
use crate::sync::{OnceLock, unwinding};
use crate::table::{Claim, Guard, Table, Waited};

/// A storage with a cache in front of it: reads are answered from memory where
/// they can be, writes go through to the storage at once.
///
/// ```
/// use storage_cache::{CacheConfig, CachedStorage};
/// use storage_core::{ComponentStorage, conformance::ReferenceStorage};
///
/// let storage = CachedStorage::new(ReferenceStorage::new(), CacheConfig::default());
/// storage.set("user:123", "Ada".into())?;
/// assert_eq!(storage.get("user:123")?, Some("Ada".into())); // from memory
/// assert_eq!(storage.get("user:124")?, None); // from the storage below
/// assert_eq!(storage.get("user:124")?, None); // from memory: absence is kept too
/// assert_eq!((storage.stats().hits, storage.stats().misses), (2, 1));
/// # Ok::<(), storage_core::StorageError>(())
/// ```
///
/// # What is coherent with what
///
/// - **Whatever goes through this `CachedStorage` is.** Once a write has
///   returned, no read through it sees an older value, whatever ran beside them;
///   and no read goes behind what an earlier one saw. After a write that failed
///   or panicked the storage below is asked again.
/// - **A write that goes around it** (through the storage below, through another
///   `CachedStorage`, by another process) is seen after [`CacheConfig::ttl`] at
///   the latest, and at once after [`clear`](Self::clear). Without a
///   time-to-live it may stay unseen as long as the entry is kept. A commit is
///   always judged by the storage below, and one that fails drops what is kept of
///   its keys, so a caller who reads again and retries gets on.
/// - Listings and usage ask the storage below.
///
/// # What a miss costs
///
/// Many who miss one key at once ask the storage below once; the others wait
/// for the answer. If that fails they ask once more, together. A failure is not
/// kept. [`get_many`](ComponentStorage::get_many) asks for all keys that it
/// misses in one call. [`try_get`](ComponentStorage::try_get) answers hits and
/// known absence and never waits.
///
/// # What it keeps
///
/// Values, absence, and revisions where a write or read told them: a
/// [`get_versioned`](ComponentStorage::get_versioned) of an entry without one
/// asks the storage below. What is seldom used gives way first; a scan does not
/// push out what is used often. Keys, values and the table they stand in
/// together stay within [`CacheConfig::max_size_bytes`].
///
/// From 8 MiB and 512 entries on the cache is divided into shards, 64 at most,
/// of at least 4 MiB and 256 entries each. A value is kept if it fills at most
/// 0.97 of a shard. Larger values pass by, are counted in
/// [`CacheStats::refusals`] and are read from below each time.
///
/// It is made for one component. For many within one budget there is
/// [`SharedCache`](crate::SharedCache): in an `Arc` under several
/// [`NamespacedStorage`](storage_core::NamespacedStorage)s this one serves them
/// too, but then the entries of one component can displace those of any other.
///
/// # What it costs
///
/// Until its first use no memory beyond itself; from then on 3 KiB, 1 KiB for each
/// shard and what it keeps, and 1 KiB for each key that is being read from below.
/// Writes to one key wait for each other, and so do writes to
/// keys that happen to share one of 64 locks. Reads do not wait for writes,
/// except one that four writes in a row have overtaken.
///
/// A storage below may read through the cache above it, which then does not
/// wait and keeps nothing. It may write through it while it reads. A write while
/// it writes is [`StorageError::Unsupported`], because it could wait for itself.
pub struct CachedStorage<S: ComponentStorage> {
    inner: S,
    origin: Origin,
    /// Made by the first call; `None` where nothing shall be kept.
    table: OnceLock<Option<Box<Table>>>,
}

/// What its table is made of.
enum Origin {
    Own { config: CacheConfig, clock: Clock },
    Shared { shared: Arc<Shared>, prefix: Box<str> },
}

/// How often a read looks again after writes got between, before it keeps them
/// off.
const ATTEMPTS: usize = 4;

impl<S: ComponentStorage> CachedStorage<S> {
    /// Puts a cache in front of `storage`.
    pub fn new(storage: S, config: CacheConfig) -> Self {
        Self::with_clock(storage, config, Clock::system())
    }

    /// The same with another clock, for tests of what expires.
    pub fn with_clock(storage: S, config: CacheConfig, clock: Clock) -> Self {
        Self { inner: storage, origin: Origin::Own { config, clock }, table: OnceLock::new() }
    }

    /// A cache within a shared budget, for the keys that begin with `prefix`.
    pub(crate) fn shared(storage: S, shared: Arc<Shared>, prefix: Box<str>) -> Self {
        Self { inner: storage, origin: Origin::Shared { shared, prefix }, table: OnceLock::new() }
    }

    /// The storage below.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// What was asked of the cache; of a [`SharedCache`](crate::SharedCache), what
    /// was asked for all together.
    pub fn config(&self) -> &CacheConfig {
        match &self.origin {
            Origin::Own { config, .. } => config,
            Origin::Shared { shared, .. } => &shared.config,
        }
    }

    /// What the cache has done and holds. All zero where nothing shall be kept.
    pub fn stats(&self) -> CacheStats {
        match (self.table_in_use(), &self.origin) {
            (Some(table), _) => table.stats(),
            // Another of the same component may be in use.
            (None, Origin::Shared { shared, prefix }) => shared.stats_of(prefix),
            (None, Origin::Own { .. }) => CacheStats::default(),
        }
    }

    /// Drops everything that is kept: reads that begin afterwards see what the
    /// storage below holds. For who has changed it around this cache.
    pub fn clear(&self) {
        let table = self.table_in_use().or_else(|| self.shared_table());
        if let Some(table) = table {
            table.clear();
        }
    }

    /// The table, where anything may be kept. The first call, which is about this key
    /// or all keys of this partition, has it made for the keys of the partition; those
    /// of others are kept as well.
    #[inline]
    fn table(&self, key: &str) -> Option<&Table> {
        self.table.get_or_init(|| self.new_table(key)).as_deref()
    }

    #[inline]
    fn table_in_use(&self) -> Option<&Table> {
        self.table.get()?.as_deref()
    }

    /// The table of a shared cache, whose entries may be older than this cache.
    #[cold]
    fn shared_table(&self) -> Option<&Table> {
        match self.origin {
            Origin::Own { .. } => None,
            Origin::Shared { .. } => self.table(""),
        }
    }

    #[cold]
    fn new_table(&self, key: &str) -> Option<Box<Table>> {
        let table = match &self.origin {
            Origin::Own { config, clock } => {
                let home = split_full_key(key).0;
                Table::alone(Layout::of(config)?, Timer::new(clock, config.ttl), home)
            }
            Origin::Shared { shared, prefix } => shared.table(prefix),
        };
        table.map(Box::new)
    }

    #[inline]
    fn read<Q: Question>(&self, key: &str) -> Result<Q::Answer, StorageError> {
        let Some(table) = self.table(key) else {
            return Q::ask(&self.inner, key);
        };
        let began = table.now();
        if let Some(answer) = table.recall::<Q>(&table.wanted(key), began) {
            table.counters().hit();
            return Ok(answer);
        }
        table.counters().missed(1);
        self.read_below::<Q>(table, key, began)
    }

    /// Reads what is not at hand.
    ///
    /// An answer is given only if it is what the cache holds, or what it would
    /// hold but for its size, at some moment of this call. What the storage below
    /// says is not enough: while a write is on its way it may be newer than what
    /// other readers still find, and one who read it would see time go back.
    #[inline(never)]
    fn read_below<Q: Question>(
        &self,
        table: &Table,
        key: &str,
        began: Moment,
    ) -> Result<Q::Answer, StorageError> {
        if doing_below(table.budget()).is_some() || !table.owns(key) {
            // Whoever is to fill the place may be further up in this very call.
            return Q::ask(&self.inner, key);
        }
        let mut failed_before = false;
        for _ in 0..ATTEMPTS {
            let claim = match table.claim::<Q>(key, began) {
                Claim::Wait => match table.wait(key) {
                    Waited::Done => continue,
                    Waited::Fill(guard) => Claim::Fill(guard),
                    Waited::Failed(failure) => {
                        // The first may have begun before this call and ended for
                        // reasons that are over. The next speaks for it.
                        if failure.kind == Q::KIND && failed_before {
                            return Err(failure.error);
                        }
                        failed_before |= failure.kind == Q::KIND;
                        continue;
                    }
                },
                claim => claim,
            };
            let answer = match claim {
                Claim::Answer(answer) => Some(answer),
                Claim::Fill(guard) => self.fill::<Q>(table, key, guard)?,
                Claim::PassBy { mark } => self.pass_by::<Q>(table, key, mark)?,
                Claim::Wait => None,
            };
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
        let _stripe = table.stripes().lock(key);
        let _below = Below::enter(table.budget(), Doing::Locked);
        Q::ask(&self.inner, key)
    }

    /// Asks for everybody who waits for the place. `None` if a write got between.
    fn fill<Q: Question>(
        &self,
        table: &Table,
        key: &str,
        guard: Guard<'_>,
    ) -> Result<Option<Q::Answer>, StorageError> {
        let stamp = table.stamp();
        let asked = {
            let _below = Below::enter(table.budget(), Doing::Filling);
            Q::ask(&self.inner, key)
        };
        match asked {
            Ok(answer) => {
                let filled = table.fill(guard, key, Q::learn(&answer), stamp);
                Ok(filled.then_some(answer))
            }
            Err(error) => {
                table.fail(guard, key, Q::KIND, error.clone());
                Err(error)
            }
        }
    }

    /// Asks for a value that is too large to keep. `None` if a write got between.
    fn pass_by<Q: Question>(
        &self,
        table: &Table,
        key: &str,
        mark: u64,
    ) -> Result<Option<Q::Answer>, StorageError> {
        let answer = Q::ask(&self.inner, key)?;
        if !table.is_marked(key, mark) {
            return Ok(None);
        }
        if table.admits(key, Q::learn(&answer)) {
            // Made smaller, by a write that is under way or around this cache. The
            // mark must not say any longer that there is a value.
            table.forget(key);
        }
        Ok(Some(answer))
    }

    /// Answers those of `keys` that have no answer yet, with one call of the
    /// storage below for all that nobody else is reading.
    fn get_missing(
        &self,
        table: &Table,
        keys: &[&str],
        answers: &mut [Option<Option<StorageValue>>],
        began: Moment,
    ) -> Result<(), StorageError> {
        // Below this very cache nobody is waited for.
        let may_wait = doing_below(table.budget()).is_none();
        let mut claimed = Vec::new();
        for (key, answer) in unanswered(keys, answers) {
            if !may_wait || !table.owns(key) {
                claimed.push((key, answer, None));
                continue;
            }
            match table.claim::<ReadValue>(key, began) {
                Claim::Answer(known) => *answer = Some(known),
                Claim::Fill(guard) => claimed.push((key, answer, Some(guard))),
                // Below, when no other key's guard is held.
                Claim::Wait | Claim::PassBy { .. } => {}
            }
        }
        if !claimed.is_empty() {
            let asked: Vec<&str> = claimed.iter().map(|(key, ..)| *key).collect();
            let stamp = table.stamp();
            // An error may be about one key alone, so those who wait for another
            // are not told: dropped, the guards go to them.
            let found = {
                let _below = Below::enter(table.budget(), Doing::Filling);
                self.inner.get_many(&asked)?
            };
            if found.len() != asked.len() {
                return Err(StorageError::IoError(format!(
                    "the storage below was asked for {} keys and answered {}",
                    asked.len(),
                    found.len()
                )));
            }
            for ((key, answer, guard), value) in claimed.into_iter().zip(found) {
                let learned = ReadValue::learn(&value);
                if guard.is_none_or(|guard| table.fill(guard, key, learned, stamp)) {
                    *answer = Some(value);
                }
            }
        }
        for (key, answer) in unanswered(keys, answers) {
            *answer = Some(self.read_below::<ReadValue>(table, key, began)?);
        }
        Ok(())
    }

    /// Writes one key: `call` does it, and `learn` says what is known then.
    fn write<T>(
        &self,
        key: &str,
        call: impl FnOnce(&S) -> Result<T, StorageError>,
        learn: impl FnOnce(&T) -> Held,
    ) -> Result<T, StorageError> {
        let Some(table) = self.table(key) else {
            return call(&self.inner);
        };
        refuse_below_a_write(table)?;
        let _stripe = table.stripes().lock(key);
        let _below = Below::enter(table.budget(), Doing::Locked);
        let stamp = table.stamp();
        let forget = Forget { table, keys: &[key] };
        let result = unwinding(|| call(&self.inner))?;
        drop(forget);
        if let Ok(done) = &result {
            table.insert(key, learn(done), stamp);
        }
        result
    }
}

/// The keys without an answer, and where theirs goes.
fn unanswered<'k, 'a, A>(
    keys: &[&'k str],
    answers: &'a mut [Option<A>],
) -> impl Iterator<Item = (&'k str, &'a mut Option<A>)> {
    keys.iter().copied().zip(answers).filter(|(_, answer)| answer.is_none())
}

/// Forgets keys at its end, so that a write that panics does it too.
struct Forget<'a> {
    table: &'a Table,
    keys: &'a [&'a str],
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        for key in self.keys {
            self.table.forget(key);
        }
    }
}

/// A write below a write would wait for a stripe that its own thread holds, or
/// that is held by one who waits for this thread.
fn refuse_below_a_write(table: &Table) -> Result<(), StorageError> {
    if doing_below(table.budget()) == Some(Doing::Locked) {
        return Err(StorageError::Unsupported(
            "a write through a cache by the storage below it, which is writing for the same \
             cache; write to that storage itself"
                .into(),
        ));
    }
    Ok(())
}

#[deny(clippy::missing_trait_methods)]
impl<S: ComponentStorage> ComponentStorage for CachedStorage<S> {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        self.read::<ReadValue>(key)
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        let kept = value.clone();
        self.write(key, |inner| inner.set(key, value), |()| Held::Value(kept, WrittenBy::UNKNOWN))
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.write(
            key,
            |inner| inner.delete(key),
            |()| Held::Fact(Fact::Absent { versioned: false }),
        )
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        self.read::<ReadPresence>(key)
    }

    forward_storage!(self => self.inner; list_keys, list_page, usage);

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        let Some(table) = self.table(keys.first().copied().unwrap_or_default()) else {
            return self.inner.get_many(keys);
        };
        let began = table.now();
        let mut answers: Vec<Option<Option<StorageValue>>> = Vec::with_capacity(keys.len());
        for key in keys {
            let answer = table.recall::<ReadValue>(&table.wanted(key), began);
            if answer.is_some() {
                table.counters().hit();
            }
            answers.push(answer);
        }
        let missed = answers.iter().filter(|answer| answer.is_none()).count();
        if missed > 0 {
            table.counters().missed(missed as u64);
            self.get_missing(table, keys, &mut answers, began)?;
        }
        Ok(answers.into_iter().map(Option::flatten).collect())
    }

    #[inline]
    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        let table = self.table_in_use().or_else(|| self.shared_table())?;
        let now = table.now();
        let answer = match table.at_home(prefix, key) {
            Some(key) => table.recall::<ReadValue>(&key, now),
            None => table.recall::<ReadValue>(&table.wanted(&join_key(prefix, key)), now),
        }?;
        table.counters().hit();
        Some(answer)
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.read::<ReadVersioned>(key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        let first = commit.keys().next().unwrap_or_default();
        let Some(table) = self.table(first) else {
            return self.inner.commit(commit);
        };
        refuse_below_a_write(table)?;
        let applied = commit.clone();
        let writes = applied.effective_writes();
        let named: Vec<&str> = applied.keys().collect();
        let written: Vec<&str> = writes.iter().map(|write| write.key.as_str()).collect();

        let _stripes = table.stripes().lock_all(named.iter().copied());
        let _below = Below::enter(table.budget(), Doing::Locked);
        let stamp = table.stamp();
        let mut forget = Forget { table, keys: &named };
        let result = unwinding(|| self.inner.commit(commit))?;
        if result.is_ok() {
            // What was checked alone is as it was.
            forget.keys = &written;
        }
        drop(forget);
        if let Ok(revision) = &result {
            for write in writes {
                let held = match &write.value {
                    Some(value) => Held::Value(value.clone(), (*revision).into()),
                    None => Held::Fact(Fact::Absent { versioned: true }),
                };
                table.insert(&write.key, held, stamp);
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
