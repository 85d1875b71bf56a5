//! Compares each store with what it is built on: the file store with system calls, the
//! redb store with redb, the RocksDB store with RocksDB.
//!
//! `cargo xtask bench engines --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command reports to its user")]

mod compare;
mod data;
mod file;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use benches::report::{rate, time};
use benches::{Engine, Size, machine};
use clap::Parser;

/// Compare each store with what it is built on.
///
/// Prints tables of the medians of both sides and of their ratio, with targets and
/// whether they are met. Both sides hold the same data, which is checked.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench engines", bin_name = "cargo xtask bench engines")]
struct Arguments {
    /// The engines to measure [default: all in this build].
    #[arg(long = "engine", value_delimiter = ',')]
    engines: Vec<Engine>,
    /// Use a tenth of the keys and few rounds.
    #[arg(long)]
    quick: bool,
    /// The directory for the stores, on the file system to measure. They are removed
    /// afterwards.
    #[arg(long, value_name = "PATH", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
}

/// What helps to choose an engine. Times are seconds per operation.
#[derive(Debug)]
struct Figures {
    put_by_one: f64,
    put_by_sixteen: f64,
    get: f64,
    listing: f64,
    keys: usize,
    bytes: u64,
}

fn main() -> ExitCode {
    benches::exit_code(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let engines = if arguments.engines.is_empty() { Engine::BUILT } else { &arguments.engines };
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let parent = &arguments.directory;
    println!("{}, {}\n", machine::describe(), machine::file_system(parent)?);
    let mut table = String::from(
        "| engine | synced put, 1 writer | synced put, 16 writers | random get | 10,000 keys listed | on disk |\n|---|---|---|---|---|---|\n",
    );
    for engine in engines {
        let directory = tempfile::tempdir_in(parent)
            .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
        machine::settle();
        let load = machine::load();
        let one = measure(*engine, directory.path(), size)?;
        println!("load {load} before, {} after\n", machine::load());
        table.push_str(&format!(
            "| {engine} | {} | {} | {} | {} | {} MiB for {} keys |\n",
            rate(one.put_by_one),
            rate(one.put_by_sixteen),
            time(one.get),
            time(one.listing),
            one.bytes >> 20,
            one.keys
        ));
    }
    println!("{table}");
    Ok(())
}

fn measure(engine: Engine, directory: &Path, size: Size) -> Result<Figures> {
    match engine {
        Engine::File => file::run(directory, size),
        Engine::Redb => redb::run(directory, size),
        #[cfg(feature = "rocksdb")]
        Engine::Rocksdb => rocksdb::run(directory, size),
        #[cfg(not(feature = "rocksdb"))]
        Engine::Rocksdb => anyhow::bail!("built without RocksDB: add --features rocksdb"),
    }
}
