//! Hosts that share a store: how soon one reads what another one has written, and what a
//! cached hit costs.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use storage_core::{ComponentId, ComponentStorage as _, StorageValue};
use storage_host::{ComponentChain, StorageHost, Store};

use crate::measure::{Plan, compare};
use crate::report::{Row, Target, time};
use crate::{Engine, Size};

/// The component of every host.
pub const COMPONENT: &str = "bench/app/main";

/// The key that one host writes and another one reads.
pub const KEY: &str = "key";

/// How many keys are read from a cache.
const KEYS: usize = 1_000;

/// How often the second host reads.
const PAUSE: Duration = Duration::from_micros(50);

/// Writes begin at any time within this one, so that they do not follow the polls.
const APART: Duration = Duration::from_millis(200);

/// How long a value may take to arrive before the measurement fails.
const LIMIT: Duration = Duration::from_secs(60);

/// The component on a host of its own.
///
/// # Errors
/// None, unless [`COMPONENT`] is no id.
pub fn chain_on(store: Arc<dyn Store>) -> Result<Arc<ComponentChain>> {
    Ok(StorageHost::new(store).component(&COMPONENT.parse::<ComponentId>()?))
}

/// The times from the return of a write to the return of the first read that sees it.
#[derive(Debug)]
pub struct Staleness(Vec<Duration>);

impl Staleness {
    /// The head of a table.
    pub const HEAD: &str =
        "| | writes | median | 99th percentile | maximum |\n|---|---:|---:|---:|---:|\n";

    /// Writes values with `write`, and waits for each in `reader`.
    ///
    /// # Errors
    /// If a call fails, or a value does not arrive within a minute.
    pub fn measure(
        writes: usize,
        reader: &ComponentChain,
        write: &dyn Fn(&StorageValue) -> Result<()>,
    ) -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(1);
        let mut times = Vec::new();
        for number in 0..writes {
            // The reader has the value before.
            let apart = APART.mul_f64(random.f64());
            let start = Instant::now();
            while start.elapsed() < apart {
                reader.get(KEY)?;
                thread::sleep(PAUSE);
            }
            let value = StorageValue::from(number.to_string().as_str());
            write(&value)?;
            let written = Instant::now();
            while reader.get(KEY)?.as_ref() != Some(&value) {
                ensure!(written.elapsed() < LIMIT, "the value does not arrive");
                thread::sleep(PAUSE);
            }
            times.push(written.elapsed());
        }
        times.sort_unstable();
        Ok(Self(times))
    }

    /// The seconds within which this part of a hundred arrived.
    ///
    /// # Errors
    /// If nothing was written.
    pub fn within(&self, percent: usize) -> Result<f64> {
        let Self(times) = self;
        let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        Ok(times.get(at).context("nothing was written")?.as_secs_f64())
    }

    /// A row of a table.
    ///
    /// # Errors
    /// If nothing was written.
    pub fn row(&self, what: &str) -> Result<String> {
        let [median, p99, maximum] = [50, 99, 100].map(|part| self.within(part).map(time));
        Ok(format!("| {what} | {} | {} | {} | {} |\n", self.0.len(), median?, p99?, maximum?))
    }
}

/// Keys that a host reads from its cache.
#[derive(Debug)]
pub struct Cached {
    keys: Vec<String>,
}

impl Cached {
    /// Writes the keys in all chains, with this value.
    ///
    /// # Errors
    /// If a write fails.
    pub fn write<'c>(
        chains: impl IntoIterator<Item = &'c ComponentChain>,
        value: &[u8],
    ) -> Result<Self> {
        let keys: Vec<String> = (0..KEYS).map(|n| format!("key:{n:05}")).collect();
        for chain in chains {
            keys.iter().try_for_each(|key| chain.set(key, value.into()))?;
        }
        Ok(Self { keys })
    }

    /// Reads one key for each number.
    ///
    /// # Errors
    /// If a read fails or finds nothing.
    pub fn read(&self, chain: &ComponentChain, numbers: Range<usize>) -> Result<()> {
        for number in numbers {
            let key = self.keys.get(number % self.keys.len()).context("no such key")?;
            ensure!(chain.get(key)?.is_some(), "the key is missing");
        }
        Ok(())
    }
}

/// A hit of this host compared with one over redb. All but one of a hundred reads must be hits.
///
/// # Errors
/// If a call fails, or too many reads were not hits.
pub fn hits(size: Size, shared: &ComponentChain, value: &[u8]) -> Result<Row> {
    let directory = tempfile::tempdir()?;
    let local = chain_on(Engine::Redb.open(&directory.path().join("store"), false)?)?;
    let cached = Cached::write([shared, &*local], value)?;
    let before = [shared, &*local].map(|chain| chain.cache_stats().hits);
    let plan = Plan { rounds: size.pick(31, 3), operations: 400_000, turn: 20_000 };
    let (first, second) =
        (&mut |numbers| cached.read(shared, numbers), &mut |numbers| cached.read(&local, numbers));
    let compared = compare(plan, first, second)?;
    let total = ((plan.rounds + 1) * plan.operations) as u64;
    for (chain, before) in [shared, &*local].into_iter().zip(before) {
        let hits = chain.cache_stats().hits - before;
        ensure!(hits > total / 100 * 99, "only {hits} of {total} reads were hits");
    }
    Ok(Row::new("cached hit", compared, Target::TimeAtMost(1.05)))
}
