//! The entries: quick_cache, and the rules that keep what it holds true.
//!
//! - Reads bring in an entry only through the guard of the place that they
//!   claimed. A guard is void once its key was removed or inserted, so a read
//!   that a write overtook brings in nothing.
//! - What makes an entry untrue ends in [`Table::forget`], which voids guards.
//!   `retain`, `replace`, `remove_if` and an insert that is not admitted do not.
//! - A guard is no lock: after `forget` there can be two for one key, of which
//!   one is void.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::{Cache, EntryAction, EntryResult, GuardResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use storage_core::StorageError;

use crate::clock::{Moment, Timer};
use crate::config::{GHOSTS_PER_ENTRY, HOT_PART, Layout, bytes};
use crate::entry::{Entry, Failure, Held, Kind, Question, Recall, Stamp};
use crate::stats::{CacheStats, Counters};
use crate::stripes::Stripes;

type Entries = Cache<String, Entry, Layout, DefaultHashBuilder, CountEvicted>;

/// A claim on the place of a key. Dropped without a fill, it goes to one of
/// those who wait for it.
pub(crate) type Guard<'a> =
    PlaceholderGuard<'a, String, Entry, Layout, DefaultHashBuilder, CountEvicted>;

/// What a cache has once it is in use.
#[derive(Debug)]
pub(crate) struct Table {
    entries: Entries,
    layout: Layout,
    timer: Timer,
    generation: AtomicU32,
    next_mark: AtomicU64,
    pub(crate) stripes: Stripes,
    pub(crate) counters: Counters,
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
    /// `None` if there is nothing to build.
    pub(crate) fn new(layout: Layout, timer: Timer) -> Option<Self> {
        let options = OptionsBuilder::new()
            .weight_capacity(layout.room)
            .estimated_items_capacity(usize::try_from(layout.max_entries).unwrap_or(usize::MAX))
            .shards(usize::try_from(layout.shards).unwrap_or(1))
            .hot_allocation(HOT_PART)
            .ghost_allocation(GHOSTS_PER_ENTRY)
            .build()
            .ok()?;
        let hasher = DefaultHashBuilder::default();
        Some(Self {
            entries: Cache::with_options(options, layout, hasher, CountEvicted),
            layout,
            timer,
            generation: AtomicU32::new(0),
            next_mark: AtomicU64::new(0),
            stripes: Stripes::new(),
            counters: Counters::default(),
        })
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.timer.now()
    }

    /// What an entry gets whose storage is asked after this.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            deadline: self.timer.deadline(self.now()),
            generation: self.generation.load(Ordering::SeqCst),
        }
    }

    #[inline]
    fn counts(&self, stamp: Stamp, now: Moment) -> bool {
        now < stamp.deadline && stamp.generation == self.generation.load(Ordering::SeqCst)
    }

    /// The answer to a question that began at `now`, if it is at hand.
    #[inline]
    pub(crate) fn recall<Q: Question>(&self, key: &str, now: Moment) -> Option<Q::Answer> {
        self.answer::<Q>(self.entries.get(key)?, now)
    }

    /// The same, and waits for nobody, not even for a moment.
    #[inline]
    pub(crate) fn try_recall<Q: Question>(&self, key: &str, now: Moment) -> Option<Q::Answer> {
        self.answer::<Q>(self.entries.try_get(key).ok()??, now)
    }

    #[inline]
    fn answer<Q: Question>(&self, entry: Entry, now: Moment) -> Option<Q::Answer> {
        match Q::recall(entry.held) {
            Recall::Answer(answer) if self.counts(entry.stamp, now) => Some(answer),
            _ => None,
        }
    }

    /// Claims the place of a key, unless it answers a question that began at
    /// `began`. Of many readers one gets to fill it; an entry that does not
    /// count, or does not answer, makes way.
    pub(crate) fn claim<Q: Question>(&self, key: &str, began: Moment) -> Claim<'_, Q::Answer> {
        let inspect = |_: &String, entry: &mut Entry| {
            if !self.counts(entry.stamp, began) {
                return EntryAction::ReplaceWithGuard;
            }
            match Q::recall(entry.held.clone()) {
                Recall::Answer(answer) => EntryAction::Retain(Claim::Answer(answer)),
                Recall::PassBy { mark } => EntryAction::Retain(Claim::PassBy { mark }),
                Recall::Unknown => EntryAction::ReplaceWithGuard,
            }
        };
        match self.entries.entry(key, Some(Duration::ZERO), inspect) {
            EntryResult::Retained(known) => known,
            EntryResult::Vacant(guard) => Claim::Fill(guard),
            EntryResult::Replaced(guard, old) => {
                self.counters.bytes_changed(0, bytes(key, &old));
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
        match self.entries.get_value_or_guard(key, None) {
            GuardResult::Guard(guard) => Waited::Fill(guard),
            GuardResult::Value(Entry { held: Held::Failed(failure), .. }) => {
                Waited::Failed(failure)
            }
            GuardResult::Value(_) | GuardResult::Timeout => Waited::Done,
        }
    }

    /// Fills a claimed place. `false` if the guard is void: the key was written
    /// or forgotten since, and what was read must not be relied on.
    pub(crate) fn fill(&self, guard: Guard<'_>, key: &str, held: Held, stamp: Stamp) -> bool {
        let entry = self.admissible(key, Entry { held, stamp });
        let added = bytes(key, &entry);
        let mut evicted = Evicted::default();
        if guard.insert_with_lifecycle(entry, &mut evicted).is_err() {
            return false;
        }
        if self.settle(key, added, &evicted) {
            self.counters.fills.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Leaves a claimed place, and tells those who wait for it why.
    pub(crate) fn fail(&self, guard: Guard<'_>, key: &str, kind: Kind, error: StorageError) {
        // Void first, so that the error gets to them but not into the cache.
        self.forget(key);
        let held = Held::Failed(Box::new(Failure { kind, error }));
        let stamp = Stamp { deadline: 0, generation: 0 };
        let _ = guard.insert(Entry { held, stamp });
    }

    /// Holds what a write has stored. The caller has forgotten the key since the
    /// write took effect, and keeps its stripe.
    pub(crate) fn insert(&self, key: &str, held: Held, stamp: Stamp) {
        let entry = self.admissible(key, Entry { held, stamp });
        let added = bytes(key, &entry);
        let mut evicted = Evicted::default();
        self.entries.insert_with_lifecycle(key.to_owned(), entry, &mut evicted);
        self.settle(key, added, &evicted);
    }

    /// Drops what is held of a key and voids the guards of its place.
    pub(crate) fn forget(&self, key: &str) {
        if let Some((key, entry)) = self.entries.remove(key) {
            self.counters.bytes_changed(0, bytes(&key, &entry));
        }
    }

    /// Whether a value is not kept because it is too large, as it was when the
    /// mark was made.
    pub(crate) fn is_marked(&self, key: &str, mark: u64) -> bool {
        let there = self.entries.peek(key).map(|entry| entry.held);
        matches!(there, Some(Held::TooLarge { mark: there }) if there == mark)
    }

    /// Whether this could be kept.
    pub(crate) fn admits(&self, key: &str, held: Held) -> bool {
        let entry = Entry { held, stamp: Stamp { deadline: 0, generation: 0 } };
        self.layout.weight(key, &entry) <= self.layout.largest
    }

    /// Drops everything. Nothing that was read or written before counts after it.
    pub(crate) fn clear(&self) {
        // What is on its way carries the old generation. Draining alone would
        // leave it, because it voids no guards.
        self.generation.fetch_add(1, Ordering::SeqCst);
        for (key, entry) in self.entries.drain() {
            self.counters.bytes_changed(0, bytes(&key, &entry));
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        self.counters.read(self.entries.len() as u64, self.entries.weight())
    }

    /// The entry, or in place of a value that is too large its mark.
    fn admissible(&self, key: &str, entry: Entry) -> Entry {
        if self.layout.weight(key, &entry) <= self.layout.largest {
            return entry;
        }
        self.counters.refusals.fetch_add(1, Ordering::Relaxed);
        match entry.held {
            Held::Value(..) => {
                let mark = self.next_mark.fetch_add(1, Ordering::Relaxed);
                Entry { held: Held::TooLarge { mark }, ..entry }
            }
            _ => entry,
        }
    }

    /// Counts what an insert has changed. `false` if the entry was not admitted,
    /// or took the place of another of its key.
    fn settle(&self, key: &str, added: u64, evicted: &Evicted) -> bool {
        self.counters.bytes_changed(added, evicted.bytes);
        // It would come first, before those that had to make room.
        let own = evicted.first.iter().flatten().any(|(evicted, _)| evicted == key);
        self.counters.evictions.fetch_add(evicted.count - u64::from(own), Ordering::Relaxed);
        !own
    }
}

impl Weighter<String, Entry> for Layout {
    fn weight(&self, key: &String, entry: &Entry) -> u64 {
        Layout::weight(self, key, entry)
    }
}

/// Counts what gives way to an insert.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountEvicted;

/// What gave way to an insert.
#[derive(Debug, Default)]
pub(crate) struct Evicted {
    /// Mostly it is one or two. Kept here, they are freed when the shard is no
    /// longer locked.
    first: [Option<(String, Entry)>; 2],
    count: u64,
    bytes: u64,
}

impl Lifecycle<String, Entry> for CountEvicted {
    type RequestState = Evicted;

    fn on_evict(&self, evicted: &mut Evicted, key: String, entry: Entry) {
        evicted.count += 1;
        evicted.bytes += bytes(&key, &entry);
        if let Some(free) = evicted.first.iter_mut().find(|first| first.is_none()) {
            *free = Some((key, entry));
        }
    }
}
