//! What the first budget of a large component takes, and what a neighbour
//! notices of it.
//!
//! `cargo xtask bench ledger --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use benches_compare::{Size, machine, report};
use clap::{Parser, ValueEnum};
use storage_backends::{Durability, FileOptions, FileStorage, RedbOptions, RedbStorage};
#[cfg(feature = "rocksdb")]
use storage_backends::{RocksDbOptions, RocksDbStorage};
use storage_host::{
    Budget, CacheConfig, Commit, ComponentId, ComponentSettings, ComponentStorage, StorageError,
    StorageHost, StorageValue, Store,
};

/// Which store to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    File,
    Redb,
    Rocksdb,
}

/// The engines that the program was built with.
const BUILT: &[Engine] = if cfg!(feature = "rocksdb") {
    &[Engine::File, Engine::Redb, Engine::Rocksdb]
} else {
    &[Engine::File, Engine::Redb]
};

/// What the first budget of a component of 1,000,000 keys takes, and how long its
/// neighbour's calls take before that and meanwhile.
///
/// The neighbour has 10,000 keys and a quota, and no cache hides the store. Its
/// calls are as durable as they are by default.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench ledger", bin_name = "cargo xtask bench ledger")]
struct Arguments {
    /// The engines to measure; all that the program was built with, if none.
    #[arg(long = "engine", value_delimiter = ',')]
    engines: Vec<Engine>,
    /// A twentieth of the keys: to see that it works.
    #[arg(long)]
    quick: bool,
    /// Where to put the stores, on the file system to be measured; they are
    /// removed afterwards.
    #[arg(long, value_name = "PATH", default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
}

const LARGE: &str = "bench/large/1";
const NEIGHBOUR: &str = "bench/small/1";
const NEIGHBOUR_KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 100;

/// For how long the neighbour is measured before.
const BEFORE: Duration = Duration::from_secs(5);

/// How many keys the file store is given between two openings: fewer than it
/// makes durable by itself.
const KEYS_AN_OPENING: u64 = 50_000;

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
    let engines = if arguments.engines.is_empty() { BUILT } else { &arguments.engines };
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let keys = size.pick(1_000_000, 50_000) as u64;
    println!("{}, {}\n", machine::describe(), machine::file_system(&arguments.folder)?);
    println!(
        "| store | keys counted | in | neighbour's get, before: median, longest | meanwhile | set, before | meanwhile | sets meanwhile |\n|---|---|---|---|---|---|---|---|"
    );
    for engine in engines {
        let folder = tempfile::tempdir_in(&arguments.folder)
            .with_context(|| format!("cannot make a folder in {}", arguments.folder.display()))?;
        let load = machine::load();
        println!("{}", measure(*engine, &folder.path().join("store"), keys)?);
        eprintln!("load before and after: {load} and {}", machine::load());
    }
    Ok(())
}

fn open(engine: Engine, path: &Path, durable: bool) -> Result<Arc<dyn Store>> {
    let durability = if durable { Durability::Sync } else { Durability::Os };
    Ok(match engine {
        Engine::File => {
            let options = FileOptions::default().with_durability(durability);
            Arc::new(FileStorage::open(path, options)?)
        }
        Engine::Redb => {
            let relaxed = if durable { Durability::Sync } else { Durability::Interval };
            let options = RedbOptions::default().with_durability(relaxed);
            Arc::new(RedbStorage::open(path, options)?)
        }
        #[cfg(feature = "rocksdb")]
        Engine::Rocksdb => {
            let options = RocksDbOptions::default().with_durability(durability);
            Arc::new(RocksDbStorage::open(path, options)?)
        }
        #[cfg(not(feature = "rocksdb"))]
        Engine::Rocksdb => bail!("built without RocksDB: add --features rocksdb"),
    })
}

/// Fills a store, and closes it.
fn load(engine: Engine, path: &Path, keys: u64) -> Result<()> {
    let value = || StorageValue::from(vec![b'v'; VALUE_BYTES]);
    let neighbours = (0..NEIGHBOUR_KEYS).map(|n| format!("{NEIGHBOUR}/{}", key(n)));
    let every = (0..keys).map(|n| format!("{LARGE}/{}", key(n))).chain(neighbours);
    let mut every = every.peekable();
    while every.peek().is_some() {
        let storage = open(engine, path, false)?;
        let some: Vec<String> = every.by_ref().take(usize::try_from(KEYS_AN_OPENING)?).collect();
        if engine == Engine::File {
            some.iter().try_for_each(|key| storage.set(key, value()))?;
        } else {
            for some in some.chunks(1_000) {
                let set = |commit: Commit, key: &String| commit.set(key, value());
                storage.commit(some.iter().fold(Commit::new(), set))?;
            }
            storage.flush()?;
        }
    }
    machine::settle();
    Ok(())
}

fn key(number: u64) -> String {
    format!("item-{number:07}")
}

/// The times of a neighbour's calls, in seconds.
#[derive(Debug, Default)]
struct Times {
    gets: Vec<f64>,
    sets: Vec<f64>,
}

fn median_and_longest(times: &[f64]) -> String {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let at = |place: usize| times.get(place).copied().map_or_else(|| "-".to_owned(), report::time);
    format!("{}, {}", at(times.len() / 2), at(times.len().saturating_sub(1)))
}

fn measure(engine: Engine, path: &Path, keys: u64) -> Result<String> {
    eprintln!("{engine:?}: {keys} keys are written");
    load(engine, path, keys)?;
    let backend = open(engine, path, true)?;
    let quota = Some(Budget { max_bytes: 1 << 40, max_keys: 1 << 40 });
    let settings = ComponentSettings { quota, ..ComponentSettings::default() };
    let no_cache = CacheConfig { max_entries: 0, ..CacheConfig::default() };
    let host = StorageHost::builder(backend).cache(no_cache).defaults(settings).build();
    let id = |text: &str| text.parse::<ComponentId>();
    let (large, neighbour) = (host.component(&id(LARGE)?), host.component(&id(NEIGHBOUR)?));
    // Its own ledger is there before.
    neighbour.set("first", "".into())?;

    let call_until = |over: &dyn Fn() -> bool| -> Result<Times, StorageError> {
        let mut times = Times::default();
        let mut number = 0_u64;
        while !over() {
            number += 1;
            let key = key(number * 7919 % NEIGHBOUR_KEYS);
            let begun = Instant::now();
            neighbour.get(&key)?;
            times.gets.push(begun.elapsed().as_secs_f64());
            let begun = Instant::now();
            neighbour.set(&key, vec![b'w'; VALUE_BYTES].into())?;
            times.sets.push(begun.elapsed().as_secs_f64());
        }
        Ok(times)
    };
    let begun = Instant::now();
    let before = call_until(&|| begun.elapsed() >= BEFORE)?;

    let counted = AtomicBool::new(false);
    let (took, meanwhile) = thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let begun = Instant::now();
            let set = large.set("first", "".into());
            counted.store(true, Ordering::Release);
            set.map(|()| begun.elapsed())
        });
        let meanwhile = call_until(&|| counted.load(Ordering::Acquire));
        match counting.join() {
            Ok(took) => Ok((took?, meanwhile?)),
            Err(_) => bail!("the count panicked"),
        }
    })?;
    let used = large.component_usage()?;
    let each = (key(0).len() + VALUE_BYTES) as u64;
    ensure!(used.key_count == keys + 1, "{used:?} was counted of {keys} keys");
    ensure!(used.used_bytes == keys * each + "first".len() as u64, "{used:?} was counted");
    Ok(format!(
        "| {} | {keys} | {:.2} s | {} | {} | {} | {} | {} |",
        format!("{engine:?}").to_lowercase(),
        took.as_secs_f64(),
        median_and_longest(&before.gets),
        median_and_longest(&meanwhile.gets),
        median_and_longest(&before.sets),
        median_and_longest(&meanwhile.sets),
        meanwhile.sets.len(),
    ))
}
