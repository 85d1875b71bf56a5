//! What a hit costs, compared with a hit in quick_cache, on which the cache is built.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use benches::Size;
use benches::measure::{self, Compared, CpuTime, Plan};
use benches::report::{Row, Target, comparisons};
use storage_cache::CacheConfig;
use storage_core::{ComponentId, ComponentStorage, StorageError, StorageValue};
use storage_host::{StorageHost, create_component_storage};

use crate::keys::{Keys, Maker, PREFIX};

const THREADS: [usize; 2] = [1, 2];
const KEYS: [usize; 3] = [1_000, 10_000, 100_000];

/// Long compared with the start of a thread.
const TURN: Duration = Duration::from_millis(25);

/// Entries have a time-to-live, so that a hit looks at the clock. None expires.
const TTL: Duration = Duration::from_secs(3_600);

/// Measures every cache, and returns the tables.
pub(crate) fn run(size: Size) -> Result<String> {
    let rounds = size.pick(11, 3);
    let mut text = String::from("### Cost of a hit\n");
    for threads in THREADS {
        let mut rows = Vec::new();
        for count in KEYS.into_iter().take(size.pick(KEYS.len(), 2)) {
            Bench::new(threads, rounds, count)?.measure(&mut rows)?;
        }
        let table = comparisons(["", "bare quick_cache"], &rows);
        text.push_str(&format!("\nThreads: {threads}\n\n{table}"));
    }
    Ok(text)
}

/// A side returns whether it found the key of an operation.
trait Side: Fn(usize) -> bool + Sync {}

impl<F: Fn(usize) -> bool + Sync> Side for F {}

struct Bench {
    threads: usize,
    rounds: usize,
    /// Operations per turn.
    operations: usize,
    keys: Keys,
    /// The key of each operation; the length is a power of two.
    order: Box<[u32]>,
    bare: quick_cache::sync::Cache<String, StorageValue>,
}

impl Bench {
    fn new(threads: usize, rounds: usize, count: usize) -> Result<Self> {
        let keys = Keys::new(count);
        let mut random = fastrand::Rng::with_seed(count as u64);
        let order = (0..(8 * count).next_power_of_two()).map(|_| random.u32(0..count as u32));
        let (order, bare) = (order.collect(), filled(&keys));
        let mut bench = Self { threads, rounds, operations: 0, keys, order, bare };
        let (tried, mut fastest) = (200_000, Duration::MAX);
        for _ in 0..5 {
            let start = Instant::now();
            bench.get(&|number| bench.bare.get(bench.keys.full(number)).is_some(), 0..tried)?;
            fastest = fastest.min(start.elapsed());
        }
        bench.operations = (tried as f64 * TURN.div_duration_f64(fastest)) as usize;
        Ok(bench)
    }

    fn measure(&self, rows: &mut Vec<Row>) -> Result<()> {
        let (keys, count) = (&self.keys, self.keys.len());
        let mut add = |name: &str, target, compared| {
            rows.push(Row::new(&format!("{count} keys: {name}"), compared, target));
        };
        let target = match (self.threads, count) {
            (1, 1_000) => Target::TimeAtMost(1.8),
            (1, 100_000) => Target::TimeAtMost(1.35),
            _ => Target::Time,
        };
        // Each cache is dropped before the next one is built, which bounds the memory.
        let compared =
            self.component(|id, maker| create_component_storage(id, maker, self.private()))?;
        add("`create_component_storage`", target, compared);
        let compared = self.component(|id, maker| {
            Box::new(StorageHost::builder(maker).cache(self.private()).build().component(&id))
        })?;
        add("`StorageHost`", Target::Time, compared);
        let compared = self.component(|id, maker| {
            Box::new(StorageHost::builder(maker).shared_cache(self.shared()).build().component(&id))
        })?;
        add("`StorageHost`, shared cache", Target::Time, compared);

        let (by_hand, prefix) = (filled(keys), black_box(PREFIX.to_owned()));
        let compared = self.compare(&|number| {
            let full = [&prefix, keys.user(number)].concat();
            black_box(&by_hand.get(&full)).is_some()
        })?;
        add("prefix added by hand", Target::Time, compared);
        drop(by_hand);

        let moka = moka::sync::Cache::builder().max_capacity(2 * count as u64).time_to_live(TTL);
        let (moka, maker) = (moka.build(), Maker::default());
        for number in 0..count {
            moka.insert(keys.full(number).to_owned(), maker.make());
        }
        let compared = self.compare(&|number| black_box(&moka.get(keys.full(number))).is_some())?;
        add("moka", Target::Time, compared);
        Ok(())
    }

    /// Measures the storage of a component. Fails if a get was not a hit.
    fn component(
        &self,
        create: impl FnOnce(ComponentId, Arc<Maker>) -> Box<dyn ComponentStorage>,
    ) -> Result<Compared> {
        let (id, maker) = (ComponentId::new("app", "notes", "home")?, Arc::new(Maker::default()));
        let storage = black_box(create(id, Arc::clone(&maker)));
        let count = self.keys.len();
        (0..count).try_for_each(|number| storage.get(self.keys.user(number)).map(drop))?;
        let compared = self.compare(&|number| is_hit(&storage.get(self.keys.user(number))))?;
        ensure!(maker.made() == count as u64, "a key was read more than once");
        Ok(compared)
    }

    /// Measures a cache and the bare quick_cache in turns.
    fn compare(&self, side: &impl Side) -> Result<Compared> {
        let bare = |number| black_box(&self.bare.get(self.keys.full(number))).is_some();
        let cpu = if self.threads == 1 { CpuTime::OfThread } else { CpuTime::OfProcess };
        let plan = Plan { rounds: self.rounds, operations: self.operations, turn: self.operations };
        measure::compare_by(cpu, plan, &mut |numbers| self.get(side, numbers), &mut |numbers| {
            self.get(&bare, numbers)
        })
    }

    /// Gets the keys of these operations, each thread those of its own chunk.
    fn get(&self, side: &impl Side, numbers: Range<usize>) -> Result<()> {
        let chunk = |numbers: Range<usize>| {
            ensure!(self.get_chunk(side, numbers), "a key is missing");
            Ok(())
        };
        match self.threads {
            1 => chunk(numbers),
            threads => measure::in_chunks(threads, numbers, &chunk),
        }
    }

    #[inline(never)]
    fn get_chunk(&self, side: &impl Side, mut numbers: Range<usize>) -> bool {
        numbers.all(|operation| {
            let index = operation & (self.order.len() - 1);
            self.order.get(index).is_some_and(|number| side(*number as usize))
        })
    }

    /// Room for all keys, in entries and in bytes.
    fn private(&self) -> CacheConfig {
        let max_entries = 2 * self.keys.len();
        CacheConfig { max_entries, ttl: Some(TTL), max_size_bytes: max_entries * (4 << 10) }
    }

    /// The same for one component, which can fill an eighth of a shared cache.
    fn shared(&self) -> CacheConfig {
        let private = self.private();
        CacheConfig {
            max_entries: 8 * private.max_entries,
            max_size_bytes: 8 * private.max_size_bytes,
            ..private
        }
    }
}

#[inline]
fn is_hit(found: &Result<Option<StorageValue>, StorageError>) -> bool {
    matches!(black_box(found), Ok(Some(_)))
}

fn filled(keys: &Keys) -> quick_cache::sync::Cache<String, StorageValue> {
    let (cache, maker) = (quick_cache::sync::Cache::new(2 * keys.len()), Maker::default());
    for number in 0..keys.len() {
        cache.insert(keys.full(number).to_owned(), maker.make());
    }
    cache
}
