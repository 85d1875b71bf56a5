//! The memory of a cache, as the allocator counts it.

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use rstest::rstest;
use storage_cache::{CacheConfig, CachedStorage, SharedCache};
use storage_core::{ComponentId, ComponentStorage, StorageError, StorageValue};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Serialises the tests, because the allocator counts for all of them.
static TURN: Mutex<()> = Mutex::new(());

/// The maximum number of bytes of the test harness and an empty cache.
const NOISE: usize = 32 << 10;

/// Has a value for every key that ends in a number, which is its length.
struct Generated;

impl ComponentStorage for Generated {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        let len = key.rsplit('/').next().and_then(|len| len.parse().ok());
        Ok(len.map(|len| vec![b'x'; len].into()))
    }

    fn set(&self, _: &str, _: StorageValue) -> Result<(), StorageError> {
        Ok(())
    }

    fn delete(&self, _: &str) -> Result<(), StorageError> {
        Ok(())
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.get(key)?.is_some())
    }

    fn list_keys(&self, _: Option<&str>) -> Result<Vec<String>, StorageError> {
        Ok(Vec::new())
    }
}

#[test]
fn an_unused_cache_allocates_nothing() {
    const CACHES: usize = 100_000;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let config = CacheConfig::default();
    let mut caches: Vec<CachedStorage<&Generated>> = Vec::with_capacity(CACHES);
    let before = ALLOCATED.current_usage();
    for _ in 0..CACHES {
        let cached = CachedStorage::new(&Generated, config.clone());
        assert_eq!(cached.try_get("", "key"), None);
        assert_eq!(cached.stats().entries, 0);
        caches.push(cached);
    }
    let taken = ALLOCATED.current_usage().saturating_sub(before);
    assert!(taken < NOISE, "{taken} bytes for {CACHES} idle caches");
    assert!(size_of::<CachedStorage<&Generated>>() <= 96);
}

#[test]
fn a_used_cache_takes_less_than_eight_kib() {
    const CACHES: usize = 1_000;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ALLOCATED.current_usage();
    let caches: Vec<_> =
        (0..CACHES).map(|_| CachedStorage::new(&Generated, CacheConfig::default())).collect();
    for cached in &caches {
        assert_eq!(cached.get("absent"), Ok(None));
    }
    let each = (ALLOCATED.current_usage() - before) / CACHES;
    assert!(each < 8 << 10, "{each} bytes");
    drop(caches);
    assert!(ALLOCATED.current_usage() < before + NOISE);
}

/// Fills the cache with values of increasing size. The table for the small ones still
/// exists when large ones are added.
#[rstest]
#[case::default(CacheConfig { ttl: None, ..CacheConfig::default() })]
#[case::by_bytes(CacheConfig { ttl: None, max_entries: usize::MAX, max_size_bytes: 32 << 20 })]
#[case::one_shard(CacheConfig { ttl: None, max_entries: usize::MAX, max_size_bytes: 4 << 20 })]
#[case::few(CacheConfig { ttl: None, max_entries: 100, max_size_bytes: 8 << 20 })]
fn a_cache_stays_within_its_bytes(#[case] config: CacheConfig) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let max = config.max_size_bytes;
    let before = ALLOCATED.current_usage();
    let cached = CachedStorage::new(Generated, config);
    let mut largest = 0;
    for (len, count) in
        [(1, 60_000), (100, 60_000), (4 << 10, 10_000), (1 << 20, 60), (1, 20_000), (64 << 10, 600)]
    {
        // Three times each: a value used once does not evict hot entries.
        for key in (0..3 * count).map(|n| n / 3) {
            let key = format!("{key}/{len}");
            if key.len() % 2 == 0 {
                cached.set(&key, cached.get(&key).unwrap().unwrap()).unwrap();
            } else {
                cached.get(&key).unwrap();
            }
            let taken = ALLOCATED.current_usage().saturating_sub(before);
            largest = largest.max(taken);
            assert!(taken <= max + NOISE, "{taken} bytes of {max} with values of {len}");
        }
        let stats = cached.stats();
        assert!(stats.bytes <= max as u64, "{stats:?}");
    }
    assert!(largest > max / 2, "{largest} of {max}");
}

/// The memory of an empty cache counts too.
#[test]
fn a_small_cache_stays_within_its_bytes() {
    const VALUE: usize = 1_500;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let max = 32 << 10;
    let config = CacheConfig { ttl: None, max_entries: usize::MAX, max_size_bytes: max };
    let keys: Vec<String> =
        (0..20_000).map(|n| format!("{n}/{}", [1, VALUE][n / 10_000])).collect();
    let before = ALLOCATED.current_usage();
    let cached = CachedStorage::new(Generated, config);
    let mut largest = 0;
    for key in keys.iter().flat_map(|key| [key; 3]) {
        cached.get(key).unwrap();
        largest = largest.max(ALLOCATED.current_usage().saturating_sub(before));
    }
    assert!(largest <= max + max / 20, "{largest} bytes of {max}");
    assert!(largest > max / 2, "{largest} bytes of {max}");
}

#[rstest]
#[case::private(false)]
#[case::shared(true)]
fn concurrent_use_stays_within_the_bytes(#[case] is_shared: bool) {
    const THREADS: usize = 4;
    const LARGEST: usize = 1 << 20;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let config = CacheConfig { ttl: None, max_entries: usize::MAX, max_size_bytes: 64 << 20 };
    let max = config.max_size_bytes;
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let storages: Vec<Box<dyn ComponentStorage>> = if is_shared {
        let shared = SharedCache::new(&Generated, config);
        let id = |n| -> ComponentId { format!("app/many/{n}").parse().unwrap() };
        (0..64).map(|n| Box::new(shared.component(id(n))) as Box<dyn ComponentStorage>).collect()
    } else {
        vec![Box::new(CachedStorage::new(&Generated, config))]
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let storages = &storages;
            scope.spawn(move || {
                for (len, count) in [(1, 40_000), (4 << 10, 50_000), (LARGEST, 90), (100, 20_000)] {
                    for n in 0..count {
                        let storage = &storages[(n * 7 + thread) % storages.len()];
                        let key = format!("{}/{len}", (n + thread) / 3);
                        match n % 5 {
                            0 => storage.set(&key, vec![b'y'; len].into()).unwrap(),
                            _ => drop(storage.get(&key).unwrap()),
                        }
                    }
                }
            });
        }
    });
    let peak = ALLOCATED.peak_usage().saturating_sub(before);
    // Each thread holds a value, and copies it once.
    let in_flight = THREADS * 2 * LARGEST;
    let most = max + max / 20 + in_flight + NOISE;
    assert!(peak <= most, "{peak} bytes where {most} are allowed");
    // Small values weigh more than their bytes, and some of them remain.
    assert!(peak > max / 4, "{peak} of {max}");
}

#[test]
fn removed_components_leave_only_their_entries() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let config = CacheConfig { ttl: None, max_entries: 160, max_size_bytes: 320 << 10 };
    let shared = SharedCache::new(&Generated, config);
    let mut taken = [0; 2];
    for (round, taken) in taken.iter_mut().enumerate() {
        for n in 0..50_000 {
            let id = format!("app/{round}/{n}").parse().unwrap();
            assert_eq!(shared.component(id).get("absent"), Ok(None));
        }
        *taken = ALLOCATED.current_usage();
    }
    assert!(taken[1] < taken[0] + NOISE, "{taken:?}");
}
