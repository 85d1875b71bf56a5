//! What a storage call costs in an asynchronous host, and how long other tasks wait while
//! guests write.
//!
//! `cargo xtask bench async --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command reports to its user")]

mod guest;
mod heartbeat;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use benches::measure::{self, Plan};
use benches::report::{self, Row, Target};
use benches::{Engine, Size, machine};
use clap::Parser;
use storage_host::{CacheConfig, StorageHost, Store};

use crate::guest::{Guest, Runtimes, failed};

/// Measure storage calls of guests in a synchronous and in an asynchronous linker, and how
/// late a timer is while 64 guests write to a store that takes half a second.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench async", bin_name = "cargo xtask bench async")]
struct Arguments {
    /// Measure few rounds.
    #[arg(long)]
    quick: bool,
    /// The directory for the stores, on the file system to measure. They are removed
    /// afterwards.
    #[arg(long, value_name = "PATH", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

fn main() -> ExitCode {
    benches::exit_code(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let parent = &arguments.directory;
    let directory = tempfile::tempdir_in(parent)
        .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
    println!("{}, {}\n", machine::describe(), machine::file_system(parent)?);
    let runtimes = Runtimes::new()?;
    let rows = calls(&runtimes, directory.path(), size)?;
    println!("{}", report::comparisons(["async", "sync"], &rows));
    println!("{}", heartbeat::table(&runtimes, size)?);
    Ok(())
}

/// Each kind of call in both linkers.
fn calls(runtimes: &Runtimes, directory: &Path, size: Size) -> Result<Vec<Row>> {
    let store = Engine::Redb.open(&directory.join("store"), false)?;
    let (cached, uncached) = (host(&store, CacheConfig::default()), host(&store, NO_CACHE));
    let plan = |operations: usize| Plan {
        rounds: size.pick(51, 5),
        operations: size.pick(operations, operations / 10),
        turn: size.pick(operations, operations / 10) / 10,
    };
    let mut rows = Vec::new();
    for (what, host, function, operations, one_thread) in [
        ("get, cached", &cached, "gets", 20_000, true),
        ("get, not cached, several threads", &uncached, "gets", 5_000, false),
        ("get, not cached, one thread", &uncached, "gets", 2_000, true),
        ("set, not synced", &cached, "sets", 1_000, true),
    ] {
        let mut sync = Guest::sync(host).map_err(failed)?;
        sync.call("sets", 1).map_err(failed)?;
        let runtime = if one_thread { runtimes.one_thread() } else { runtimes.several_threads() };
        let mut asynchronous = Guest::asynchronous(host, runtime).map_err(failed)?;
        let allocations = [&mut asynchronous, &mut sync]
            .map(|guest| guest.call(function, 100).and_then(|()| guest.allocations(function, 100)));
        let [by_async, by_sync] = allocations;
        let (by_async, by_sync) = (by_async.map_err(failed)?, by_sync.map_err(failed)?);
        let what = format!("{what} ({by_async} and {by_sync} allocations)");
        let compared = measure::compare(
            plan(operations),
            &mut |numbers| asynchronous.call(function, numbers.len()).map_err(failed),
            &mut |numbers| sync.call(function, numbers.len()).map_err(failed),
        )?;
        rows.push(Row::new(&what, compared, Target::Time));
    }
    Ok(rows)
}

const NO_CACHE: CacheConfig = CacheConfig { max_entries: 0, ttl: None, max_size_bytes: 0 };

fn host(store: &Arc<dyn Store>, cache: CacheConfig) -> StorageHost {
    StorageHost::builder(Arc::clone(store)).cache(cache).build()
}
