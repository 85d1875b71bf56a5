//! A coherent, bounded read cache in front of any
//! [`ComponentStorage`](storage_core::ComponentStorage).
//!
//! Use [`CachedStorage`] for one component, and [`SharedCache`] for all components
//! of a host. Both write through to the storage below at once.

#![forbid(unsafe_code)]

mod cached;
mod clock;
mod coherence;
mod config;
mod entry;
mod freshness;
mod key;
mod key_locks;
mod layout;
mod pool;
mod read;
mod scope;
mod shared;
mod stats;
mod sync;
mod table;
mod thread_counters;

pub use cached::CachedStorage;
pub use clock::{Clock, ManualClock};
pub use coherence::{Coherence, CoherenceStats, DEFAULT_MAX_STALENESS};
pub use config::CacheConfig;
pub use shared::SharedCache;
pub use stats::CacheStats;
pub use thread_counters::{CounterSlot, ThreadCounters};
