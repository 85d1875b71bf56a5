//! The entries: quick_cache, and the rules that keep what it holds true.
//!
//! - Reads bring in an entry only through the guard of the place that they
//!   claimed. A guard is void once its key was removed or inserted, so a read
//!   that a write overtook brings in nothing.
//! - What makes an entry untrue ends in [`Table::forget`], which voids guards.
//!   `retain`, `replace`, `remove_if` and an insert that is not admitted do not.
//! - A guard is no lock: after `forget` there can be two for one key, of which
//!   one is void.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::{Cache, EntryAction, EntryResult, GuardResult, PlaceholderGuard};
use quick_cache::{Equivalent, Lifecycle, OptionsBuilder, Weighter};
use storage_core::StorageError;

use crate::clock::{Moment, Timer};
use crate::config::{HOT_PART, Layout, bytes};
use crate::entry::{Entry, Fact, Failure, Held, Kind, Question, Recall, Stamp};
use crate::key::{AtHome, Key, Named, Wanted, is_same};
use crate::owner::{Owner, Register};
use crate::stats::{CacheStats, Counters};
use crate::stripes::Stripes;
use crate::sync::DefaultHashBuilder;
use crate::sync::atomic::{AtomicU64, Ordering};

type Entries = Cache<Key, Entry, Layout, DefaultHashBuilder, CountEvicted>;

/// A claim on the place of a key. Dropped without a fill, it goes to one of
/// those who wait for it.
pub(crate) type Guard<'a> =
    PlaceholderGuard<'a, Key, Entry, Layout, DefaultHashBuilder, CountEvicted>;

/// The entries of a budget: of one cache, or of several that share it.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Each with its part of the budget, within which it evicts.
    segments: Box<[Arc<Entries>]>,
    /// That of a segment.
    layout: Layout,
    timer: Timer,
    next_mark: AtomicU64,
}

/// How many segments of a shared budget a user can fill.
const SEGMENTS_EACH: usize = 2;

impl Budget {
    /// `None` if there is nothing to build.
    pub(crate) fn new(layout: Layout, segments: usize, timer: Timer) -> Option<Arc<Self>> {
        let segment = || {
            let options = OptionsBuilder::new()
                .weight_capacity(layout.room)
                .estimated_items_capacity(usize::try_from(layout.max_entries).unwrap_or(usize::MAX))
                .shards(usize::try_from(layout.shards).unwrap_or(1))
                .hot_allocation(HOT_PART)
                .ghost_allocation(layout.ghost_allocation())
                .build()
                .ok()?;
            let hasher = DefaultHashBuilder::default();
            Some(Arc::new(Cache::with_options(options, layout, hasher, CountEvicted)))
        };
        let segments = (0..segments).map(|_| segment()).collect::<Option<_>>()?;
        Some(Arc::new(Self { segments, layout, timer, next_mark: AtomicU64::new(0) }))
    }

    /// What was counted, as far as all segments hold it.
    pub(crate) fn bound(&self, counted: CacheStats) -> CacheStats {
        let weight = self.segments.iter().map(|segment| segment.weight()).sum();
        counted.within(weight, self.layout.floor)
    }
}

/// What a cache has once it is in use.
#[derive(Debug)]
pub(crate) struct Table {
    budget: Arc<Budget>,
    /// Where its entries stand; the same twice where there is one segment.
    segments: [Arc<Entries>; SEGMENTS_EACH],
    /// Tells its segments apart.
    hasher: Option<DefaultHashBuilder>,
    owner: Arc<Owner>,
}

/// What to do about a key that is not at hand.
pub(crate) enum Claim<'a, A> {
    /// Nothing, it is by now.
    Answer(A),
    /// Ask the storage below, and fill the place.
    Fill(Guard<'a>),
    /// Ask the storage below, and look whether the mark is still there.
    PassBy { mark: u64 },
    /// Wait for another reader's fill.
    Wait,
}

/// How a wait ended.
pub(crate) enum Waited<'a> {
    /// The other is done: look again.
    Done,
    /// The other gave up: the place is this reader's to fill.
    Fill(Guard<'a>),
    /// The other failed.
    Failed(Box<Failure>),
}

impl Table {
    /// A table of its own, most of whose keys are of the partition `home`; `None`
    /// if there is nothing to build.
    pub(crate) fn alone(layout: Layout, timer: Timer, home: &str) -> Option<Self> {
        let budget = Budget::new(layout, 1, timer)?;
        let only = budget.segments.first()?;
        let segments = [Arc::clone(only), Arc::clone(only)];
        Some(Self { segments, budget, hasher: None, owner: Owner::alone(home) })
    }

    /// A table within a shared budget, for the keys that begin with `prefix`.
    /// Which segments it has follows from the prefix.
    pub(crate) fn within(
        budget: &Arc<Budget>,
        register: &Arc<Register>,
        hasher: &DefaultHashBuilder,
        prefix: &str,
    ) -> Option<Self> {
        let count = budget.segments.len() as u64;
        let hash = hasher.hash_one(prefix);
        let first = hash % count;
        // Any but the first.
        let other = (first + 1 + (hash >> 32) % (count - 1).max(1)) % count;
        let segment = |number: u64| budget.segments.get(number as usize).cloned();
        Some(Self {
            segments: [segment(first)?, segment(other)?],
            budget: Arc::clone(budget),
            hasher: Some(hasher.clone()),
            owner: register.owner(prefix),
        })
    }

    /// What all tables of the budget are known by.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Whether a key is one that may be kept here. Another's would be kept in two
    /// places.
    pub(crate) fn owns(&self, key: &str) -> bool {
        self.owner.owns(key)
    }

    pub(crate) fn stripes(&self) -> &Stripes {
        &self.owner.stripes
    }

    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        &self.owner.counters
    }

    /// The segment of a key.
    #[inline]
    fn entries(&self, key: &(impl Hash + ?Sized)) -> &Entries {
        let [first, other] = &self.segments;
        match &self.hasher {
            Some(hasher) if hasher.hash_one(key) >> 40 & 1 == 1 => other,
            _ => first,
        }
    }

    /// A key, as it is looked for here.
    pub(crate) fn wanted<'a>(&'a self, key: &'a str) -> Wanted<'a> {
        Wanted::new(key, &self.owner)
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.budget.timer.now()
    }

    /// What an entry gets whose storage is asked after this.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            deadline: self.budget.timer.deadline(self.now()),
            generation: *self.owner.generation(),
        }
    }

    /// The key that these are the parts of, if most are of that partition.
    #[inline]
    pub(crate) fn at_home<'a>(&'a self, partition: &str, own_key: &'a str) -> Option<AtHome<'a>> {
        let owner = &self.owner;
        is_same(partition.as_bytes(), owner.home().as_bytes())
            .then_some(AtHome { owner, rest: own_key })
    }

    /// The answer to a question that began at `now`, if it is at hand.
    #[inline]
    pub(crate) fn recall<Q: Question>(
        &self,
        key: &(impl Hash + Equivalent<Key>),
        now: Moment,
    ) -> Option<Q::Answer> {
        Self::answer::<Q>(self.entries(key).get(key), now)
    }

    /// What an entry answers, if there is one and it counts. Moved into a call, it
    /// would be copied in a way that the processor has to wait for.
    #[inline(always)]
    fn answer<Q: Question>(entry: Option<Entry>, now: Moment) -> Option<Q::Answer> {
        match entry {
            Some(Entry { held, deadline }) if now < deadline => match Q::recall(held) {
                Recall::Answer(answer) => Some(answer),
                _ => None,
            },
            _ => None,
        }
    }

    /// Claims the place of a key, unless it answers a question that began at
    /// `began`. Of many readers one gets to fill it; an entry that does not
    /// count, or does not answer, makes way.
    pub(crate) fn claim<Q: Question>(&self, key: &str, began: Moment) -> Claim<'_, Q::Answer> {
        let inspect = |_: &Key, entry: &mut Entry| {
            if began >= entry.deadline {
                return EntryAction::ReplaceWithGuard;
            }
            match Q::recall(entry.held.clone()) {
                Recall::Answer(answer) => EntryAction::Retain(Claim::Answer(answer)),
                Recall::PassBy { mark } => EntryAction::Retain(Claim::PassBy { mark }),
                Recall::Unknown => EntryAction::ReplaceWithGuard,
            }
        };
        let wanted = &self.wanted(key) as &dyn Named;
        match self.entries(wanted).entry(wanted, Some(Duration::ZERO), inspect) {
            EntryResult::Retained(known) => known,
            EntryResult::Vacant(guard) => Claim::Fill(guard),
            EntryResult::Replaced(guard, old) => {
                self.counters().removed(bytes(key.len(), &old));
                Claim::Fill(guard)
            }
            EntryResult::Timeout | EntryResult::Removed(..) => Claim::Wait,
        }
    }

    /// Waits for the reader who fills the place of a key.
    ///
    /// What he brings is not taken from his hand: if his guard is void, it may be
    /// newer than what others still find here, or older.
    pub(crate) fn wait(&self, key: &str) -> Waited<'_> {
        let wanted = &self.wanted(key) as &dyn Named;
        match self.entries(wanted).get_value_or_guard(wanted, None) {
            GuardResult::Guard(guard) => Waited::Fill(guard),
            GuardResult::Value(Entry { held: Held::Fact(Fact::Failed(failure)), .. }) => {
                Waited::Failed(failure)
            }
            GuardResult::Value(_) | GuardResult::Timeout => Waited::Done,
        }
    }

    /// Fills a claimed place, if all was cleared since with what counts no more.
    /// `false` if the guard is void: the key was written or forgotten since, and what
    /// was read must not be relied on.
    pub(crate) fn fill(&self, guard: Guard<'_>, key: &str, held: Held, stamp: Stamp) -> bool {
        let generation = self.owner.generation();
        let deadline = if *generation == stamp.generation { stamp.deadline } else { 0 };
        let entry = self.admissible(key, Entry { held, deadline });
        let added = bytes(key.len(), &entry);
        let mut evicted = Evicted::default();
        if guard.insert_with_lifecycle(entry, &mut evicted).is_err() {
            return false;
        }
        drop(generation);
        if self.settle(key, added, &evicted) {
            self.counters().fills.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Leaves a claimed place, and tells those who wait for it why.
    pub(crate) fn fail(&self, guard: Guard<'_>, key: &str, kind: Kind, error: StorageError) {
        // Void first, so that the error gets to them but not into the cache.
        self.forget(key);
        let held = Held::Fact(Fact::Failed(Box::new(Failure { kind, error })));
        let _ = guard.insert(Entry { held, deadline: 0 });
    }

    /// Holds what a write has stored, unless all was cleared since it began. The caller
    /// has forgotten the key since the write took effect, and keeps its stripe.
    pub(crate) fn insert(&self, key: &str, held: Held, stamp: Stamp) {
        if !self.owns(key) {
            return;
        }
        let entry = self.admissible(key, Entry { held, deadline: stamp.deadline });
        let added = bytes(key.len(), &entry);
        let mut evicted = Evicted::default();
        let generation = self.owner.generation();
        if *generation != stamp.generation {
            return;
        }
        let named = (&self.wanted(key) as &dyn Named).to_owned();
        self.entries(&named).insert_with_lifecycle(named, entry, &mut evicted);
        self.settle(key, added, &evicted);
    }

    /// Drops what is held of a key and voids the guards of its place.
    pub(crate) fn forget(&self, key: &str) {
        let wanted = self.wanted(key);
        if let Some((key, entry)) = self.entries(&wanted).remove(&wanted) {
            key.owner.counters.removed(bytes(key.len(), &entry));
        }
    }

    /// Whether a value is not kept because it is too large, as it was when the
    /// mark was made.
    pub(crate) fn is_marked(&self, key: &str, mark: u64) -> bool {
        let wanted = self.wanted(key);
        let there = self.entries(&wanted).peek(&wanted).map(|entry| entry.held);
        matches!(there, Some(Held::Fact(Fact::TooLarge { mark: there })) if there == mark)
    }

    /// Whether this could be kept.
    pub(crate) fn admits(&self, key: &str, held: Held) -> bool {
        let entry = Entry { held, deadline: 0 };
        self.budget.layout.weight(key.len(), &entry) <= self.budget.layout.largest
    }

    /// Drops everything. Nothing that was read or written before counts after it.
    pub(crate) fn clear(&self) {
        // What is on its way is of the old generation, and not brought in any more.
        // Taking out what is there alone would leave it, because that voids no guards.
        self.owner.next_generation();
        for segment in &self.segments {
            segment.retain(|key, entry| {
                let stays = !Arc::ptr_eq(&key.owner, &self.owner);
                if !stays {
                    self.counters().removed(bytes(key.len(), entry));
                }
                stays
            });
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        self.budget.bound(self.counters().read())
    }

    /// The entry, or in place of a value that is too large its mark.
    fn admissible(&self, key: &str, entry: Entry) -> Entry {
        if self.budget.layout.weight(key.len(), &entry) <= self.budget.layout.largest {
            return entry;
        }
        self.counters().refusals.fetch_add(1, Ordering::Relaxed);
        match entry.held {
            Held::Value(..) => {
                let mark = self.budget.next_mark.fetch_add(1, Ordering::Relaxed);
                Entry { held: Held::Fact(Fact::TooLarge { mark }), ..entry }
            }
            _ => entry,
        }
    }

    /// Counts what an insert has changed. `false` if the entry was not admitted,
    /// or took the place of another of its key.
    fn settle(&self, key: &str, added: u64, evicted: &Evicted) -> bool {
        self.counters().added(added);
        // It would come first, before those that had to make room.
        let own =
            evicted.first.iter().flatten().any(|(evicted, _)| self.wanted(key).equivalent(evicted));
        if own {
            self.counters().evictions.fetch_sub(1, Ordering::Relaxed);
        }
        !own
    }
}

impl Weighter<Key, Entry> for Layout {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        Layout::weight(self, key.len(), entry)
    }
}

/// Counts what gives way to an insert.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountEvicted;

/// What gave way to an insert. Mostly it is one or two entries, which are kept
/// here and freed when the shard is no longer locked.
#[derive(Debug, Default)]
pub(crate) struct Evicted {
    first: [Option<(Key, Entry)>; 2],
}

impl Lifecycle<Key, Entry> for CountEvicted {
    type RequestState = Evicted;

    fn on_evict(&self, evicted: &mut Evicted, key: Key, entry: Entry) {
        let counters = &key.owner.counters;
        counters.evictions.fetch_add(1, Ordering::Relaxed);
        counters.removed(bytes(key.len(), &entry));
        if let Some(free) = evicted.first.iter_mut().find(|first| first.is_none()) {
            *free = Some((key, entry));
        }
    }
}
