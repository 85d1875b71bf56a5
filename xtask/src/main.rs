//! Checks and chores of this workspace: `cargo xtask --help`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

mod bench;
mod checks;
mod deny;
mod dependencies;
mod drill;
mod durability;
mod fuzz;
mod guests;
mod layers;
mod limit;
mod models;
mod mutants;
mod packages;
mod platforms;
mod rocksdb;
mod servers;
mod tidy;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Checks and chores of this workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every check that must pass before a push, and show how long each took.
    ///
    /// Stops at the first step that fails and prints the command that repeats it.
    /// Steps that this machine cannot run print SKIPPED and the reason.
    ///
    /// Includes RocksDB if libclang is installed, or can be installed (as root on
    /// Debian). Its C++ takes many minutes to compile the first time.
    Test {
        /// Omit the steps that need RocksDB.
        #[arg(long)]
        fast: bool,
    },
    /// Check which of our crates depend on which, and what each feature adds.
    CheckLayers,
    /// Check the words of the glossary and the length of files.
    Tidy {
        /// Print how often each rejected term occurs.
        #[arg(long)]
        count: bool,
    },
    /// Check licences, sources and advisories of every dependency with cargo-deny.
    Deny,
    /// Compile the libraries with the oldest supported Rust.
    Msrv,
    /// Compile the libraries for Windows and macOS.
    Platforms,
    /// Package the libraries as `cargo publish` does.
    Package,
    /// Rewrite the README's table of dependencies.
    Dependencies {
        /// Change nothing. Fail if the table is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Build the guests of examples/guests and record the hashes of their sources.
    Guests {
        /// Build nothing. Fail if a source has changed since the guests were built.
        #[arg(long)]
        check: bool,
    },
    /// Test every store with power cuts, failing disks and damaged files: no
    /// acknowledged write may be lost.
    ///
    /// `cargo xtask durability --help` shows the parts and options. Parts that
    /// the machine cannot run say SKIPPED and why.
    #[command(disable_help_flag = true)]
    Durability {
        /// Arguments for the suite.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Export, import, wipe and copy a store of a million keys while guests write.
    ///
    /// Compares every store byte for byte, and prints how long each step took and how much
    /// memory it used. `cargo xtask drill --help` shows how to make it shorter.
    #[command(disable_help_flag = true)]
    Drill {
        /// Arguments for the drill.
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
    /// Break one line at a time and check that a test detects it.
    ///
    /// Each mutant in xtask/mutants is applied to a copy of the tree, and its tests
    /// run. Fails if they pass, if the changed code does not compile, or if the
    /// sources have changed so that the mutant no longer applies.
    Mutants {
        /// Mutants to try, by name or by a common beginning of several names. Default: all.
        names: Vec<String>,
        /// Show what each mutant breaks and which tests should detect it. Run nothing.
        #[arg(long)]
        list: bool,
        /// How long tests may run on a mutant. Longer counts as killed.
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
    /// Measure the PostgreSQL store on a running server.
    ///
    /// `cargo xtask bench postgres --help` shows the options.
    #[command(disable_help_flag = true)]
    Postgres {
        /// Arguments for the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure the Redis store, and beside it the PostgreSQL store.
    ///
    /// Starts its servers. `cargo xtask bench redis --help` shows the options.
    #[command(disable_help_flag = true)]
    Redis {
        /// Arguments for the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure what storage calls cost a guest.
    ///
    /// `cargo xtask bench guests --help` shows the options. wasmtime takes minutes to
    /// compile the first time.
    #[command(disable_help_flag = true)]
    Guests {
        /// Arguments for the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure storage calls of guests in an asynchronous host.
    ///
    /// `cargo xtask bench async --help` shows the options.
    #[command(disable_help_flag = true)]
    Async {
        /// Arguments for the benchmark.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure `storage-host serve` under load, in turns with `wasmtime serve`.
    ///
    /// `cargo xtask bench serve --help` shows the options. Without the program `wasmtime` only
    /// our server is measured.
    #[command(disable_help_flag = true)]
    Serve {
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
        Command::CheckLayers => layers::check(&root),
        Command::Tidy { count } => tidy::run(&root, count),
        Command::Deny => deny::check(&root),
        Command::Msrv => platforms::msrv(&root),
        Command::Platforms => platforms::check(&root),
        Command::Package => platforms::package(&root),
        Command::Dependencies { check: true } => dependencies::check(&root),
        Command::Dependencies { check: false } => {
            let changed = dependencies::write(&root)?;
            println!("README.md {}", if changed { "rewritten" } else { "is up to date" });
            Ok(())
        }
        Command::Guests { check: true } => guests::check(&root),
        Command::Guests { check: false } => guests::build(&root),
        Command::Bench { what: Bench::Engines { arguments } } => {
            bench::run(&root, "engines", &arguments)
        }
        Command::Bench { what: Bench::UsageCounter { arguments } } => {
            bench::run(&root, "usage-counter", &arguments)
        }
        Command::Bench { what: Bench::Postgres { arguments } } => {
            bench::run(&root, "postgres", &arguments)
        }
        Command::Bench { what: Bench::Redis { arguments } } => {
            bench::run(&root, "redis", &arguments)
        }
        Command::Bench { what: Bench::Guests { arguments } } => {
            bench::run(&root, "guests", &arguments)
        }
        Command::Bench { what: Bench::Async { arguments } } => {
            bench::run(&root, "async-calls", &arguments)
        }
        Command::Bench { what: Bench::Serve { arguments } } => {
            bench::run(&root, "serve", &arguments)
        }
        Command::Bench { what: Bench::Cache { arguments } } => {
            bench::run(&root, "cache", &arguments)
        }
        Command::Durability { arguments } => durability::run(&root, &arguments),
        Command::Drill { arguments } => drill::run(&root, &arguments),
        Command::Fuzz(arguments) => fuzz::run(&root, &arguments),
        Command::Models(arguments) => models::run(&root, &arguments),
        Command::Mutants { names, list: true, .. } => mutants::list(&root, &names),
        Command::Mutants { names, timeout, .. } => {
            mutants::run(&root, &names, Duration::from_secs(timeout))
        }
    }
}
