//! Settings that change while the host runs, as calls see them.
//!
//! A change replaces the settings of all components in one step and increments a generation.
//! Each component has a copy of its own settings, for calls to read without a lock. A call that
//! finds the copy of an earlier generation updates it first.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use storage_cache::Clock;
use storage_core::{Budget, ComponentId, StorageError, StoreProperties};

use crate::grants::Grants;
use crate::host::{ComponentSettings, StorageHost};
use crate::limits::Limits;
#[cfg(feature = "metrics")]
use crate::metrics::{Activity, HostCounters};
use crate::rate::{Allowance, Throttle, set_limit};
use crate::settings::{self, Applied, HostSettings};

/// The settings of a host.
pub(crate) struct Live {
    /// Grows with each change; never [`CHANGING`].
    generation: AtomicU64,
    current: RwLock<Arc<Current>>,
    /// Held during a change, so that changes are ordered.
    applying: Mutex<()>,
    clock: Clock,
    /// The kind of the store.
    #[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "spans name it"))]
    kind: &'static str,
    #[cfg(feature = "metrics")]
    may_block: bool,
    #[cfg(feature = "metrics")]
    pub(crate) counters: Box<HostCounters>,
}

struct Current {
    generation: u64,
    /// Without grants.
    settings: HostSettings,
}

/// The generation of a copy that is being updated, or was not yet.
const CHANGING: u64 = 0;

impl Live {
    pub(crate) fn new(settings: HostSettings, clock: Clock, store: &StoreProperties) -> Self {
        Self {
            generation: AtomicU64::new(1),
            current: RwLock::new(Arc::new(Current { generation: 1, settings })),
            applying: Mutex::default(),
            clock,
            kind: store.kind,
            #[cfg(feature = "metrics")]
            may_block: store.may_block,
            #[cfg(feature = "metrics")]
            counters: Box::default(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether calls to the store may wait for I/O.
    #[cfg(feature = "metrics")]
    pub(crate) fn may_block(&self) -> bool {
        self.may_block
    }

    /// The settings of a component.
    pub(crate) fn of(&self, id: &ComponentId) -> ComponentSettings {
        self.current().settings.of(id).clone()
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn settings(&self, grants: &Grants) -> HostSettings {
        let _ordered = self.lock_applying();
        HostSettings { grants: grants.all(), ..self.current().settings.clone() }
    }

    fn lock_applying(&self) -> MutexGuard<'_, ()> {
        self.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, grants: &Grants, wanted: HostSettings) -> Applied {
        let _ordered = self.lock_applying();
        let current = self.current();
        let wanted_grants = wanted.grants.clone();
        grants.replace(&wanted_grants, |old_grants| {
            let old = HostSettings { grants: old_grants, ..current.settings.clone() };
            let (new, needs_restart) = settings::in_force(&old, wanted);
            let changed = settings::changes(&old, &new);
            let generation = current.generation.saturating_add(1);
            let settings = HostSettings { grants: BTreeMap::new(), ..new };
            let new = Arc::new(Current { generation, settings });
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            *current = new;
            // While it is locked, so that no one sees the new settings before the new generation.
            self.generation.store(generation, Ordering::Release);
            Applied { changed, needs_restart }
        })
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current();
        f.debug_struct("Live")
            .field("generation", &current.generation)
            .field("settings", &current.settings)
            .finish_non_exhaustive()
    }
}

impl StorageHost {
    /// Changes quotas, limits, rate limits and grants, for components that are in use too.
    ///
    /// All of it takes effect in one step: a call that begins after this returns sees all new
    /// settings, and a caller who has seen one new setting sees no old one afterwards. A call in
    /// progress keeps the quota that it began with, and may be checked against old or new limits.
    /// If two calls overlap, the settings of one of them apply as a whole.
    ///
    /// Grants that are not in `settings` are revoked, also those of
    /// [`grant`](Self::grant), and including for open handles. A component whose usage is above a
    /// lower quota keeps its data; it can delete and shrink. What it used of its rate before
    /// still counts.
    ///
    /// A running instance of a guest keeps the bound on the bytes of one call to the host that
    /// `guest::new_store` derived from its limits: a call above it ends the
    /// guest, also after limits were raised. Instances that start later have the new one.
    ///
    /// The cache, the maximum staleness and the configuration of a component cannot change; the
    /// result lists them in [`Applied::needs_restart`].
    ///
    /// Takes time for each component with settings of its own, and none for components in use.
    pub fn apply(&self, settings: HostSettings) -> Applied {
        self.live().apply(self.all_grants(), settings)
    }

    /// Returns the settings in force, and all grants.
    pub fn settings(&self) -> HostSettings {
        self.live().settings(self.all_grants())
    }
}

/// What a host keeps about a component whose chain is in use: a copy of its settings, what is
/// left of its rate, and its counters.
pub(crate) struct Account {
    id: ComponentId,
    live: Arc<Live>,
    /// The generation of the settings below. An update holds the lock of `throttle`.
    seen: AtomicU64,
    limits: LiveLimits,
    max_bytes: AtomicU64,
    max_keys: AtomicU64,
    has_rate: AtomicBool,
    throttle: Throttle,
    #[cfg(feature = "metrics")]
    pub(crate) activity: std::sync::OnceLock<Box<Activity>>,
}

impl Account {
    /// `allowance` is what an earlier chain left of the component's rate.
    pub(crate) fn new(
        id: ComponentId,
        live: &Arc<Live>,
        allowance: Option<Box<Allowance>>,
    ) -> Self {
        Self {
            id,
            live: Arc::clone(live),
            seen: AtomicU64::new(CHANGING),
            limits: LiveLimits::default(),
            max_bytes: AtomicU64::new(0),
            max_keys: AtomicU64::new(0),
            has_rate: AtomicBool::new(false),
            throttle: Throttle::resumed(allowance),
            #[cfg(feature = "metrics")]
            activity: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn id(&self) -> &ComponentId {
        &self.id
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Reads fields of one generation, the current one.
    #[inline]
    fn read<R>(&self, fields: impl Fn(&Self) -> R) -> R {
        loop {
            let seen = self.seen.load(Ordering::Acquire);
            if seen == self.live.generation.load(Ordering::Acquire) {
                let read = fields(self);
                // An update that has changed one of the fields has changed `seen` before.
                fence(Ordering::Acquire);
                if self.seen.load(Ordering::Relaxed) == seen {
                    return read;
                }
            } else {
                self.update();
            }
        }
    }

    #[cold]
    fn update(&self) {
        let mut throttle = self.throttle.lock();
        let current = self.live.current();
        if self.seen.load(Ordering::Relaxed) == current.generation {
            return;
        }
        let settings = current.settings.of(&self.id);
        self.seen.store(CHANGING, Ordering::Relaxed);
        fence(Ordering::Release);
        self.limits.store(&settings.limits);
        let quota = settings.quota.unwrap_or(Budget::UNLIMITED);
        self.max_bytes.store(quota.max_bytes, Ordering::Relaxed);
        self.max_keys.store(quota.max_keys, Ordering::Relaxed);
        self.has_rate.store(!settings.rate.is_unlimited(), Ordering::Relaxed);
        set_limit(&mut throttle, settings.rate, self.live.now());
        self.seen.store(current.generation, Ordering::Release);
    }

    pub(crate) fn limits(&self) -> Limits {
        self.read(|account| account.limits.load())
    }

    pub(crate) fn quota(&self) -> Option<Budget> {
        let quota = self.read(|account| Budget {
            max_bytes: account.max_bytes.load(Ordering::Relaxed),
            max_keys: account.max_keys.load(Ordering::Relaxed),
        });
        (quota != Budget::UNLIMITED).then_some(quota)
    }

    /// The throttle, if the component has a rate limit.
    #[inline]
    pub(crate) fn throttle(&self) -> Option<&Throttle> {
        // One field needs no second look.
        if self.seen.load(Ordering::Acquire) != self.live.generation.load(Ordering::Acquire) {
            self.update();
        }
        self.has_rate.load(Ordering::Relaxed).then_some(&self.throttle)
    }

    /// Takes operations and bytes of a throttle.
    ///
    /// # Errors
    /// As [`Throttle::admit`].
    pub(crate) fn admit(
        &self,
        throttle: &Throttle,
        operations: usize,
        bytes: usize,
    ) -> Result<(), StorageError> {
        throttle.admit(self.live.now(), operations, bytes)
    }

    /// Returns the error of a call that is made now.
    ///
    /// # Errors
    /// As [`Throttle::check`].
    #[cfg(feature = "async")]
    pub(crate) fn check_rate(&self) -> Result<(), StorageError> {
        self.throttle().map_or(Ok(()), |throttle| throttle.check(self.live.now()))
    }

    pub(crate) fn retry_after(&self) -> Duration {
        self.throttle().map_or(Duration::ZERO, |throttle| throttle.retry_after(self.live.now()))
    }

    /// What is left of the rate, unless a new account would have as much.
    pub(crate) fn take_allowance(&self) -> Option<Box<Allowance>> {
        let mut allowance = self.throttle.lock().take()?;
        (!allowance.is_full(crate::rate::nanos(self.live.now()))).then_some(allowance)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("id", &self.id).finish_non_exhaustive()
    }
}

/// [`Limits`] that can change.
#[derive(Default)]
struct LiveLimits {
    key_bytes: AtomicUsize,
    value_bytes: AtomicUsize,
    listing_keys: AtomicUsize,
    listing_bytes: AtomicUsize,
    batch_operations: AtomicUsize,
    batch_bytes: AtomicUsize,
    handles: AtomicUsize,
}

impl LiveLimits {
    fn load(&self) -> Limits {
        let load = |limit: &AtomicUsize| limit.load(Ordering::Relaxed);
        Limits {
            key_bytes: load(&self.key_bytes),
            value_bytes: load(&self.value_bytes),
            listing_keys: load(&self.listing_keys),
            listing_bytes: load(&self.listing_bytes),
            batch_operations: load(&self.batch_operations),
            batch_bytes: load(&self.batch_bytes),
            handles: load(&self.handles),
        }
    }

    fn store(&self, limits: &Limits) {
        let store = |limit: &AtomicUsize, number| limit.store(number, Ordering::Relaxed);
        store(&self.key_bytes, limits.key_bytes);
        store(&self.value_bytes, limits.value_bytes);
        store(&self.listing_keys, limits.listing_keys);
        store(&self.listing_bytes, limits.listing_bytes);
        store(&self.batch_operations, limits.batch_operations);
        store(&self.batch_bytes, limits.batch_bytes);
        store(&self.handles, limits.handles);
    }
}
