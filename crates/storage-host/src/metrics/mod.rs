//! What a host has done, in numbers.

mod busiest;
mod counters;
mod latency;
mod prometheus;

use std::sync::{Mutex, PoisonError};

use storage_cache::{CacheStats, CoherenceStats};
use storage_core::{ComponentId, StoreProperties};

use crate::component_chain::ComponentChain;
use crate::host::StorageHost;
use crate::operation::{Operation, Outcome};
use busiest::Busiest;
use counters::Counts;
pub(crate) use counters::{Activity, HostCounters};
pub use latency::LatencyHistogram;
pub use prometheus::PROMETHEUS_CONTENT_TYPE;

/// What a host has done since it was created, and its state now ([`StorageHost::metrics`]).
///
/// [`to_prometheus`](Self::to_prometheus) writes it for Prometheus. `docs/metrics.md` of the
/// repository lists the metrics.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Metrics {
    /// The properties of the store.
    pub store: StoreProperties,
    /// Each operation, in the order of [`Operation::ALL`].
    pub operations: Vec<OperationMetrics>,
    /// How long reads took that were answered from memory: one of 1,024 of each thread is timed.
    pub memory_latency: LatencyHistogram,
    /// The bytes of values that components read, and of keys that they listed.
    pub read_bytes: u64,
    /// The bytes of keys and values that components wrote.
    pub written_bytes: u64,
    /// The caches of all components. No counter goes back.
    pub cache: CacheStats,
    /// How the store is polled for the writes of other hosts; `None` if there are none.
    pub coherence: Option<CoherenceStats>,
    /// Calls of asynchronous guests that may block.
    #[cfg(feature = "async")]
    pub offload: OffloadMetrics,
    /// The components that have a chain.
    pub components_in_use: u64,
    /// The busiest components, in the order of their ids
    /// ([`StorageHostBuilder::metrics_components`](crate::StorageHostBuilder::metrics_components)).
    pub components: Vec<ComponentMetrics>,
    /// All other components together.
    pub other: ComponentMetrics,
}

/// One operation of all components.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OperationMetrics {
    /// The operation.
    pub operation: Operation,
    /// How many calls ended how, in the order of [`Outcome::ALL`].
    pub outcomes: Vec<(Outcome, u64)>,
    /// The calls that were answered from memory.
    pub from_memory: u64,
    /// How long the others took, except those that were refused before they were made.
    pub latency: LatencyHistogram,
}

impl OperationMetrics {
    /// The number of calls with an outcome.
    pub fn calls(&self, outcome: Outcome) -> u64 {
        let found = self.outcomes.iter().find(|(other, _)| *other == outcome);
        found.map_or(0, |(_, calls)| *calls)
    }
}

/// The calls of one component, or of several.
///
/// Calls through a grant are calls of the component that makes them, not of the owner of the
/// keys. [`StorageHost::usage`] returns what a component stores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComponentMetrics {
    /// The component; `None` for the sum of several.
    pub component: Option<ComponentId>,
    /// All calls, also refused ones.
    pub operations: u64,
    /// Reads that were answered from memory.
    pub memory_hits: u64,
    /// Reads of one key (`get`, `exists`) that were not.
    pub memory_misses: u64,
    /// Calls over a limit of one call.
    pub over_limit: u64,
    /// Calls over the quota.
    pub over_quota: u64,
    /// Calls over the rate limit.
    pub over_rate: u64,
    /// Calls that failed because storage failed.
    pub errors: u64,
    /// The bytes of values that it read, and of keys that it listed.
    pub read_bytes: u64,
    /// The bytes of keys and values that it wrote.
    pub written_bytes: u64,
    /// How long calls took that were not answered from memory.
    pub latency: LatencyHistogram,
}

impl ComponentMetrics {
    fn new(component: Option<ComponentId>, counts: &Counts) -> Self {
        Self {
            component,
            operations: counts.get(counters::ALL),
            memory_hits: counts.get(counters::HITS),
            memory_misses: counts.get(counters::MISSES),
            over_limit: counts.get(counters::OVER_LIMIT),
            over_quota: counts.get(counters::OVER_QUOTA),
            over_rate: counts.get(counters::OVER_RATE),
            errors: counts.get(counters::ERRORS),
            read_bytes: counts.get(counters::READ_BYTES),
            written_bytes: counts.get(counters::WRITTEN_BYTES),
            latency: counts.latency(),
        }
    }

    /// All calls that were refused: over a limit, the quota or the rate.
    pub fn refused(&self) -> u64 {
        self.over_limit.saturating_add(self.over_quota).saturating_add(self.over_rate)
    }

    /// The part of the single reads that was answered from memory, from 0 to 1; `None` without
    /// reads.
    pub fn hit_rate(&self) -> Option<f64> {
        let reads = self.memory_hits.saturating_add(self.memory_misses);
        (reads > 0).then(|| self.memory_hits as f64 / reads as f64)
    }
}

/// The calls that need a permit of [`Offload`](crate::Offload).
#[cfg(feature = "async")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffloadMetrics {
    /// The calls in progress.
    pub running: u64,
    /// The most calls that may be in progress.
    pub max_running: u64,
    /// The calls that wait for a permit.
    pub waiting: u64,
    /// The calls that failed as overloaded.
    pub refused: u64,
}

/// What is remembered from one reading of the metrics to the next.
pub(crate) struct Readings {
    busiest: Mutex<Busiest>,
    /// The private caches of components that are not in use any more.
    retired: Mutex<CacheStats>,
    /// The last reading.
    cache: Mutex<CacheStats>,
}

/// How many components have series of their own, unless a host sets another number.
pub(crate) const DEFAULT_COMPONENTS: usize = 100;

impl Readings {
    pub(crate) fn new(places: usize) -> Self {
        let busiest = Mutex::new(Busiest::new(places));
        Self { busiest, retired: Mutex::default(), cache: Mutex::default() }
    }

    /// Keeps the counters of a cache whose component is not in use any more.
    pub(crate) fn retire_cache(&self, mut stats: CacheStats) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        // Its entries are gone.
        (stats.bytes, stats.entries) = (0, 0);
        *retired = [*retired, stats].into_iter().sum();
    }

    /// Keeps what a component has counted that is not in use any more.
    pub(crate) fn retire(&self, id: &ComponentId, counts: &Counts) {
        if !counts.is_zero() {
            self.busiest.lock().unwrap_or_else(PoisonError::into_inner).add(id, counts);
        }
    }

    /// The counters of all caches, of which `in_use` are those of components in use. A cache
    /// that is being dropped may be in neither number; no counter goes back because of this.
    fn cache(&self, in_use: CacheStats) -> CacheStats {
        let retired = *self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let now: CacheStats = [retired, in_use].into_iter().sum();
        let mut last = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = now;
        next.hits = now.hits.max(last.hits);
        next.misses = now.misses.max(last.misses);
        next.fills = now.fills.max(last.fills);
        next.evictions = now.evictions.max(last.evictions);
        next.refusals = now.refusals.max(last.refusals);
        next.invalidations = now.invalidations.max(last.invalidations);
        next.drops = now.drops.max(last.drops);
        next.lapses = now.lapses.max(last.lapses);
        *last = next;
        next
    }
}

impl StorageHost {
    /// Returns what the host has done since it was created.
    ///
    /// Counting costs a call nanoseconds, and a component that has made a call 2 KiB of memory
    /// while it is in use. Reading takes time for each component in use. Not a snapshot: calls in
    /// progress may be in one number and not in another.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use storage_core::conformance::ReferenceStorage;
    /// use storage_host::{ComponentStorage, Operation, Outcome, StorageHost};
    ///
    /// let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
    /// host.component(&"app/notes/home".parse()?).set("user:123", "Ada".into())?;
    /// let metrics = host.metrics();
    /// let set = metrics.operations.iter().find(|one| one.operation == Operation::Set);
    /// assert_eq!(set.map(|set| set.calls(Outcome::Ok)), Some(1));
    /// assert_eq!(metrics.components[0].written_bytes, 11);
    /// assert!(metrics.to_prometheus().contains("storage_written_bytes_total 11"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics(&self) -> Metrics {
        let readings = self.readings();
        // Dropping the last handle of a chain reads the counters of its component, so all chains
        // are dropped after the locks.
        let in_use: Vec<(_, Option<std::sync::Arc<ComponentChain>>)>;
        let (components, other, all) = {
            let mut busiest = readings.busiest.lock().unwrap_or_else(PoisonError::into_inner);
            in_use = self.in_use();
            let since = in_use.iter().map(|(account, _)| (account.id().clone(), account.report()));
            busiest.read(since.filter(|(_, counts)| !counts.is_zero()).collect());
            let metrics =
                |(id, counts): (&ComponentId, _)| ComponentMetrics::new(Some(id.clone()), counts);
            let components = busiest.shown().map(metrics).collect();
            (components, ComponentMetrics::new(None, busiest.other()), *busiest.all())
        };
        let caches = in_use.iter().filter_map(|(_, chain)| chain.as_ref()?.private_cache_stats());
        let cache = readings.cache(caches.chain(self.shared_cache_stats()).sum());
        let counters = &self.live().counters;
        let from_memory = |operation, outcome| match outcome {
            Outcome::Ok => all.memory_reads(operation, true),
            Outcome::NotFound => all.memory_reads(operation, false),
            _ => 0,
        };
        let calls = |operation, outcome| {
            counters.calls(operation, outcome) + from_memory(operation, outcome)
        };
        let operation = |operation| OperationMetrics {
            operation,
            outcomes: Outcome::ALL.map(|outcome| (outcome, calls(operation, outcome))).into(),
            from_memory: from_memory(operation, Outcome::Ok)
                + from_memory(operation, Outcome::NotFound),
            latency: counters.latency(operation),
        };
        Metrics {
            store: self.store().properties(),
            operations: Operation::ALL.map(operation).into(),
            memory_latency: counters.memory_latency(),
            read_bytes: all.get(counters::READ_BYTES),
            written_bytes: all.get(counters::WRITTEN_BYTES),
            cache,
            coherence: self.coherence_stats(),
            #[cfg(feature = "async")]
            offload: self.offloader().metrics(),
            components_in_use: in_use.len() as u64,
            components,
            other,
        }
    }
}
