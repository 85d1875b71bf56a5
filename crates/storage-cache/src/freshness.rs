//! How long the entries of a scope may be used, and what is known of the writes of other
//! hosts to its component.
//!
//! One rule keeps a scope coherent: **every usable entry was current at `current_at` or
//! later.** So an entry is no older than the time that has passed since then, which must
//! stay below the maximum staleness.
//!
//! - A scope starts, and starts again after it dropped its entries, with no entry and
//!   `current_at` now. A call that began before adds nothing.
//! - `known` is a revision of the component. Every change up to it was applied: the entries
//!   of its keys were removed, and reads and writes in progress were invalidated. It grows
//!   only by a change whose predecessor it is.
//! - If a poll finds a revision up to `known`, the entries were current when the poll
//!   began, so `current_at` becomes that time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::PoisonError;
use std::time::Duration;

use storage_core::{Change, Revision};

use crate::clock::{Moment, Timer, Times, nanos};
use crate::entry::Validity;
use crate::key_locks::LOCKS;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{RwLock, RwLockReadGuard};

/// How many changes may wait for their predecessors. Beyond that the oldest is given up, and
/// a poll will find the gap.
const MAX_WAITING: usize = 256;

pub(crate) struct Freshness {
    /// Entries may be used before this moment; then both clocks must be compared again.
    usable_until: AtomicU64,
    /// Entries with an earlier deadline were dropped.
    min_deadline: AtomicU64,
    /// Inserts hold the read lock. Whatever invalidates calls in progress takes the write
    /// lock.
    state: RwLock<State>,
}

pub(crate) struct State {
    epoch: u64,
    /// `None` if no other host writes to the storage below.
    followed: Option<Box<Followed>>,
}

struct Followed {
    /// In nanoseconds.
    max_staleness: u64,
    /// `None` before the first call.
    current_at: Option<Times>,
    /// The last revision whose change was applied; the inner `Option` is `None` for a
    /// component that was never written, the outer one before the first poll.
    known: Option<Option<Revision>>,
    /// Changes that arrived before their predecessor, by the predecessor's revision.
    waiting: BTreeMap<Option<Revision>, Revision>,
    /// A revision that a poll found before its change arrived, and when the poll began.
    awaited: Option<(Revision, Times)>,
    /// The number of events: announced changes, and reads that filled the cache.
    events: AtomicU64,
    /// The events that concern the keys of each key lock.
    of_key_lock: [Events; LOCKS],
}

/// Numbers of events.
#[derive(Default)]
struct Events {
    /// A write that began before this event must not cache what it wrote.
    blocking: AtomicU64,
    /// The last change by this host.
    last_own: u64,
}

/// What was known when a poll began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PollStart {
    times: Times,
    known: Option<Option<Revision>>,
}

/// What a poll has found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Polled {
    /// The entries were current when it began.
    Current,
    /// A change has not arrived yet.
    Behind,
    /// A change was lost, or the store lost one: the entries were dropped.
    Dropped,
    /// The first poll: what was cached before was dropped.
    First,
}

impl Freshness {
    /// `max_staleness` is `None` if no other host writes to the storage below.
    pub(crate) fn new(max_staleness: Option<Duration>) -> Self {
        let followed = max_staleness.map(|time| Box::new(Followed::new(nanos(time))));
        // The first call starts it.
        let usable_until = if followed.is_some() { 0 } else { Moment::MAX };
        Self {
            usable_until: AtomicU64::new(usable_until),
            min_deadline: AtomicU64::new(0),
            state: RwLock::new(State { epoch: 0, followed }),
        }
    }

    /// When entries may no longer be used without [`renew`](Self::renew). Load it before the
    /// entry: an entry that is found afterwards is no older than this moment allows.
    #[inline]
    pub(crate) fn usable_until(&self) -> Moment {
        self.usable_until.load(Ordering::Acquire)
    }

    /// The least deadline of an entry that was not dropped. Load it after
    /// [`usable_until`](Self::usable_until).
    #[inline]
    pub(crate) fn min_deadline(&self) -> Moment {
        self.min_deadline.load(Ordering::Acquire)
    }

    /// Compares the clocks, and extends the use of the entries by a tick. Returns `false` if
    /// they are too old.
    pub(crate) fn renew(&self, timer: &Timer) -> bool {
        let state = self.read();
        let Some(followed) = &state.followed else { return true };
        let times = timer.times();
        let Some(left) = followed.left(times, timer) else { return false };
        // The read lock is held: the entries are not dropped meanwhile.
        let until = times.now.saturating_add(left.min(timer.lease()));
        self.usable_until.store(until, Ordering::Release);
        true
    }

    /// Drops the entries if they are too old, and returns whether there may have been any.
    /// `None` if they are not too old.
    pub(crate) fn restart_if_lapsed(&self, timer: &Timer) -> Option<bool> {
        let mut state = self.write();
        let followed = state.followed.as_ref()?;
        if followed.left(timer.times(), timer).is_some() {
            return None;
        }
        let had_entries = followed.current_at.is_some();
        self.restart(&mut state, timer);
        Some(had_entries)
    }

    /// Drops all entries without a lookup, and rejects those of calls in progress.
    pub(crate) fn drop_all(&self, timer: &Timer) {
        self.restart(&mut self.write(), timer);
    }

    fn restart(&self, state: &mut State, timer: &Timer) {
        let Some(followed) = &mut state.followed else { return };
        let times = timer.times();
        followed.current_at = Some(times);
        followed.awaited = None;
        // Every entry so far, and that of every call in progress, has a smaller deadline: the
        // call began earlier, or at the same reading of the clock with the previous minimum.
        let minimum = timer.deadline(times.now).max(self.min_deadline()).saturating_add(1);
        self.min_deadline.store(minimum, Ordering::Release);
        // After the minimum, so that no old entry is used until then.
        let until = times.now.saturating_add(timer.lease().min(followed.max_staleness));
        self.usable_until.store(until, Ordering::Release);
    }

    /// The validity of the result of a call that starts now.
    pub(crate) fn validity(&self, timer: &Timer) -> Validity {
        let state = self.read();
        let deadline = timer.deadline(timer.now()).max(self.min_deadline());
        let events =
            state.followed.as_ref().map_or(0, |followed| followed.events.load(Ordering::SeqCst));
        Validity { deadline, epoch: state.epoch, events }
    }

    /// Locks out whatever invalidates calls in progress.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> impl std::ops::DerefMut<Target = State> + '_ {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn start_epoch(&self) {
        self.write().epoch += 1;
    }

    /// Announces a change of keys with these key locks. The caller then removes their
    /// entries, and then calls [`apply`](Self::apply).
    ///
    /// A write in progress of one of the keys must not cache its value afterwards, unless the
    /// change is its own: it may be the older one. As the write holds the key lock, a
    /// second change of this host was made without the cache.
    pub(crate) fn announce(&self, is_own: bool, key_locks: impl Iterator<Item = usize>) {
        let mut state = self.write();
        let Some(followed) = &mut state.followed else { return };
        let change = followed.next_event();
        for lock in key_locks {
            let Some(events) = followed.of_key_lock.get_mut(lock) else { continue };
            if !is_own {
                events.block(change);
            } else if events.last_own != change {
                events.block(events.last_own);
                events.last_own = change;
            }
        }
    }

    /// Notes that a change was applied.
    pub(crate) fn apply(&self, change: &Change) {
        let mut state = self.write();
        let Some(followed) = &mut state.followed else { return };
        followed.waiting.insert(change.previous, change.revision);
        followed.advance();
        if followed.waiting.len() > MAX_WAITING {
            followed.waiting.pop_first();
        }
    }

    /// What is known as a poll begins.
    pub(crate) fn begin_poll(&self, timer: &Timer) -> PollStart {
        let state = self.read();
        let known = state.followed.as_ref().and_then(|followed| followed.known);
        PollStart { times: timer.times(), known }
    }

    /// Handles the revision that a poll found.
    pub(crate) fn end_poll(
        &self,
        start: PollStart,
        found: Option<Revision>,
        timer: &Timer,
    ) -> Polled {
        let mut state = self.write();
        let Some(followed) = &mut state.followed else { return Polled::Current };
        // Only a store that has lost commits, as after a failover, returns less than was
        // known before.
        let went_back = start.known.is_some_and(|known| found < known);
        let outcome = match (followed.known, found) {
            (Some(known), _) if found <= known && !went_back => {
                followed.confirm(start.times);
                return Polled::Current;
            }
            // The change may be on its way: it has time until the next poll.
            (Some(_), Some(revision)) if followed.awaited.is_none() && !went_back => {
                followed.awaited = Some((revision, start.times));
                return Polled::Behind;
            }
            (Some(_), _) => Polled::Dropped,
            (None, _) => Polled::First,
        };
        followed.known = Some(found);
        self.restart(&mut state, timer);
        if let Some(followed) = &mut state.followed {
            followed.advance();
        }
        outcome
    }

    /// The maximum staleness in nanoseconds.
    pub(crate) fn max_staleness(&self) -> u64 {
        self.read().followed.as_ref().map_or(u64::MAX, |followed| followed.max_staleness)
    }
}

impl State {
    /// Whether other hosts write to the storage below.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed.is_some()
    }

    /// Whether the result of a read that began with this validity may be cached.
    pub(crate) fn accepts_fill(&self, validity: Validity) -> bool {
        self.epoch == validity.epoch
    }

    /// Notes that a read is about to fill the cache. It may have seen a value that replaced
    /// the one of a write in progress, and later reads must not see an older one.
    pub(crate) fn begin_fill(&self, key_lock: usize) {
        let Some(followed) = &self.followed else { return };
        if let Some(events) = followed.of_key_lock.get(key_lock) {
            events.block(followed.next_event());
        }
    }

    /// Whether the result of a write that began with this validity may be cached.
    pub(crate) fn accepts_write(&self, validity: Validity, key_lock: usize) -> bool {
        let is_latest = |followed: &Followed| {
            let events = followed.of_key_lock.get(key_lock);
            events.is_none_or(|events| events.blocking.load(Ordering::SeqCst) <= validity.events)
        };
        self.epoch == validity.epoch && self.followed.as_deref().is_none_or(is_latest)
    }
}

impl Followed {
    fn new(max_staleness: u64) -> Self {
        Self {
            max_staleness,
            current_at: None,
            known: None,
            waiting: BTreeMap::new(),
            awaited: None,
            events: AtomicU64::new(0),
            of_key_lock: std::array::from_fn(|_| Events::default()),
        }
    }

    fn next_event(&self) -> u64 {
        self.events.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How long the entries may still be used, in nanoseconds; `None` if they are too old.
    fn left(&self, times: Times, timer: &Timer) -> Option<u64> {
        let passed = timer.passed(self.current_at?, times);
        self.max_staleness.checked_sub(passed).filter(|left| *left > 0)
    }

    /// The entries were current at this time.
    fn confirm(&mut self, times: Times) {
        self.awaited = None;
        if self.current_at.is_some_and(|current_at| current_at.now <= times.now) {
            self.current_at = Some(times);
        }
    }

    /// Follows the chain of changes as far as it has no gap.
    fn advance(&mut self) {
        let Some(mut known) = self.known else { return };
        while let Some(next) = self.waiting.remove(&known).filter(|next| Some(*next) > known) {
            known = Some(next);
        }
        self.known = Some(known);
        self.waiting.retain(|previous, _| *previous > known);
        if let Some((revision, times)) = self.awaited
            && known >= Some(revision)
        {
            self.confirm(times);
        }
    }
}

impl Events {
    fn block(&self, event: u64) {
        self.blocking.fetch_max(event, Ordering::SeqCst);
    }
}

impl fmt::Debug for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Freshness")
            .field("usable_until", &self.usable_until)
            .field("min_deadline", &self.min_deadline)
            .finish_non_exhaustive()
    }
}
