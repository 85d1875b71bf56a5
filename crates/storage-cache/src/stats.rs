//! Statistics, counted at little cost to a hit.

use crate::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use crate::thread_counters::ThreadCounters;

/// What a [`CachedStorage`](crate::CachedStorage) has done, and what it holds now.
///
/// Not a snapshot: concurrent calls may change one number while another is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Keys read from the cache, values and absence alike.
    pub hits: u64,
    /// Keys read from the storage below, or by waiting for another such read.
    /// [`try_get`](storage_core::ComponentStorage::try_get) counts hits only: the
    /// `get` that follows counts the miss.
    pub misses: u64,
    /// Entries added by reads.
    pub fills: u64,
    /// Entries removed to make room.
    pub evictions: u64,
    /// Values read or written that were too large to cache.
    pub refusals: u64,
    /// Entries removed because another host changed their keys.
    pub invalidations: u64,
    /// How often all entries of a component were dropped because a change of another host
    /// was lost, or named no keys.
    pub drops: u64,
    /// How often all entries of a component were dropped because they could have been older
    /// than the maximum staleness: the store did not answer in time, or the component was
    /// not in use.
    pub lapses: u64,
    /// Bytes of cached keys and values, plus 48 for each entry. Excludes the table,
    /// which `max_size_bytes` includes.
    pub bytes: u64,
    /// Cached keys, cached absence included. Expired and dropped entries count until they
    /// are replaced or evicted.
    pub entries: u64,
}

impl std::iter::Sum for CacheStats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            hits: sum.hits + one.hits,
            misses: sum.misses + one.misses,
            fills: sum.fills + one.fills,
            evictions: sum.evictions + one.evictions,
            refusals: sum.refusals + one.refusals,
            invalidations: sum.invalidations + one.invalidations,
            drops: sum.drops + one.drops,
            lapses: sum.lapses + one.lapses,
            bytes: sum.bytes + one.bytes,
            entries: sum.entries + one.entries,
        })
    }
}

impl CacheStats {
    /// Caps the bytes and entries by the current sum of weights, which the counters may
    /// exceed while a change is in progress.
    pub(crate) fn capped(self, weight: u64, min_weight: u64) -> Self {
        let bytes = self.bytes.min(weight);
        let entries = self.entries.min(weight / min_weight.max(1));
        Self { bytes, entries, ..self }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    hits: ThreadCounters<1>,
    misses: AtomicU64,
    pub(crate) fills: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) invalidations: AtomicU64,
    pub(crate) drops: AtomicU64,
    pub(crate) lapses: AtomicU64,
    /// These two may be negative while a change is in progress.
    bytes: AtomicI64,
    entries: AtomicI64,
}

impl Counters {
    #[inline]
    pub(crate) fn hit(&self) {
        self.hits.slot().add(0, 1);
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.total(0)
    }

    pub(crate) fn missed(&self, keys: u64) {
        self.misses.fetch_add(keys, Ordering::Relaxed);
    }

    pub(crate) fn added(&self, bytes: u64) {
        self.bytes.fetch_add(bytes as i64, Ordering::Relaxed);
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn removed(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes as i64, Ordering::Relaxed);
        self.entries.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> CacheStats {
        let now = |number: &AtomicI64| u64::try_from(number.load(Ordering::Relaxed)).unwrap_or(0);
        CacheStats {
            hits: self.hits(),
            misses: self.misses.load(Ordering::Relaxed),
            fills: self.fills.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
            refusals: self.refusals.load(Ordering::Relaxed),
            invalidations: self.invalidations.load(Ordering::Relaxed),
            drops: self.drops.load(Ordering::Relaxed),
            lapses: self.lapses.load(Ordering::Relaxed),
            bytes: now(&self.bytes),
            entries: now(&self.entries),
        }
    }
}
