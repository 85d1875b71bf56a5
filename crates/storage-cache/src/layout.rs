//! The sizes of a cache: table, shards, and limits of weights.

use crate::config::CacheConfig;
use crate::entry::{ENTRY_BYTES, Entry};
use crate::key::Key;

/// The table is sized for one entry per this many bytes of `max_size_bytes`. It never
/// shrinks, so its full size is subtracted from the room for entries. A table for more
/// entries would take more than a third of the memory.
const BYTES_PER_ENTRY: u64 = 1024;

/// The minimum size of a shard: four times the largest value that a host allows by
/// default, so that one such value does not evict everything else.
const BYTES_PER_SHARD: u64 = 4 << 20;

/// Below this, shards fill too unevenly.
const ENTRIES_PER_SHARD: u64 = 256;

const MAX_SHARDS: u64 = 64;

/// More memory than any machine has. Sums of weights below it do not overflow.
const MAX_BYTES: u64 = 1 << 56;

/// The part of a shard that hot entries may fill, and that one entry may fill.
pub(crate) const HOT_PART: f64 = 0.97;

/// How many evicted keys (ghosts) a shard remembers for each entry. With half as many,
/// the hit rate was two points lower (Zipf with exponent 0.9, room for a fifth of the
/// keys). A little below one, so that a power of two of entries and their ghosts fit into
/// the next power of two of slots.
const GHOSTS_PER_ENTRY: f64 = 0.99;

/// The sizes that follow from a [`CacheConfig`].
///
/// quick_cache limits only the sum of weights. The weight of an entry is its bytes,
/// but at least `min_weight`, which is so large that no more than `max_entries` fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) max_entries: u64,
    /// A power of two.
    pub(crate) shards: u64,
    /// The evicted keys that each shard remembers.
    ghosts: u64,
    /// The limit of the sum of weights, a multiple of `shards`. Excludes the tables at
    /// their full size and the memory of an empty cache.
    pub(crate) room: u64,
    pub(crate) min_weight: u64,
    /// Heavier entries are not admitted.
    pub(crate) max_weight: u64,
}

impl Layout {
    /// `None` if the cache is off.
    pub(crate) fn of(config: &CacheConfig) -> Option<Self> {
        let bytes = (config.max_size_bytes as u64).min(MAX_BYTES);
        let requested = config.max_entries as u64;
        let affordable = requested.min(bytes / BYTES_PER_ENTRY);
        if affordable == 0 || config.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return None;
        }
        let max_shards = (bytes / BYTES_PER_SHARD).min(affordable / ENTRIES_PER_SHARD);
        let shards = 1 << max_shards.clamp(1, MAX_SHARDS).ilog2();
        let per_shard = affordable.div_ceil(shards);
        let ghosts = (per_shard as f64 * GHOSTS_PER_ENTRY) as u64;
        let max_entries = requested.min(shards * entries_that_fit(per_shard, ghosts));
        let fixed = empty_bytes(shards).min(bytes / 16)
            + shards * table_bytes(max_entries.div_ceil(shards), ghosts);
        let shard_room = bytes.saturating_sub(fixed) / shards;
        let room = shard_room * shards;
        Some(Self {
            max_entries,
            shards,
            ghosts,
            room,
            // The smallest weight with which max_entries + 1 entries exceed the room.
            min_weight: room / (max_entries + 1) + 1,
            // As quick_cache computes it.
            max_weight: (shard_room as f64 * HOT_PART) as u64,
        })
    }

    /// The ghosts as a fraction of the entries, for quick_cache.
    pub(crate) fn ghost_allocation(&self) -> f64 {
        self.ghosts as f64 / self.max_entries.div_ceil(self.shards) as f64
    }

    pub(crate) fn weight(&self, key_len: usize, entry: &Entry) -> u64 {
        bytes(key_len, entry).max(self.min_weight)
    }
}

/// The bytes of an entry outside of the table.
pub(crate) fn bytes(key_len: usize, entry: &Entry) -> u64 {
    (key_len + entry.cached.value_len()) as u64 + ENTRY_BYTES
}

/// The bytes of an empty cache: counters and key locks, and in each shard eight locks
/// of two cache lines each.
fn empty_bytes(shards: u64) -> u64 {
    const OWN: u64 = 3 << 10;
    const LOCKS: u64 = 1 << 10;
    OWN + shards * LOCKS
}

/// The bytes of a shard's table at its full size.
fn table_bytes(entries: u64, ghosts: u64) -> u64 {
    const SLOT_BYTES: u64 = (size_of::<Key>() + size_of::<Entry>() + 24) as u64;
    const INDEX_BYTES: u64 = 5;
    let (slots, buckets) = table_size(entries + ghosts + 1);
    slots * SLOT_BYTES + buckets * INDEX_BYTES
}

/// The slots and index buckets of a table with `used` slots in use. Slots are a vector,
/// which doubles. The index, 4 bytes of position and one of hash per bucket, doubles
/// when it is 7/8 full.
fn table_size(used: u64) -> (u64, u64) {
    (used.next_power_of_two().max(4), (used * 8 / 7 + 1).next_power_of_two())
}

/// The maximum number of entries that fit into a table created for `entries`.
fn entries_that_fit(entries: u64, ghosts: u64) -> u64 {
    let (slots, buckets) = table_size(entries + ghosts + 1);
    let usable = slots.min((buckets - 1) * 7 / 8);
    entries.max(usable.saturating_sub(ghosts + 1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn config(max_entries: usize, max_size_bytes: usize) -> CacheConfig {
        CacheConfig { max_entries, ttl: None, max_size_bytes }
    }

    #[test]
    fn without_entries_bytes_or_ttl_the_cache_is_off() {
        let no_ttl = CacheConfig { ttl: Some(Duration::ZERO), ..config(10, 1 << 20) };
        for config in [config(0, 1 << 20), config(10, 1023), no_ttl] {
            assert_eq!(Layout::of(&config), None, "{config:?}");
        }
        assert!(Layout::of(&config(1, 1024)).is_some());
    }

    #[test]
    fn shards_are_large_enough_for_large_values() {
        let layout = Layout::of(&config(1 << 20, 64 << 20)).unwrap();
        assert_eq!(layout.shards, 16);
        assert!(layout.max_weight > 2 << 20, "{layout:?}");
        for config in [config(300, 64 << 20), config(1 << 20, 7 << 20)] {
            assert_eq!(Layout::of(&config).unwrap().shards, 1);
        }
    }

    proptest! {
        #[test]
        fn the_weights_keep_both_limits(
            max_entries in prop_oneof![1_usize..300, 1_usize..10_000_000, Just(usize::MAX)],
            max_size_bytes in prop_oneof![1024_usize..100_000, 1024_usize..1 << 33, Just(usize::MAX)],
        ) {
            let layout = Layout::of(&config(max_entries, max_size_bytes)).unwrap();
            prop_assert!(layout.shards.is_power_of_two());
            prop_assert_eq!(layout.room % layout.shards, 0);
            prop_assert!(layout.max_entries <= max_entries as u64);
            // No more entries than allowed, and no fewer but for rounding.
            let fit = layout.room / layout.shards / layout.min_weight * layout.shards;
            prop_assert!(fit <= layout.max_entries);
            prop_assert!(fit + layout.shards + layout.max_entries / 256 > layout.max_entries);
            prop_assert!(layout.min_weight <= layout.max_weight);
            // Entries and tables together stay within the bytes, and use at least half.
            let entries = layout.max_entries.div_ceil(layout.shards);
            let table = table_bytes(entries, layout.ghosts);
            prop_assert!(layout.room + table * layout.shards <= max_size_bytes as u64);
            prop_assert!(layout.room >= max_size_bytes.min(MAX_BYTES as usize) as u64 / 2);
            // Where bytes are the limit, the table is full.
            let is_full = table_bytes(entries + 2, layout.ghosts) > table;
            prop_assert!(is_full || layout.max_entries == max_entries as u64);
            // quick_cache makes as many ghosts as were planned.
            let ghosts = (entries as f64 * layout.ghost_allocation()) as u64;
            prop_assert!((0.0..=1.0).contains(&layout.ghost_allocation()));
            prop_assert!(ghosts <= layout.ghosts && layout.ghosts <= ghosts + 1);
        }
    }
}
