//! What is known in memory of the usage counters.
//!
//! A component has a counter in the database from its first budget on. Whether it has
//! one changes only under its exclusive component lock. So a write that shares the lock
//! knows whether it must store its change. The usage in memory includes the growth of
//! writes in progress, so that two of them cannot use the same room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use storage_core::{StorageError, Usage, UsageChange};

/// How many counters are kept before idle ones are dropped: about 4 MB.
const MAX_KNOWN: usize = 16_384;

/// After how many changes a counter is stored as one total, so that reading it stays
/// cheap.
const CHANGES_PER_TOTAL: u32 = 1024;

#[derive(Debug)]
pub(super) struct Counters {
    /// Whether any component may have a counter.
    any: AtomicBool,
    known: RwLock<HashMap<Box<str>, Arc<Counter>>>,
}

/// The counter of one component.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) component: Box<str>,
    state: Mutex<State>,
    /// Held while the counter is read or counted.
    preparing: Mutex<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not read yet.
    Unknown,
    /// The component has no counter.
    Absent,
    /// A count of a snapshot runs; the changes since then.
    Counting(UsageChange),
    /// The component has a counter.
    Present {
        /// The usage, with the growth of writes in progress; `None` if it must be read.
        usage: Option<Usage>,
        /// How many changes were stored since the last total.
        changes: u32,
    },
}

/// What a write must do for a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tracking {
    None,
    /// Record its change for the running count.
    Counting,
    /// Store its change in the same batch.
    Stored,
}

impl Counters {
    /// `any`: whether the database has a counter.
    pub(super) fn new(any: bool) -> Self {
        Self { any: AtomicBool::new(any), known: RwLock::default() }
    }

    /// Whether any component may have a counter. Under a component's lock, `false` is
    /// certain for that component.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn set_any(&self) {
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn of(&self, component: &str) -> Arc<Counter> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = known.get(component) {
            return Arc::clone(counter);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            // A counter in use has another reference.
            known.retain(|_, counter| Arc::strong_count(counter) > 1);
        }
        let create = || {
            Arc::new(Counter {
                component: component.into(),
                state: Mutex::new(State::Unknown),
                preparing: Mutex::default(),
            })
        };
        Arc::clone(known.entry(component.into()).or_insert_with(create))
    }
}

impl Counter {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_preparation(&self) -> MutexGuard<'_, ()> {
        self.preparing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a write must do. Does not change while the component lock is held.
    pub(super) fn tracking(&self) -> Option<Tracking> {
        match *self.state() {
            State::Unknown => None,
            State::Absent => Some(Tracking::None),
            State::Counting(_) => Some(Tracking::Counting),
            State::Present { .. } => Some(Tracking::Stored),
        }
    }

    /// Adds the growth of a write, if `allow` accepts its change. Returns `false`,
    /// without a call of `allow`, if the usage is not known.
    pub(super) fn reserve(
        &self,
        change: UsageChange,
        allow: impl FnOnce(Usage) -> Result<(), StorageError>,
    ) -> Result<bool, StorageError> {
        let mut state = self.state();
        let State::Present { usage: Some(usage), .. } = &mut *state else { return Ok(false) };
        allow(*usage)?;
        *usage = *usage + change.growth();
        Ok(true)
    }

    /// Undoes [`reserve`](Self::reserve) for a write that did not happen.
    pub(super) fn release(&self, change: UsageChange) {
        if let State::Present { usage: Some(usage), .. } = &mut *self.state() {
            *usage = *usage - change.growth();
        }
    }

    /// Records the change of a write that happened and that [`reserve`](Self::reserve)
    /// was called for. Returns whether a total should be stored.
    pub(super) fn record(&self, change: UsageChange) -> bool {
        match &mut *self.state() {
            State::Counting(since) => *since = *since + change,
            State::Present { usage, changes } => {
                *usage = usage.map(|usage| usage - change.shrinkage());
                *changes = changes.saturating_add(1);
                return changes.is_multiple_of(CHANGES_PER_TOTAL);
            }
            State::Unknown | State::Absent => {}
        }
        false
    }

    /// Drops a usage that may be wrong after an indeterminate write.
    pub(super) fn forget_usage(&self) {
        let mut state = self.state();
        *state = match *state {
            // The write does not change whether there is a counter.
            State::Present { .. } => State::Present { usage: None, changes: 0 },
            State::Absent => State::Absent,
            State::Counting(_) | State::Unknown => State::Unknown,
        };
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(*self.state(), State::Present { usage: Some(_), .. })
    }
}

#[cfg(test)]
mod tests {
    use storage_core::Budget;

    use super::*;

    #[test]
    fn growth_is_reserved_until_it_is_released_or_recorded() {
        let counter = Counters::new(true).of("app/notes/home/");
        let used = Usage { bytes: 100, keys: 5 };
        *counter.state() = State::Present { usage: Some(used), changes: 0 };
        let budget = Budget { max_bytes: 110, max_keys: 6 };
        let (none, one) = (Usage::default(), Usage { bytes: 10, keys: 1 });
        let key = UsageChange { added: one, removed: none };
        let reserve = || counter.reserve(key, |usage| key.apply(usage, Some(&budget)).map(drop));
        for _ in 0..3 {
            assert_eq!(reserve(), Ok(true));
            assert_eq!(reserve(), Err(StorageError::QuotaExceeded));
            counter.release(key);
        }
        assert_eq!(reserve(), Ok(true));
        counter.record(key);
        assert_eq!(reserve(), Err(StorageError::QuotaExceeded));
        // A delete frees room only after it happened.
        let delete = UsageChange { added: none, removed: one };
        assert_eq!(counter.reserve(delete, |_| Ok(())), Ok(true));
        assert_eq!(reserve(), Err(StorageError::QuotaExceeded));
        counter.record(delete);
        assert_eq!(reserve(), Ok(true));
    }
}
