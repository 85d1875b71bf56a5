//! The workspace's own checks and chores. `cargo xtask --help` lists them.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

mod bench;
mod checks;
mod dependencies;
mod durability;
mod fuzz;
mod guests;
mod layers;
mod licences;
mod limit;
mod models;
mod mutants;
mod packages;
mod rocksdb;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The workspace's own checks and chores.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything that must pass before a push, and show what each step took.
    ///
    /// Formatting, the checks below, clippy on each feature set, all tests and
    /// doctests, and the documentation. It stops at the first step that fails
    /// and prints the command that repeats it.
    ///
    /// RocksDB is tested too where libclang is there, or can be installed (as
    /// root on Debian); its C++ takes many minutes the first time.
    Test {
        /// Leave out what needs RocksDB.
        #[arg(long)]
        fast: bool,
    },
    /// Check which of our crates depends on which, and what each feature brings.
    CheckLayers,
    /// Check the licence and the source of every dependency against deny.toml.
    Licences,
    /// Rewrite the README's table of what each crate and feature brings.
    Dependencies {
        /// Change nothing; fail if the table is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Build the guests of examples/guests and record what they were built from.
    Guests {
        /// Build nothing; fail if the built files do not belong to the sources.
        #[arg(long)]
        check: bool,
    },
    /// Cut the power, fail the disk and damage the files under every store, and
    /// see that nothing acknowledged is lost.
    ///
    /// `cargo xtask durability --help` shows the parts and options. Parts that
    /// the machine cannot run say SKIPPED and why.
    #[command(disable_help_flag = true)]
    Durability {
        /// Passed on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run every pair and triple of cache operations in random interleavings.
    ///
    /// shuttle, a scheduler, chooses which thread runs next; a seed repeats its
    /// choices.
    Models(models::Arguments),
    /// Run the fuzz targets with cargo-fuzz and libFuzzer.
    ///
    /// Needs a C++ compiler. Installs cargo-fuzz if it is missing. Starts with the
    /// inputs in testing/fuzz/corpus and keeps new ones in target/fuzz/found. Stops
    /// when a target finds a bug; the input is then in testing/fuzz/artifacts.
    Fuzz(fuzz::Arguments),
    /// Measure what is claimed in docs/benchmarks.md.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Break one line at a time and see that a test notices.
    ///
    /// Each patch in xtask/mutants is applied to a copy of the tree, and its
    /// tests are run. Fails if they pass, or if the patch no longer applies or
    /// compiles.
    Mutants {
        /// The mutants to try, by the names of their files or by what several
        /// of these begin with; all, if none.
        names: Vec<String>,
        /// Show what each mutant breaks and which tests should notice; run nothing.
        #[arg(long)]
        list: bool,
        /// How long tests may run on a mutant, in seconds; longer counts as killed.
        #[arg(long, value_name = "SECONDS", default_value_t = 120)]
        timeout: u64,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// Compare each store with what it is built on.
    ///
    /// `cargo xtask bench engines --help` shows the options. RocksDB's C++ takes minutes
    /// to compile: `--engine file,redb` avoids it.
    #[command(disable_help_flag = true)]
    Engines {
        /// Arguments for the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure the first budget of a large component.
    ///
    /// `cargo xtask bench usage-counter --help` shows the options. RocksDB's C++ takes minutes
    /// to compile: `--engine file,redb` avoids it.
    #[command(disable_help_flag = true)]
    UsageCounter {
        /// Arguments for the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Compare the cache with other caches.
    ///
    /// `cargo xtask bench cache --help` shows the options.
    #[command(disable_help_flag = true)]
    Cache {
        /// Arguments for the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let root = workspace::root()?;
    match command {
        Command::Test { fast } => checks::run(&root, fast),
        Command::CheckLayers => {
            layers::check(&root)?;
            println!("the layers hold");
            Ok(())
        }
        Command::Licences => {
            licences::check(&root)?;
            println!("every licence and source is allowed");
            Ok(())
        }
        Command::Dependencies { check: true } => {
            dependencies::check(&root)?;
            println!("the table is up to date");
            Ok(())
        }
        Command::Dependencies { check: false } => {
            let changed = dependencies::write(&root)?;
            println!("README.md {}", if changed { "rewritten" } else { "was up to date" });
            Ok(())
        }
        Command::Guests { check: true } => {
            guests::check(&root)?;
            println!("the guests belong to their sources");
            Ok(())
        }
        Command::Guests { check: false } => guests::build(&root),
        Command::Bench { what: Bench::Engines { arguments } } => {
            bench::run(&root, "engines", &arguments)
        }
        Command::Bench { what: Bench::UsageCounter { arguments } } => {
            bench::run(&root, "usage-counter", &arguments)
        }
        Command::Bench { what: Bench::Cache { arguments } } => {
            bench::run(&root, "cache", &arguments)
        }
        Command::Durability { arguments } => durability::run(&root, &arguments),
        Command::Fuzz(arguments) => fuzz::run(&root, &arguments),
        Command::Models(arguments) => models::run(&root, &arguments),
        Command::Mutants { names, list: true, .. } => mutants::list(&root, &names),
        Command::Mutants { names, timeout, .. } => {
            mutants::run(&root, &names, Duration::from_secs(timeout))
        }
    }
}
