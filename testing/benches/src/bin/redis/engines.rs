//! The stores on servers side by side.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, ensure};
use benches::Size;
use benches::hosts::{Cached, KEY, Staleness, chain_on};
use benches::measure::{Rounds, Side, in_chunks, in_turns};
use benches::report::{rate, time};
use storage_backends::{Durability, PostgresOptions, PostgresStorage, RedisStorage};
use storage_core::{Commit, ComponentStorage as _, PageRequest, Revision, StorageValue};
use storage_host::{ComponentChain, Store};
use test_servers::{Postgres, Redis, RedisCluster};

use crate::calls::full_key;
use crate::{COMPONENT, VALUE, servers};

const KEYS: usize = 1_000;
const PAGE: usize = 100;
const CALLERS: usize = 16;

/// Servers with their default settings but for the times at which they sync.
struct Servers {
    postgres: Postgres,
    synced: Redis,
    relaxed: Redis,
    cluster: RedisCluster,
}

impl Servers {
    fn start() -> Result<Self> {
        Ok(Self {
            postgres: Postgres::start()?,
            synced: Redis::builder().setting("appendfsync", "always").start()?,
            relaxed: servers::start_relaxed()?,
            cluster: RedisCluster::with(Redis::builder().setting("appendfsync", "always"))?,
        })
    }

    fn engines(&self) -> Result<Vec<Engine>> {
        let postgres = |schema: &str, durability| -> Result<PostgresStorage> {
            let address = self.postgres.address();
            let host = address.ip().to_string();
            let mut options = PostgresOptions::new(&host, "postgres", "postgres")
                .with_schema(schema)
                .with_durability(durability);
            options.port = address.port();
            Ok(PostgresStorage::open(&options)?)
        };
        let redis = |server| -> Result<RedisStorage> { servers::open(server) };
        Ok(vec![
            Engine::new("PostgreSQL, `sync`", || postgres("synced", Durability::Sync))?,
            Engine::new("PostgreSQL, `os`", || postgres("relaxed", Durability::Os))?,
            Engine::new("Redis, `always`", || redis(&self.synced))?,
            Engine::new("Redis, `everysec`", || redis(&self.relaxed))?,
            Engine::new("Redis cluster, `always`", || servers::open_cluster(&self.cluster))?,
        ])
    }
}

/// A store, and two hosts on it.
struct Engine {
    name: &'static str,
    store: Arc<dyn Store>,
    hosts: [Arc<ComponentChain>; 2],
    /// That of [`checked_key`].
    revision: Cell<Revision>,
}

impl Engine {
    fn new<S: Store + 'static>(name: &'static str, open: impl Fn() -> Result<S>) -> Result<Self> {
        let store = open()?;
        for number in 0..KEYS {
            store.set(&full_key(number), StorageValue::from(VALUE))?;
        }
        let revision = Cell::new(store.commit(Commit::new().set(checked_key(), VALUE.into()))?);
        let hosts = [chain_on(Arc::new(open()?))?, chain_on(Arc::new(open()?))?];
        Ok(Self { name, store: Arc::new(store), hosts, revision })
    }
}

fn checked_key() -> String {
    format!("{COMPONENT}checked")
}

/// Measures everything, and returns a table.
pub(crate) fn measure(size: Size) -> Result<String> {
    let servers = Servers::start()?;
    let table = Table { size, engines: servers.engines()? };
    let names: Vec<&str> = table.engines.iter().map(|engine| engine.name).collect();
    let mut text = format!("| | {} |\n|---|{}\n", names.join(" | "), "---:|".repeat(names.len()));
    let mut add = |what: &str, figures: Vec<String>| {
        text.push_str(&format!("| {what} | {} |\n", figures.join(" | ")));
    };
    let times = |seconds: Vec<f64>| seconds.into_iter().map(time).collect::<Vec<_>>();
    let rates = |seconds: Vec<f64>| seconds.into_iter().map(rate).collect::<Vec<_>>();
    add("get", times(table.medians(200, &get)?));
    add("set", times(table.medians(50, &set)?));
    add("commit with a check", times(table.medians(50, &commit)?));
    add("page of 100 keys", times(table.medians(100, &page)?));
    add("get, 16 callers", rates(table.medians(3_200, &many_gets)?));
    add("set, 16 callers, one component", rates(table.medians(960, &many_sets)?));
    add("set, 16 callers with a component each", rates(table.medians(960, &spread_sets)?));
    add("cached hit", times(table.hits()?));
    let staleness = table.staleness()?;
    let within = |percent| -> Result<Vec<f64>> {
        staleness.iter().map(|measured| measured.within(percent)).collect()
    };
    add("staleness, median", times(within(50)?));
    add("staleness, 99th percentile", times(within(99)?));
    Ok(text)
}

fn get(engine: &Engine, mut numbers: Range<usize>) -> Result<()> {
    numbers.try_for_each(|number| get_one(&*engine.store, number))
}

fn get_one(store: &dyn Store, number: usize) -> Result<()> {
    ensure!(store.get(&full_key(number))?.is_some(), "the key is missing");
    Ok(())
}

fn set(engine: &Engine, mut numbers: Range<usize>) -> Result<()> {
    numbers.try_for_each(|number| Ok(engine.store.set(&full_key(number), VALUE.into())?))
}

/// A commit that fails if another one has written the key.
fn commit(engine: &Engine, numbers: Range<usize>) -> Result<()> {
    for _ in numbers {
        let commit = Commit::new()
            .require_revision(checked_key(), engine.revision.get())
            .set(checked_key(), VALUE.into());
        engine.revision.set(engine.store.commit(commit)?);
    }
    Ok(())
}

fn page(engine: &Engine, numbers: Range<usize>) -> Result<()> {
    for number in numbers {
        let after = full_key(number % (KEYS - PAGE));
        let request = PageRequest::new(PAGE).with_prefix(COMPONENT).after(&after);
        ensure!(engine.store.list_page(request)?.keys.len() == PAGE, "keys are missing");
    }
    Ok(())
}

fn many_gets(engine: &Engine, numbers: Range<usize>) -> Result<()> {
    let store = &*engine.store;
    in_chunks(CALLERS, numbers, &|mut numbers| numbers.try_for_each(|n| get_one(store, n)))
}

fn many_sets(engine: &Engine, numbers: Range<usize>) -> Result<()> {
    let store = &*engine.store;
    let set = |number| Ok(store.set(&full_key(number), VALUE.into())?);
    in_chunks(CALLERS, numbers, &|mut numbers| numbers.try_for_each(set))
}

fn spread_sets(engine: &Engine, numbers: Range<usize>) -> Result<()> {
    let (store, each) = (&*engine.store, numbers.len() / CALLERS);
    in_chunks(CALLERS, 0..CALLERS, &|callers| {
        let caller = callers.start;
        let set = |n| Ok(store.set(&format!("bench/app/{caller:02}/key:{n:05}"), VALUE.into())?);
        (0..each).try_for_each(set)
    })
}

/// The stores that are measured.
struct Table {
    size: Size,
    engines: Vec<Engine>,
}

impl Table {
    /// Seconds per operation of each store.
    fn medians(
        &self,
        operations: usize,
        operate: &dyn Fn(&Engine, Range<usize>) -> Result<()>,
    ) -> Result<Vec<f64>> {
        let side = |engine| move |numbers| operate(engine, numbers);
        let mut sides: Vec<_> = self.engines.iter().map(side).collect();
        let mut turns: Vec<(usize, Side<'_>)> =
            sides.iter_mut().map(|side| (operations, side as Side<'_>)).collect();
        let rounds = in_turns(self.size.pick(15, 3), &mut turns)?;
        Ok(rounds.iter().map(Rounds::wall).collect())
    }

    fn hits(&self) -> Result<Vec<f64>> {
        let readers = || self.engines.iter().map(|engine| &*engine.hosts[1]);
        let cached = Cached::write(readers(), VALUE)?;
        self.medians(20_000, &|engine, numbers| cached.read(&engine.hosts[1], numbers))
    }

    fn staleness(&self) -> Result<Vec<Staleness>> {
        let of = |engine: &Engine| {
            let [writer, reader] = &engine.hosts;
            let write = |value: &StorageValue| Ok(writer.set(KEY, value.clone())?);
            Staleness::measure(self.size.pick(100, 10), reader, &write)
        };
        self.engines.iter().map(of).collect()
    }
}
