//! How long the first budget of a large component takes, and how long calls of another
//! component take during the count.
//!
//! `cargo xtask bench usage-counter --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use benches::{Engine, Size, machine, report};
use clap::Parser;
use storage_host::{
    Budget, CacheConfig, Commit, ComponentId, ComponentSettings, ComponentStorage as _,
    StorageError, StorageHost, StorageValue, Store as _,
};

/// Measure how long the first budget of a component of 1,000,000 keys takes, and how
/// long calls of another component, the neighbour, take before and during the count.
///
/// The neighbour has 10,000 keys and a quota. There is no cache, and writes are synced.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench usage-counter", bin_name = "cargo xtask bench usage-counter")]
struct Arguments {
    /// The engines to measure [default: all in this build].
    #[arg(long = "engine", value_delimiter = ',')]
    engines: Vec<Engine>,
    /// Use a twentieth of the keys.
    #[arg(long)]
    quick: bool,
    /// The directory for the stores, on the file system to measure. They are removed
    /// afterwards.
    #[arg(long, value_name = "PATH", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

const LARGE: &str = "bench/large/1";
const NEIGHBOUR: &str = "bench/small/1";
const NEIGHBOUR_KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 100;

/// How long the neighbour is measured before the count.
const BEFORE: Duration = Duration::from_secs(5);

/// Keys written per opening: so few that the file store does not sync them.
const KEYS_PER_OPENING: u64 = 50_000;

fn main() -> ExitCode {
    benches::exit_code(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engines = if arguments.engines.is_empty() { Engine::BUILT } else { &arguments.engines };
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let keys = size.pick(1_000_000, 50_000) as u64;
    println!("{}, {}\n", machine::describe(), machine::file_system(&arguments.directory)?);
    println!(
        "| store | keys counted | in | neighbour's get, before: median, longest | during | set, before | during | sets during |\n|---|---|---|---|---|---|---|---|"
    );
    for engine in engines {
        let parent = &arguments.directory;
        let directory = tempfile::tempdir_in(parent)
            .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
        let load = machine::load();
        println!("{}", measure(*engine, &directory.path().join("store"), keys)?);
        eprintln!("load {load} before, {} after", machine::load());
    }
    Ok(())
}

/// Fills a store.
fn load(engine: Engine, path: &Path, keys: u64) -> Result<()> {
    let value = || StorageValue::from(vec![b'v'; VALUE_BYTES]);
    let neighbours = (0..NEIGHBOUR_KEYS).map(|n| format!("{NEIGHBOUR}/{}", key(n)));
    let every = (0..keys).map(|n| format!("{LARGE}/{}", key(n))).chain(neighbours);
    let mut every = every.peekable();
    while every.peek().is_some() {
        let storage = engine.open(path, false)?;
        let some: Vec<String> = every.by_ref().take(usize::try_from(KEYS_PER_OPENING)?).collect();
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

/// Times of the neighbour's calls, in seconds.
#[derive(Debug, Default)]
struct Times {
    gets: Vec<f64>,
    sets: Vec<f64>,
}

fn median_and_longest(times: &[f64]) -> String {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().map_or_else(|| "-".to_owned(), report::time);
    format!("{}, {}", at(times.len() / 2), at(times.len().saturating_sub(1)))
}

fn measure(engine: Engine, path: &Path, keys: u64) -> Result<String> {
    eprintln!("{engine}: writing {keys} keys");
    load(engine, path, keys)?;
    let store = engine.open(path, true)?;
    let quota = Some(Budget { max_bytes: 1 << 40, max_keys: 1 << 40 });
    let settings = ComponentSettings { quota, ..ComponentSettings::default() };
    let no_cache = CacheConfig { max_entries: 0, ..CacheConfig::default() };
    let host = StorageHost::builder(store).cache(no_cache).defaults(settings).build();
    let id = |text: &str| text.parse::<ComponentId>();
    let (large, neighbour) = (host.component(&id(LARGE)?), host.component(&id(NEIGHBOUR)?));
    // Creates the usage counter of the neighbour.
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
    ensure!(used.key_count == keys + 1, "counted {} keys instead of {}", used.key_count, keys + 1);
    ensure!(
        used.used_bytes == keys * each + "first".len() as u64,
        "counted {} bytes",
        used.used_bytes
    );
    Ok(format!(
        "| {engine} | {keys} | {:.2} s | {} | {} | {} | {} | {} |",
        took.as_secs_f64(),
        median_and_longest(&before.gets),
        median_and_longest(&meanwhile.gets),
        median_and_longest(&before.sets),
        median_and_longest(&meanwhile.sets),
        meanwhile.sets.len(),
    ))
}
