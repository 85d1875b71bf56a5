//! What the user asks of a cache, and what follows from it.

use std::time::Duration;

use crate::entry::{ENTRY_BYTES, Entry};
use crate::key::Key;

/// How much a [`CachedStorage`](crate::CachedStorage) may keep, and for how
/// long.
///
/// ```
/// use std::time::Duration;
/// use storage_cache::CacheConfig;
///
/// let config = CacheConfig {
///     max_entries: 1_000,
///     ttl: Some(Duration::from_secs(10)),
///     max_size_bytes: 4 << 20,
/// };
/// assert_ne!(config, CacheConfig::default());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// The most keys that are kept, those known to be absent included; 0 for no
    /// caching. Where that is more than one for each KiB of `max_size_bytes`, as many
    /// are kept as the table for these has room for: up to two and a half for each.
    pub max_entries: usize,
    /// How long an entry counts, from before it was read or written; `None` for
    /// as long as it is kept, and zero for no caching. This is how long a write
    /// that went around the cache can stay unseen: never longer, but up to a tick
    /// of the system's coarse clock (4 ms, say) less.
    pub ttl: Option<Duration>,
    /// The most bytes that are kept: keys, values, and what the cache itself
    /// needs for them. Less than 1 KiB means no caching. A value that fills more
    /// than 0.97 of what entries may take, or of a shard where there are several
    /// ([`CachedStorage`](crate::CachedStorage) says when), is not kept.
    pub max_size_bytes: usize,
}

impl Default for CacheConfig {
    /// 10,000 entries, 60 seconds, 16 MiB.
    fn default() -> Self {
        Self { max_entries: 10_000, ttl: Some(Duration::from_secs(60)), max_size_bytes: 16 << 20 }
    }
}

impl CacheConfig {
    /// What each of so many parts gets.
    pub(crate) fn part(&self, parts: usize) -> Self {
        Self {
            max_entries: self.max_entries / parts.max(1),
            ttl: self.ttl,
            max_size_bytes: self.max_size_bytes / parts.max(1),
        }
    }
}

/// The bytes of `max_size_bytes` for each entry that the table is made for. It never
/// shrinks, so all of it is taken off the room beforehand; for more entries it would
/// take more than a third.
const BYTES_PER_ENTRY: u64 = 1024;

/// The smallest share of `max_size_bytes` that a shard gets: four times the
/// largest value that a host lets through by default, so that one such value
/// does not push everything else out.
const BYTES_PER_SHARD: u64 = 4 << 20;

/// Below this, shards fill too unevenly.
const ENTRIES_PER_SHARD: u64 = 256;

const MAX_SHARDS: u64 = 64;

/// More memory than there is; weights add up without overflow below it.
const MAX_BUDGET: u64 = 1 << 56;

/// The part of a shard that one entry may fill, and that the entries which
/// proved themselves may fill together.
pub(crate) const HOT_PART: f64 = 0.97;

/// For each entry that a shard is made for, how many evicted ones it remembers. With
/// half of it, what is used seldom but again and again is lost to scans: two points of
/// the hit rate of a Zipf distribution with exponent 0.9 and room for a fifth of the
/// keys. A little below one, so that a power of two of entries fits with them into the
/// next one, to which their vector doubles.
const GHOSTS_PER_ENTRY: f64 = 0.99;

/// How a cache of a given size is built.
///
/// quick_cache knows one limit, the sum of weights. Here a weight is the bytes
/// of an entry, but never less than `floor`, which is so large that more than
/// `max_entries` do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The most entries.
    pub(crate) max_entries: u64,
    /// A power of two.
    pub(crate) shards: u64,
    /// The evicted entries that each shard remembers.
    ghosts: u64,
    /// The sum of all weights, a multiple of `shards`. What the table can grow to is
    /// not part of it, nor what the cache takes without entries.
    pub(crate) room: u64,
    /// The least weight.
    pub(crate) floor: u64,
    /// The largest weight that is admitted.
    pub(crate) largest: u64,
}

impl Layout {
    /// `None` if nothing shall be kept.
    pub(crate) fn of(config: &CacheConfig) -> Option<Self> {
        let budget = (config.max_size_bytes as u64).min(MAX_BUDGET);
        let asked = config.max_entries as u64;
        let affordable = asked.min(budget / BYTES_PER_ENTRY);
        if affordable == 0 || config.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return None;
        }
        let most = (budget / BYTES_PER_SHARD).min(affordable / ENTRIES_PER_SHARD);
        let shards = 1 << most.clamp(1, MAX_SHARDS).ilog2();
        let per_shard = affordable.div_ceil(shards);
        let ghosts = (per_shard as f64 * GHOSTS_PER_ENTRY) as u64;
        let max_entries = asked.min(shards * in_the_same_table(per_shard, ghosts));
        let paid_first = bytes_in_use(shards).min(budget / 16)
            + shards * table_bytes(max_entries.div_ceil(shards), ghosts);
        let shard_room = budget.saturating_sub(paid_first) / shards;
        let room = shard_room * shards;
        Some(Self {
            max_entries,
            shards,
            ghosts,
            room,
            // The smallest of which one more than max_entries exceeds the room.
            floor: room / (max_entries + 1) + 1,
            // As quick_cache computes it.
            largest: (shard_room as f64 * HOT_PART) as u64,
        })
    }

    /// The ghosts as a part of the entries, as quick_cache wants to be told.
    pub(crate) fn ghost_allocation(&self) -> f64 {
        self.ghosts as f64 / self.max_entries.div_ceil(self.shards) as f64
    }

    /// What an entry takes of the room.
    pub(crate) fn weight(&self, key_len: usize, entry: &Entry) -> u64 {
        bytes(key_len, entry).max(self.floor)
    }
}

/// The bytes of an entry outside the table.
pub(crate) fn bytes(key_len: usize, entry: &Entry) -> u64 {
    (key_len + entry.held.value_len()) as u64 + ENTRY_BYTES
}

/// What a cache takes that keeps nothing yet: counters and stripes, and for each shard
/// eight locks of two cache lines each.
fn bytes_in_use(shards: u64) -> u64 {
    const OWN: u64 = 3 << 10;
    const LOCKS: u64 = 1 << 10;
    OWN + shards * LOCKS
}

/// What a shard's table can grow to.
fn table_bytes(entries: u64, ghosts: u64) -> u64 {
    const SLOT_BYTES: u64 = (size_of::<Key>() + size_of::<Entry>() + 24) as u64;
    const INDEX_BYTES: u64 = 5;
    let (slots, buckets) = table_size(entries + ghosts + 1);
    slots * SLOT_BYTES + buckets * INDEX_BYTES
}

/// A vector of slots, which doubles, and an index of 4-byte positions with a byte of
/// hash each, which doubles too and is filled to 7/8 at most.
fn table_size(used: u64) -> (u64, u64) {
    (used.next_power_of_two().max(4), (used * 8 / 7 + 1).next_power_of_two())
}

/// The most entries for which a shard's table grows no further than for these.
fn in_the_same_table(entries: u64, ghosts: u64) -> u64 {
    let (slots, buckets) = table_size(entries + ghosts + 1);
    let usable = slots.min((buckets - 1) * 7 / 8);
    entries.max(usable.saturating_sub(ghosts + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(max_entries: usize, max_size_bytes: usize) -> CacheConfig {
        CacheConfig { max_entries, ttl: None, max_size_bytes }
    }

    #[test]
    fn nothing_to_keep_is_no_cache() {
        assert_eq!(Layout::of(&config(0, 1 << 20)), None);
        assert_eq!(Layout::of(&config(10, 0)), None);
        assert_eq!(Layout::of(&config(10, 1023)), None);
        let expired_at_once = CacheConfig { ttl: Some(Duration::ZERO), ..config(10, 1 << 20) };
        assert_eq!(Layout::of(&expired_at_once), None);
        assert!(Layout::of(&config(1, 1024)).is_some());
        assert!(Layout::of(&CacheConfig::default()).is_some());
    }

    #[test]
    fn a_shard_holds_large_values() {
        let layout = Layout::of(&config(1 << 20, 64 << 20)).unwrap();
        assert_eq!(layout.shards, 16);
        assert!(layout.largest > 2 << 20, "{layout:?}");
        // Few entries, or little room: not divided at all.
        assert_eq!(Layout::of(&config(300, 64 << 20)).unwrap().shards, 1);
        assert_eq!(Layout::of(&config(1 << 20, 7 << 20)).unwrap().shards, 1);
    }

    proptest! {
        /// Not one byte more, and one entry more would take more.
        #[test]
        fn a_table_is_used_to_its_end(
            entries in prop_oneof![1_u64..5000, 1_u64..1 << 40],
            ghosts in 0.0..1.0,
        ) {
            let ghosts = (entries as f64 * ghosts) as u64;
            let most = in_the_same_table(entries, ghosts);
            prop_assert!(most >= entries);
            prop_assert_eq!(table_bytes(most, ghosts), table_bytes(entries, ghosts));
            prop_assert!(table_bytes(most + 2, ghosts) > table_bytes(entries, ghosts), "{most}");
        }

        #[test]
        fn the_bounds_follow_from_the_weights(
            max_entries in prop_oneof![1_usize..300, 1_usize..10_000_000, Just(usize::MAX)],
            max_size_bytes in prop_oneof![1024_usize..100_000, 1024_usize..1 << 33, Just(usize::MAX)],
        ) {
            let layout = Layout::of(&config(max_entries, max_size_bytes)).unwrap();
            let affordable = max_entries.min(max_size_bytes / 1024) as u64;
            prop_assert!(layout.max_entries >= affordable.min(MAX_BUDGET / 1024));
            let shard_room = layout.room / layout.shards;
            let per_shard = shard_room / layout.floor;
            prop_assert!(layout.shards.is_power_of_two());
            prop_assert_eq!(layout.room % layout.shards, 0);
            // Not one entry more, and no fewer but for rounding.
            prop_assert!(per_shard * layout.shards <= layout.max_entries);
            prop_assert!(layout.max_entries <= max_entries as u64);
            let rounding = layout.shards + layout.max_entries / 256;
            prop_assert!(per_shard * layout.shards + rounding > layout.max_entries);
            // The smallest entry is admitted, and the table is paid for.
            prop_assert!(layout.floor <= layout.largest);
            let entries = layout.max_entries.div_ceil(layout.shards);
            let table = table_bytes(entries, layout.ghosts);
            prop_assert!(layout.room + table * layout.shards <= max_size_bytes as u64);
            // It is used to its end where bytes are the bound, and not by ghosts.
            let is_full = table_bytes(entries + 2, layout.ghosts) > table;
            prop_assert!(is_full || layout.max_entries == max_entries as u64);
            prop_assert!(layout.ghosts <= affordable.div_ceil(layout.shards));
            // As quick_cache computes it.
            let ghosts = (entries as f64 * layout.ghost_allocation()) as u64;
            prop_assert!((0.0..=1.0).contains(&layout.ghost_allocation()));
            prop_assert!(ghosts <= layout.ghosts && layout.ghosts <= ghosts + 1);
            prop_assert!(layout.room >= max_size_bytes.min(MAX_BUDGET as usize) as u64 / 2);
        }
    }
}
