//! Two hosts with caches.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use benches::Engine;
use benches::measure::{Plan, compare};
use benches::report::{Row, Target, comparisons, time};
use storage_core::{ComponentId, ComponentStorage as _, StorageValue};
use storage_host::{ComponentChain, StorageHost, Store};

use crate::{SCHEMA, Server, VALUE};

const COMPONENT: &str = "bench/app/main";
const KEY: &str = "key";
const KEYS: usize = 1_000;

/// How often the second host reads.
const PAUSE: Duration = Duration::from_micros(50);

/// Writes begin at any time within this one, so that they do not follow the polls.
const APART: Duration = Duration::from_millis(200);

/// How long a value may take to arrive before the measurement fails.
const LIMIT: Duration = Duration::from_secs(60);

fn chain_on(store: Arc<dyn Store>) -> Result<Arc<ComponentChain>> {
    Ok(StorageHost::new(store).component(&COMPONENT.parse::<ComponentId>()?))
}

/// Measures everything, and returns the tables.
pub(crate) fn measure(server: &Server<'_>) -> Result<String> {
    let (one, two) = (chain_on(open(server)?)?, chain_on(open(server)?)?);
    let mut table = String::from(
        "| | writes | median | 99th percentile | maximum |\n|---|---:|---:|---:|---:|\n",
    );
    let by_host = |value: &StorageValue| Ok(one.set(KEY, value.clone())?);
    let writes = server.size.pick(1_000, 50);
    table.push_str(&staleness("with notices", writes, &two, &by_host)?);
    // The raw client sends none.
    let raw = server.connect()?;
    let prefix = format!("{COMPONENT}/");
    let by_client = |value: &StorageValue| raw.set_to(&prefix, KEY, value.as_bytes()).map(drop);
    let writes = server.size.pick(300, 10);
    table.push_str(&staleness("without notices", writes, &two, &by_client)?);
    Ok(format!("{table}\n{}", hits(server, &two)?))
}

fn open(server: &Server<'_>) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(server.open(SCHEMA)?))
}

/// A row: the time from the return of a write to the return of the first read that sees it.
fn staleness(
    what: &str,
    writes: usize,
    reader: &ComponentChain,
    write: &dyn Fn(&StorageValue) -> Result<()>,
) -> Result<String> {
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
    let at = |part: usize| {
        let found = times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        Ok::<_, anyhow::Error>(time(found.context("nothing was written")?.as_secs_f64()))
    };
    Ok(format!("| {what} | {writes} | {} | {} | {} |\n", at(50)?, at(99)?, at(100)?))
}

/// A hit over this store compared with one over redb.
fn hits(server: &Server<'_>, shared: &ComponentChain) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let local = chain_on(Engine::Redb.open(&directory.path().join("store"), false)?)?;
    let keys: Vec<String> = (0..KEYS).map(|n| format!("key:{n:05}")).collect();
    for (chain, key) in keys.iter().flat_map(|key| [(shared, key), (&*local, key)]) {
        chain.set(key, VALUE.into())?;
    }
    let before = [shared, &*local].map(|chain| chain.cache_stats().hits);
    let read = |chain: &ComponentChain, numbers: Range<usize>| {
        for number in numbers {
            let key = keys.get(number % KEYS).context("no such key")?;
            ensure!(chain.get(key)?.is_some(), "the key is missing");
        }
        Ok(())
    };
    let rounds = server.size.pick(31, 3);
    let plan = Plan { rounds, operations: 400_000, turn: 20_000 };
    let (first, second) =
        (&mut |numbers| read(shared, numbers), &mut |numbers| read(&local, numbers));
    let compared = compare(plan, first, second)?;
    let total = ((rounds + 1) * plan.operations) as u64;
    for (chain, before) in [shared, &*local].into_iter().zip(before) {
        let hits = chain.cache_stats().hits - before;
        ensure!(hits > total / 100 * 99, "only {hits} of {total} reads were hits");
    }
    let row = Row::new("cached hit", compared, Target::TimeAtMost(1.05));
    Ok(comparisons(["PostgreSQL store", "redb store"], &[row]))
}
