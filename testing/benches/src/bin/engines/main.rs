//! Each store against what lies below it, in one run: the file store against
//! bare system calls, the redb store against redb, the RocksDB store against
//! RocksDB.
//!
//! `cargo xtask bench engines --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

mod data;
mod figures;
mod file;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocks;
#[cfg(feature = "rocksdb")]
mod rocks_raw;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use benches::{Size, machine};
use clap::{Parser, ValueEnum};

use figures::Figures;

/// Which engine to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// The file store against bare system calls.
    File,
    /// The redb store against redb.
    Redb,
    /// The RocksDB store against RocksDB.
    Rocksdb,
}

/// The engines that the program was built with.
const BUILT: &[Engine] = if cfg!(feature = "rocksdb") {
    &[Engine::File, Engine::Redb, Engine::Rocksdb]
} else {
    &[Engine::File, Engine::Redb]
};

/// Each store against what lies below it, measured in turns.
///
/// Prints, as tables, the medians of what both sides took and of their ratio,
/// and whether that meets its target. Both sides hold the same data, which is
/// compared before and after.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench engines", bin_name = "cargo xtask bench engines")]
struct Arguments {
    /// The engines to measure; all that the program was built with, if none.
    #[arg(long = "engine", value_delimiter = ',')]
    engines: Vec<Engine>,
    /// A tenth of the keys and few rounds: to see that it works.
    #[arg(long)]
    quick: bool,
    /// Where to put the stores, on the file system to be measured; they are
    /// removed afterwards.
    #[arg(long, value_name = "PATH", default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
}

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
    let file_system = machine::file_system(&arguments.folder)?;
    println!("{}, {file_system}\n", machine::describe());
    let mut figures = Vec::new();
    for engine in engines {
        let folder = tempfile::tempdir_in(&arguments.folder)
            .with_context(|| format!("cannot make a folder in {}", arguments.folder.display()))?;
        machine::settle();
        let load = machine::load();
        figures.push(measure(*engine, folder.path(), size)?);
        println!("load before and after: {load} and {}\n", machine::load());
        fs::remove_dir_all(folder.path())?;
    }
    println!("{}", figures::figures(&figures));
    Ok(())
}

fn measure(engine: Engine, folder: &Path, size: Size) -> Result<Figures> {
    match engine {
        Engine::File => file::run(folder, size),
        Engine::Redb => redb::run(folder, size),
        #[cfg(feature = "rocksdb")]
        Engine::Rocksdb => rocks::run(folder, size),
        #[cfg(not(feature = "rocksdb"))]
        Engine::Rocksdb => anyhow::bail!("built without RocksDB: add --features rocksdb"),
    }
}
