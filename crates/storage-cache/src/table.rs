//! One component's view of the entries, and the rules that keep them coherent.
//!
//! - A read adds an entry only through its guard. Removing or inserting the key
//!   invalidates the guard, so a read that a write overtook adds nothing.
//! - Every change that makes an entry stale must call [`Table::remove`], which
//!   invalidates guards. In quick_cache `retain`, `replace`, `remove_if` and an insert
//!   that is not admitted do not.
//! - A guard is not a lock: after `remove` a key can have two guards, one of them
//!   invalid.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use quick_cache::Equivalent;
use quick_cache::sync::{EntryAction, EntryResult, GuardResult, PlaceholderGuard};
use storage_core::{Change, Revision, StorageError};

use crate::clock::{Moment, Timer};
use crate::coherence::Coherence;
use crate::entry::{Cached, Entry, Failure, Marker, ReadKind, Validity};
use crate::freshness::{PollStart, Polled};
use crate::key::{AnyKey, Key, SplitKey, WholeKey, is_same};
use crate::layout::{Layout, bytes};
use crate::pool::{CountEvictions, Entries, Evicted, Pool, SharedPool};
use crate::read::{Lookup, Read};
use crate::scope::Scope;
use crate::stats::{CacheStats, Counters};
use crate::sync::DefaultHashBuilder;
use crate::sync::atomic::Ordering;

/// The right to add the entry of a key. If it is dropped unused, one of the waiting
/// readers gets it.
pub(crate) type Guard<'a> =
    PlaceholderGuard<'a, Key, Entry, Layout, DefaultHashBuilder, CountEvictions>;

/// The segments that one component uses.
const SEGMENTS: usize = 2;

#[derive(Debug)]
pub(crate) struct Table {
    pool: Arc<Pool>,
    /// Both are the same in a private cache.
    segments: [Arc<Entries>; SEGMENTS],
    /// Assigns keys to segments, if there are several.
    hasher: Option<DefaultHashBuilder>,
    scope: Arc<Scope>,
    /// Follows the writes of other hosts, if there are any.
    coherence: Option<Coherence>,
}

/// What a read does after a miss. Of concurrent readers of one key, one reads from the
/// storage below and the others wait.
pub(crate) enum Flight<'a, T> {
    /// Return: another call has cached the key.
    Hit(T),
    /// Read from the storage below and fill the cache.
    Lead(Guard<'a>),
    /// Read from the storage below, and use the value if the marker is still there.
    Bypass { id: u64 },
    /// Wait for the reader that has the guard.
    Follow,
}

/// How the wait for another reader ended.
pub(crate) enum Followed<'a> {
    /// Look up the key again.
    Done,
    /// The other reader gave up its guard.
    Lead(Guard<'a>),
    /// The other reader failed.
    Failed(Box<Failure>),
}

impl Table {
    /// The table of a private cache, most of whose keys begin with `prefix`.
    pub(crate) fn private(layout: Layout, timer: Timer, prefix: &str) -> Option<Self> {
        Self::of_one_segment(layout, timer, Scope::private(prefix), None)
    }

    /// The table of a private cache for the keys that begin with `prefix`, which other hosts
    /// may write.
    pub(crate) fn followed(
        layout: Layout,
        timer: Timer,
        prefix: &str,
        max_staleness: Duration,
        coherence: &Coherence,
    ) -> Option<Self> {
        let scope = Scope::followed(prefix, max_staleness);
        Self::of_one_segment(layout, timer, scope, Some(coherence.clone()))
    }

    fn of_one_segment(
        layout: Layout,
        timer: Timer,
        scope: Arc<Scope>,
        coherence: Option<Coherence>,
    ) -> Option<Self> {
        let pool = Pool::new(layout, 1, timer)?;
        let only = pool.segments.first()?;
        let segments = [Arc::clone(only), Arc::clone(only)];
        Some(Self { segments, pool, hasher: None, scope, coherence })
    }

    /// The table of one component in a shared cache. The prefix decides which segments
    /// it uses.
    pub(crate) fn shared(
        shared: &SharedPool,
        prefix: &str,
        max_staleness: Duration,
    ) -> Option<Self> {
        let pool = shared.pool()?;
        let count = pool.segments.len() as u64;
        let hash = shared.hasher.hash_one(prefix);
        let first = hash % count;
        // Any segment but the first one.
        let second = (first + 1 + (hash >> 32) % (count - 1).max(1)) % count;
        let segment = |index: u64| pool.segments.get(index as usize).cloned();
        let max_staleness = shared.coherence.is_some().then_some(max_staleness);
        Some(Self {
            segments: [segment(first)?, segment(second)?],
            pool: Arc::clone(pool),
            hasher: Some(shared.hasher.clone()),
            scope: shared.scopes.scope(prefix, max_staleness),
            coherence: shared.coherence.clone(),
        })
    }

    #[inline]
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.scope.counters
    }

    #[inline]
    fn entries(&self, key: &(impl Hash + ?Sized)) -> &Entries {
        let [first, second] = &self.segments;
        match &self.hasher {
            Some(hasher) if hasher.hash_one(key) >> 40 & 1 == 1 => second,
            _ => first,
        }
    }

    fn whole_key<'a>(&'a self, key: &'a str) -> WholeKey<'a> {
        WholeKey::new(key, &self.scope)
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.pool.timer.now()
    }

    pub(crate) fn timer(&self) -> &Timer {
        &self.pool.timer
    }

    /// Whether a call that began at `now` may use entries. Must precede the lookup.
    #[inline]
    fn is_fresh(&self, now: Moment) -> bool {
        now < self.scope.freshness.usable_until() || self.renew()
    }

    #[cold]
    #[inline(never)]
    fn renew(&self) -> bool {
        self.scope.freshness.renew(&self.pool.timer)
    }

    /// Drops the entries if they are too old for a call that began at `now`, so that the
    /// scope can have new ones.
    fn freshen(self: &Arc<Self>, now: Moment) {
        if self.is_fresh(now) {
            return;
        }
        let lapsed = self.scope.freshness.restart_if_lapsed(&self.pool.timer);
        if lapsed == Some(true) {
            self.counters().lapses.fetch_add(1, Ordering::Relaxed);
        }
        if lapsed.is_some() {
            self.register();
        }
    }

    /// Follows the changes of other hosts, if there are any.
    pub(crate) fn register(self: &Arc<Self>) {
        if let Some(coherence) = &self.coherence {
            coherence.register(self);
        }
    }

    /// The validity of the result of a call that starts now.
    pub(crate) fn validity(self: &Arc<Self>) -> Validity {
        self.freshen(self.now());
        self.scope.freshness.validity(&self.pool.timer)
    }

    /// Returns the cached result of a read that began at `now`.
    pub(crate) fn get<R: Read>(&self, key: &str, now: Moment) -> Option<R::Output> {
        if !self.is_fresh(now) {
            return None;
        }
        let key = self.whole_key(key);
        self.output::<R>(self.entries(&key).get(&key), now)
    }

    /// The key `prefix` and `rest` joined, if it begins with the prefix of the scope.
    #[inline]
    pub(crate) fn split_key<'a>(&'a self, prefix: &str, rest: &'a str) -> Option<SplitKey<'a>> {
        is_same(prefix.as_bytes(), self.scope.prefix().as_bytes())
            .then_some(SplitKey { scope: &self.scope, rest })
    }

    /// Returns the cached result of a read that begins now.
    #[inline(always)]
    pub(crate) fn get_split<R: Read>(&self, key: &SplitKey<'_>) -> Option<R::Output> {
        // Before the lookup, so that the processor reads the clock while it loads the entry.
        let now = self.now();
        if !self.is_fresh(now) {
            return None;
        }
        self.output::<R>(self.entries(key).get(key), now)
    }

    /// Inlined: moving an entry into a call costs a copy on every hit.
    #[inline(always)]
    fn output<R: Read>(&self, entry: Option<Entry>, now: Moment) -> Option<R::Output> {
        match entry {
            Some(Entry { cached, deadline }) if self.is_valid(deadline, now) => {
                match R::lookup(cached) {
                    Lookup::Hit(output) => Some(output),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Whether an entry with this deadline has neither expired nor been dropped.
    #[inline]
    fn is_valid(&self, deadline: Moment, now: Moment) -> bool {
        now < deadline && deadline >= self.scope.freshness.min_deadline()
    }

    /// Joins or starts the single flight for a key, for a read that began at `began`.
    /// Removes an entry that has expired or lacks what the read needs.
    pub(crate) fn join<R: Read>(
        self: &Arc<Self>,
        key: &str,
        began: Moment,
    ) -> Flight<'_, R::Output> {
        self.freshen(began);
        let inspect = |_: &Key, entry: &mut Entry| {
            if !self.is_valid(entry.deadline, began) {
                return EntryAction::ReplaceWithGuard;
            }
            match R::lookup(entry.cached.clone()) {
                Lookup::Hit(output) => EntryAction::Retain(Flight::Hit(output)),
                Lookup::Bypass { id } => EntryAction::Retain(Flight::Bypass { id }),
                Lookup::Miss => EntryAction::ReplaceWithGuard,
            }
        };
        let any = &self.whole_key(key) as &dyn AnyKey;
        match self.entries(any).entry(any, Some(Duration::ZERO), inspect) {
            EntryResult::Retained(flight) => flight,
            EntryResult::Vacant(guard) => Flight::Lead(guard),
            EntryResult::Replaced(guard, old) => {
                self.counters().removed(bytes(key.len(), &old));
                Flight::Lead(guard)
            }
            EntryResult::Timeout | EntryResult::Removed(..) => Flight::Follow,
        }
    }

    /// Waits for the reader that has the guard of a key.
    ///
    /// Does not return its value: if the guard was invalidated, the value may not match
    /// the cache.
    pub(crate) fn follow(&self, key: &str) -> Followed<'_> {
        let any = &self.whole_key(key) as &dyn AnyKey;
        match self.entries(any).get_value_or_guard(any, None) {
            GuardResult::Guard(guard) => Followed::Lead(guard),
            GuardResult::Value(Entry {
                cached: Cached::Marker(Marker::Failed(failure)), ..
            }) => Followed::Failed(failure),
            GuardResult::Value(_) | GuardResult::Timeout => Followed::Done,
        }
    }

    /// Adds the result of a read. Returns `false` if the guard is invalid: the key was
    /// written or removed since, and the read must not return its result.
    ///
    /// If the cache was cleared since the read began, the added entry is expired.
    pub(crate) fn fill(
        &self,
        guard: Guard<'_>,
        key: &str,
        cached: Cached,
        validity: Validity,
    ) -> bool {
        let state = self.scope.freshness.read();
        let deadline = if state.accepts_fill(validity) { validity.deadline } else { 0 };
        let entry = self.admissible(key, Entry { cached, deadline });
        let added = bytes(key.len(), &entry);
        let mut evicted = Evicted::default();
        state.begin_fill(self.scope.key_locks.index(key));
        if guard.insert_with_lifecycle(entry, &mut evicted).is_err() {
            return false;
        }
        drop(state);
        if self.count_insert(key, added, &evicted) {
            self.counters().fills.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Gives up a guard, and passes the error to the readers that wait.
    pub(crate) fn fail(&self, guard: Guard<'_>, key: &str, kind: ReadKind, error: StorageError) {
        // Invalidates the guard first, so that the error is not cached.
        self.remove(key);
        let cached = Cached::Marker(Marker::Failed(Box::new(Failure { kind, error })));
        let _ = guard.insert(Entry { cached, deadline: 0 });
    }

    /// Adds the result of a write, unless the cache was cleared since the write began, or
    /// another host may have replaced it: a change of the key was announced, or a read has
    /// filled the cache or is about to. The caller must have removed the key after the write, and must hold its lock.
    pub(crate) fn insert(&self, key: &str, cached: Cached, validity: Validity) {
        if !self.scope.owns(key) {
            return;
        }
        let entry = self.admissible(key, Entry { cached, deadline: validity.deadline });
        let added = bytes(key.len(), &entry);
        let mut evicted = Evicted::default();
        let state = self.scope.freshness.read();
        if !state.accepts_write(validity, self.scope.key_locks.index(key)) {
            return;
        }
        let any = &self.whole_key(key) as &dyn AnyKey;
        if !state.is_followed() {
            let owned = any.to_owned();
            self.entries(&owned).insert_with_lifecycle(owned, entry, &mut evicted);
        } else {
            let keep = |_: &Key, _: &mut Entry| EntryAction::Retain(());
            let EntryResult::Vacant(guard) =
                self.entries(any).entry(any, Some(Duration::ZERO), keep)
            else {
                return;
            };
            // Its entry may be gone already. From now on the guard keeps others from filling.
            let was_read = !state.accepts_write(validity, self.scope.key_locks.index(key));
            if was_read || guard.insert_with_lifecycle(entry, &mut evicted).is_err() {
                return;
            }
        }
        self.count_insert(key, added, &evicted);
    }

    /// Removes the entry of a key and invalidates its guards. Returns whether there was one.
    pub(crate) fn remove(&self, key: &str) -> bool {
        let whole = self.whole_key(key);
        let removed = self.entries(&whole).remove(&whole);
        if let Some((key, entry)) = &removed {
            key.scope.counters.removed(bytes(key.len(), entry));
        }
        removed.is_some()
    }

    /// Removes the entry of a key if other hosts write to the storage below.
    pub(crate) fn remove_if_followed(&self, key: &str) {
        if self.coherence.is_some() {
            self.remove(key);
        }
    }

    /// Handles a change of the component.
    pub(crate) fn changed(&self, change: &Change) {
        let freshness = &self.scope.freshness;
        if let Some(keys) = &change.keys {
            let key_locks = keys.iter().map(|key| self.scope.key_locks.index(key));
            // The order matters. A write in progress then either adds its entry before the
            // removal, or learns of the change.
            freshness.announce(change.is_own, key_locks);
            let removed = keys.iter().filter(|key| self.remove(key)).count();
            if !change.is_own {
                self.counters().invalidations.fetch_add(removed as u64, Ordering::Relaxed);
            }
        } else {
            freshness.drop_all(&self.pool.timer);
            self.counters().drops.fetch_add(1, Ordering::Relaxed);
        }
        // Last: a poll may now confirm the remaining entries.
        freshness.apply(change);
    }

    /// Handles the revision of the component that a poll found.
    pub(crate) fn polled(&self, start: PollStart, found: Option<Revision>) {
        if self.scope.freshness.end_poll(start, found, &self.pool.timer) == Polled::Dropped {
            self.counters().drops.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the key still has this marker of a large value.
    pub(crate) fn has_marker(&self, key: &str, id: u64) -> bool {
        let whole = self.whole_key(key);
        let cached = self.entries(&whole).peek(&whole).map(|entry| entry.cached);
        matches!(cached, Some(Cached::Marker(Marker::TooLarge { id: found })) if found == id)
    }

    pub(crate) fn admits(&self, key: &str, cached: Cached) -> bool {
        let layout = &self.pool.layout;
        layout.weight(key.len(), &Entry { cached, deadline: 0 }) <= layout.max_weight
    }

    /// Removes all entries of the scope.
    pub(crate) fn clear(&self) {
        // `retain` does not invalidate guards. The new epoch rejects the entries of calls
        // in progress.
        self.scope.freshness.start_epoch();
        for segment in &self.segments {
            segment.retain(|key, entry| {
                let keep = !Arc::ptr_eq(&key.scope, &self.scope);
                if !keep {
                    self.counters().removed(bytes(key.len(), entry));
                }
                keep
            });
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        self.pool.cap(self.counters().read())
    }

    /// The entry, or a marker if its value is too large.
    fn admissible(&self, key: &str, entry: Entry) -> Entry {
        if self.pool.layout.weight(key.len(), &entry) <= self.pool.layout.max_weight {
            return entry;
        }
        self.counters().refusals.fetch_add(1, Ordering::Relaxed);
        match entry.cached {
            Cached::Value(..) => {
                let id = self.pool.next_id();
                Entry { cached: Cached::Marker(Marker::TooLarge { id }), ..entry }
            }
            Cached::Marker(_) => entry,
        }
    }

    /// Counts an insert. Returns `false` if the entry was not admitted, or replaced an
    /// entry of the same key.
    fn count_insert(&self, key: &str, added: u64, evicted: &Evicted) -> bool {
        self.counters().added(added);
        // quick_cache reports such an entry before those that it evicts for room.
        let whole = self.whole_key(key);
        let same_key = evicted.first.iter().flatten().any(|(evicted, _)| whole.equivalent(evicted));
        if same_key {
            self.counters().evictions.fetch_sub(1, Ordering::Relaxed);
        }
        !same_key
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some(coherence) = &self.coherence {
            coherence.forget(self);
        }
    }
}
