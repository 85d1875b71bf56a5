//! How often a cache holds the key that is read, and what an access costs.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};
use benches::{Size, measure};
use lru::LruCache;
use storage_cache::{CacheConfig, CachedStorage};
use storage_core::ComponentStorage;

use crate::keys::{Keys, Maker};
use crate::traces::{self, Extent, Trace};

/// How many points the hit rate may be below the best of the other caches.
const MAX_BELOW_BEST: f64 = 1.5;

/// How many points it must be above that of an LRU in traces with scans.
const MIN_ABOVE_LRU: f64 = 3.0;

/// The capacities, in percent of the number of keys.
const CAPACITIES: [usize; 3] = [1, 5, 20];

/// Measures every cache on every trace, and returns the table.
pub(crate) fn run(size: Size) -> Result<String> {
    let extent =
        Extent { keys: size.pick(100_000, 10_000), accesses: size.pick(1_000_000, 100_000) };
    table(extent, size.pick(3, 1))
}

fn table(extent: Extent, rounds: usize) -> Result<String> {
    let traces = traces::all(extent);
    let largest = traces.iter().flat_map(|trace| &trace.accesses).max().copied().unwrap_or(0);
    let keys = Keys::new(largest as usize + 1);
    let mut table = String::from(
        "### Hit rates\n\n\
         | trace | capacity | ours | moka | LRU | target | | ns per access: ours | moka | LRU |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for trace in &traces {
        for percent in CAPACITIES {
            let capacity = extent.keys * percent / 100;
            let mut outcomes = [const { Vec::new() }; 3];
            for _ in 0..rounds {
                for (outcomes, cache) in outcomes.iter_mut().zip([ours, moka, lru]) {
                    outcomes.push(cache(capacity, trace, &keys)?);
                }
            }
            let [ours, moka, lru] = outcomes.map(|outcomes| Outcome {
                hits: measure::median(outcomes.iter().map(|one| one.hits).collect()),
                nanoseconds: measure::median(outcomes.iter().map(|one| one.nanoseconds).collect()),
            });
            let scan_target = trace.has_scans.then_some(lru.hits + MIN_ABOVE_LRU);
            let target =
                (moka.hits.max(lru.hits) - MAX_BELOW_BEST).max(scan_target.unwrap_or_default());
            let line = format!(
                "| {} | {percent} % | {:.1} | {:.1} | {:.1} | {target:.1} | {} | {:.0} | {:.0} | {:.0} |\n",
                trace.name,
                ours.hits,
                moka.hits,
                lru.hits,
                if ours.hits >= target { "met" } else { "MISSED" },
                ours.nanoseconds,
                moka.nanoseconds,
                lru.nanoseconds,
            );
            eprint!("{line}");
            table.push_str(&line);
        }
    }
    Ok(table)
}

/// What a cache did with a trace.
struct Outcome {
    /// In percent of the accesses.
    hits: f64,
    nanoseconds: f64,
}

/// Replays a trace on an empty cache; `read` fills it from the maker.
fn replay(
    trace: &Trace,
    keys: &Keys,
    maker: &Maker,
    mut read: impl FnMut(&str) -> bool,
) -> Result<Outcome> {
    let start = Instant::now();
    let found = trace.accesses.iter().all(|number| read(keys.full(*number as usize)));
    let (accesses, elapsed) = (trace.accesses.len() as f64, start.elapsed());
    ensure!(found, "a key is missing");
    Ok(Outcome {
        hits: 100.0 * (1.0 - maker.made() as f64 / accesses),
        nanoseconds: 1e9 * elapsed.as_secs_f64() / accesses,
    })
}

fn ours(capacity: usize, trace: &Trace, keys: &Keys) -> Result<Outcome> {
    let maker = Maker::default();
    // Enough bytes that the number of entries is the bound.
    let config =
        CacheConfig { max_entries: capacity, ttl: None, max_size_bytes: capacity * (16 << 10) };
    let cache = CachedStorage::new(&maker, config);
    replay(trace, keys, &maker, |key| matches!(black_box(cache.get(key)), Ok(Some(_))))
}

fn moka(capacity: usize, trace: &Trace, keys: &Keys) -> Result<Outcome> {
    let (maker, cache) = (Maker::default(), moka::sync::Cache::new(capacity as u64));
    replay(trace, keys, &maker, |key| {
        let found = cache.get(key).unwrap_or_else(|| {
            let value = maker.make();
            cache.insert(key.to_owned(), value.clone());
            value
        });
        black_box(found).len() == Maker::VALUE_BYTES
    })
}

fn lru(capacity: usize, trace: &Trace, keys: &Keys) -> Result<Outcome> {
    let maker = Maker::default();
    let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
    let cache = Mutex::new(LruCache::new(capacity));
    let lock = || cache.lock().unwrap_or_else(PoisonError::into_inner);
    replay(trace, keys, &maker, |key| {
        let found = lock().get(key).cloned();
        let found = found.unwrap_or_else(|| {
            let value = maker.make();
            lock().push(key.to_owned(), value.clone());
            value
        });
        black_box(found).len() == Maker::VALUE_BYTES
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_room_for_all_keys_every_cache_misses_each_key_once() {
        let extent = Extent { keys: 1_000, accesses: 10_000 };
        let keys = Keys::new(extent.keys);
        let trace = traces::all(extent).remove(0);
        let mut seen = trace.accesses.clone();
        seen.sort_unstable();
        seen.dedup();
        let expected = 100.0 * (1.0 - seen.len() as f64 / extent.accesses as f64);
        for cache in [ours, moka, lru] {
            assert_eq!(cache(20_000, &trace, &keys).unwrap().hits, expected);
        }
    }
}
