//! The PostgreSQL store compared with the same prepared statements through tokio-postgres.
//!
//! `cargo xtask bench postgres --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

use std::ops::Range;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use benches::measure::{Plan, compare, together};
use benches::report::{Row, Target, comparisons};
use benches::{Size, machine};
use clap::Parser;
use storage_backends::{Durability, PostgresOptions, PostgresStorage};
use storage_core::{ComponentStorage as _, PageRequest, StorageValue};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Statement};

/// Compare the PostgreSQL store with the same prepared statements through the raw client, on
/// a running server.
///
/// The raw client waits in the measuring thread, and tokio's threads move its bytes. It neither
/// groups commits nor sends notices. Both sides have connections with the same settings.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench postgres", bin_name = "cargo xtask bench postgres")]
struct Arguments {
    /// The database, in which a schema is created and dropped.
    #[arg(long, env = "STORAGE_TEST_POSTGRES_URL", value_name = "postgres://USER@HOST:PORT/DB")]
    url: String,
    /// Measure few operations.
    #[arg(long)]
    quick: bool,
    /// Commits do not wait for the server's disk.
    #[arg(long)]
    unsynced: bool,
}

const SCHEMA: &str = "storage_bench";
const COMPONENT: &str = "bench/app/main/";
const KEYS: usize = 10_000;
const VALUE: &[u8] = &[b'v'; 100];
const COMMITTERS: usize = 16;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let config: tokio_postgres::Config = arguments.url.parse().context("the URL is invalid")?;
    let options = options(&config, arguments.unsynced)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    drop_schema(&runtime, &config)?;
    let measured = {
        let store = PostgresStorage::open(&options)?;
        measure(arguments, &store, &runtime, &config)
    };
    drop_schema(&runtime, &config)?;
    println!("{}\n\n{}", machine::describe(), measured?);
    Ok(())
}

fn options(config: &tokio_postgres::Config, unsynced: bool) -> Result<PostgresOptions> {
    let Some(tokio_postgres::config::Host::Tcp(host)) = config.get_hosts().first() else {
        bail!("the URL names no host");
    };
    let user = config.get_user().context("the URL names no user")?;
    let mut options =
        PostgresOptions::new(host, user, config.get_dbname().unwrap_or(user)).with_schema(SCHEMA);
    options.port = config.get_ports().first().copied().unwrap_or(options.port);
    if let Some(password) = config.get_password() {
        options = options.with_password(std::str::from_utf8(password)?);
    }
    if unsynced {
        options = options.with_durability(Durability::Os);
    }
    Ok(options.with_pool_size(COMMITTERS))
}

fn drop_schema(runtime: &Runtime, config: &tokio_postgres::Config) -> Result<()> {
    runtime.block_on(async {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        client.batch_execute(&format!("drop schema if exists {SCHEMA} cascade")).await?;
        Ok(())
    })
}

/// One connection of the raw client.
struct Raw<'r> {
    runtime: &'r Runtime,
    client: Client,
    get: Statement,
    write: Statement,
    page: Statement,
}

impl<'r> Raw<'r> {
    fn connect(
        runtime: &'r Runtime,
        config: &tokio_postgres::Config,
        unsynced: bool,
    ) -> Result<Self> {
        runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            let synchronous_commit = if unsynced { "off" } else { "on" };
            client
                .batch_execute(&format!(
                    "set storage.session = 'raw'; set search_path = {SCHEMA};
                     set synchronous_commit = {synchronous_commit};
                     set jit = off; set plan_cache_mode = force_generic_plan;
                     set enable_seqscan = off; set enable_bitmapscan = off;
                     set enable_hashjoin = off; set enable_mergejoin = off; set enable_sort = off"
                ))
                .await?;
            let get = "select e.value, e.revision from component c \
                join entry e on e.component = c.id and e.key = $2 where c.name = $1";
            let write = "select status, written, previous from write_v1('raw', $1, $2, $3, $4, $5)";
            let page = "select e.key from entry e \
                where e.component = (select id from component where name = $1) \
                and e.key >= $2 and e.key < $3 order by e.key limit $4";
            Ok(Self {
                runtime,
                get: client.prepare(get).await?,
                write: client.prepare(write).await?,
                page: client.prepare(page).await?,
                client,
            })
        })
    }

    fn get(&self, component: &str, key: &str) -> Result<Vec<u8>> {
        let (name, key) = (component.as_bytes(), key.as_bytes());
        let row = self.runtime.block_on(self.client.query_opt(&self.get, &[&name, &key]));
        let row = row?.context("the key is missing")?;
        Ok(row.try_get(0)?)
    }

    fn set(&self, component: &str, key: &str) -> Result<i64> {
        let (name, key) = (component.as_bytes(), key.as_bytes());
        let none: Option<i64> = None;
        let row = self
            .runtime
            .block_on(self.client.query_one(&self.write, &[&name, &key, &VALUE, &none, &none]));
        Ok(row?.try_get(1)?)
    }

    fn page(&self, component: &str, from: &str, limit: i64) -> Result<usize> {
        let (name, from, to) = (component.as_bytes(), from.as_bytes(), &[0xff_u8][..]);
        let rows =
            self.runtime.block_on(self.client.query(&self.page, &[&name, &from, &to, &limit]))?;
        let keys: Result<Vec<Vec<u8>>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        Ok(keys?.len())
    }
}

fn measure(
    arguments: &Arguments,
    store: &PostgresStorage,
    runtime: &Runtime,
    config: &tokio_postgres::Config,
) -> Result<String> {
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let rounds = size.pick(15, 3);
    let plan = |operations, turn| Plan { rounds, operations, turn };
    let connect = || Raw::connect(runtime, config, arguments.unsynced);
    let raw = connect()?;
    let user_key = |n: usize| format!("key:{:05}", n % KEYS);
    let full_key = |n: usize| format!("{COMPONENT}{}", user_key(n));
    let value = || StorageValue::from(VALUE);
    together(COMMITTERS, 0..KEYS, &|n| Ok(store.set(&full_key(n), value())?))?;
    let mut rows = Vec::new();

    let ours = &mut |numbers: Range<usize>| {
        for n in numbers {
            ensure!(store.get(&full_key(n))?.is_some(), "the key is missing");
        }
        Ok(())
    };
    let theirs = &mut |numbers: Range<usize>| {
        for n in numbers {
            raw.get(COMPONENT, &user_key(n))?;
        }
        Ok(())
    };
    let compared = compare(plan(size.pick(2000, 200), 100), ours, theirs)?;
    rows.push(Row::new("get", compared, Target::TimeAtMost(1.15)));

    let ours = &mut |numbers: Range<usize>| {
        for n in numbers {
            store.set(&full_key(n), value())?;
        }
        Ok(())
    };
    let theirs = &mut |numbers: Range<usize>| {
        for n in numbers {
            raw.set(COMPONENT, &user_key(n))?;
        }
        Ok(())
    };
    let compared = compare(plan(size.pick(400, 50), 20), ours, theirs)?;
    rows.push(Row::new("set", compared, Target::TimeAtMost(1.15)));

    let ours = &mut |numbers: Range<usize>| {
        for n in numbers {
            let from = full_key(n);
            store.list_page(PageRequest::new(100).with_prefix(COMPONENT).after(&from))?;
        }
        Ok(())
    };
    let theirs = &mut |numbers: Range<usize>| {
        for n in numbers {
            raw.page(COMPONENT, &user_key(n), 101)?;
        }
        Ok(())
    };
    let compared = compare(plan(size.pick(500, 50), 50), ours, theirs)?;
    rows.push(Row::new("page of 100 keys", compared, Target::TimeAtMost(1.15)));

    let clients: Vec<Raw<'_>> = (0..COMMITTERS).map(|_| connect()).collect::<Result<_>>()?;
    let names: Vec<String> = (0..COMMITTERS).map(|n| format!("bench/app/{n:02}/")).collect();
    let plan = plan(size.pick(1600, 320), size.pick(1600, 320));
    for (what, target, is_one) in [
        ("16 committers on 16 components", Target::RateAtLeast(0.9), false),
        ("16 committers on one component", Target::RateAtLeast(3.0), true),
    ] {
        let name_of = |committer: usize| if is_one { 0 } else { committer };
        let committers =
            |numbers: Range<usize>, commit: &(dyn Fn(usize, usize) -> Result<()> + Sync)| {
                let each = numbers.len() / COMMITTERS;
                together(COMMITTERS, 0..COMMITTERS, &|committer| {
                    (0..each).try_for_each(|n| commit(committer, numbers.start + n))
                })
            };
        let ours = &mut |numbers: Range<usize>| {
            committers(numbers, &|committer, n| {
                let name = names.get(name_of(committer)).context("no such committer")?;
                store.set(&format!("{name}{committer}:{}", n % 100), value())?;
                Ok(())
            })
        };
        let theirs = &mut |numbers: Range<usize>| {
            committers(numbers, &|committer, n| {
                let name = names.get(name_of(committer)).context("no such committer")?;
                let client = clients.get(committer).context("no such committer")?;
                client.set(name, &format!("{committer}:{}", n % 100))?;
                Ok(())
            })
        };
        rows.push(Row::new(what, compare(plan, ours, theirs)?, target));
    }
    Ok(comparisons(["store", "raw client"], &rows))
}
