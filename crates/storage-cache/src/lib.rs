//! A coherent, bounded read cache in front of any
//! [`ComponentStorage`](storage_core::ComponentStorage).
//!
//! [`CachedStorage`] says what it is coherent with, what it keeps and what it
//! costs. Writes go through it to the storage below; it never holds anything
//! that is not there.

#![forbid(unsafe_code)]

mod cached;
mod clock;
mod config;
mod entry;
mod key;
mod owner;
mod shared;
mod stats;
mod stripes;
mod sync;
mod table;

pub use cached::CachedStorage;
pub use clock::{Clock, ManualClock};
pub use config::CacheConfig;
pub use shared::SharedCache;
pub use stats::CacheStats;
