//! `storage-host serve` under load.
//!
//! `cargo xtask bench serve --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

mod connections;
mod load;
mod server;
mod sides;
mod turns;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use benches::machine;
use clap::Parser;

use crate::sides::Programs;

/// Measure `storage-host serve` under load, and `wasmtime serve` in turns with it.
///
/// Any answer that is not the expected one, and any acknowledged entry that is missing at the
/// end, fails the benchmark.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench serve", bin_name = "cargo xtask bench serve")]
struct Arguments {
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = ["load", "connections"])]
    part: Vec<Part>,
    /// How long the load lasts in all.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// How many connections there are at a time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    connections: Vec<usize>,
    /// Measure only the requests whose names contain this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    requests: String,
    /// A tenth of the time.
    #[arg(long)]
    quick: bool,
    /// The program `wasmtime`.
    #[arg(long, env = "WASMTIME", value_name = "PATH", default_value = "wasmtime")]
    wasmtime: PathBuf,
    /// The directory for the stores, on the file system to measure. They are removed
    /// afterwards.
    #[arg(long, value_name = "PATH", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
    /// The program `storage-host`.
    #[arg(long, value_name = "PATH")]
    storage_host: PathBuf,
    /// The directory of the components.
    #[arg(long, value_name = "PATH")]
    guests: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Throughput and latency.
    Load,
    /// The memory of a server with 1,000 idle connections.
    Connections,
}

fn main() -> ExitCode {
    benches::exit_code(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let parent = &arguments.directory;
    let directory = tempfile::tempdir_in(parent)
        .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
    let programs = Programs {
        storage_host: &arguments.storage_host,
        wasmtime: &arguments.wasmtime,
        guests: &arguments.guests,
    };
    // The servers need the processors more than the clients do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}, {}", machine::describe(), machine::file_system(parent)?);
    println!("load average {}\n", machine::load());
    if arguments.part.contains(&Part::Load) {
        let plan = turns::Plan {
            time: Duration::from_secs(arguments.seconds) / if arguments.quick { 10 } else { 1 },
            rounds: if arguments.quick { 1 } else { 5 },
            connections: &arguments.connections,
            requests: &arguments.requests,
        };
        println!("{}", turns::measure(&programs, &runtime, directory.path(), &plan)?);
    }
    if arguments.part.contains(&Part::Connections) {
        println!("{}", connections::measure(&programs, &runtime, directory.path())?);
    }
    println!("load average {}", machine::load());
    Ok(())
}
