//! Every two and every three operations of the cache on threads of shuttle, in
//! random interleavings.
//!
//! `cargo xtask models --help`
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

mod action;
mod below;
mod history;
mod model;
mod operation;
mod plan;
mod random;
mod run;
mod scheduler;
mod setup;
mod values;

use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum as _};

use operation::Operation;
use plan::{Budget, Plan};
use run::Failure;

/// Runs the cache's own source on a scheduler that tries its interleavings.
///
/// Every two and every three operations meet in one key, from a random state of
/// cache and storage. What each saw, and what is cached in the end, must be what
/// a storage that does one thing at a time could have shown.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask models", bin_name = "cargo xtask models")]
struct Arguments {
    /// Only models in which each of these takes part.
    operations: Vec<Operation>,
    /// How many schedules of each pair of operations.
    #[arg(long, value_name = "SCHEDULES", default_value_t = 100_000)]
    pairs: u64,
    /// How many of each triple.
    #[arg(long, value_name = "SCHEDULES", default_value_t = 10_000)]
    triples: u64,
    /// As many as are done in this time, each model's turn after the other's.
    #[arg(long, conflicts_with_all = ["pairs", "triples"])]
    seconds: Option<u64>,
    /// The same as --seconds 60.
    #[arg(long, conflicts_with_all = ["pairs", "triples", "seconds"])]
    short: bool,
    /// What random numbers begin with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// On how many processors; all, if not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Run the one schedule of this seed, of exactly the operations that are named,
    /// and show what happens in it.
    #[arg(long, value_name = "SEED", requires = "operations")]
    replay: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.replay {
        Some(seed) => run::replay(arguments.operations, seed, |line| println!("{line}")),
        None => models(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.problem);
            ExitCode::FAILURE
        }
    }
}

fn models(arguments: &Arguments) -> Result<(), Failure> {
    let budget = match arguments.seconds.or(arguments.short.then_some(60)) {
        Some(seconds) => Budget::Time(Duration::from_secs(seconds)),
        None => Budget::Executions { pairs: arguments.pairs, triples: arguments.triples },
    };
    let plan = Plan::new(&arguments.operations, budget, arguments.seed);
    let (pairs, triples) = plan.models();
    println!("{pairs} pairs and {triples} triples of operations");
    let threads = arguments.threads.or(available_parallelism().ok().map(usize::from));
    let start = Instant::now();
    let done = run::carry_out(&plan, threads.unwrap_or(1)).inspect_err(show)?;
    let [of_pairs, of_triples] = done;
    let seconds = start.elapsed().as_secs_f64();
    let rate = (of_pairs + of_triples) as f64 / seconds;
    println!(
        "ok: {of_pairs} schedules of pairs and {of_triples} of triples in {seconds:.0} s, \
         {rate:.0} in a second"
    );
    Ok(())
}

/// Shows a failure by running it again.
fn show(failure: &Failure) {
    let names = failure.operations.iter().filter_map(|operation| operation.to_possible_value());
    let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
    let names = names.join(" ");
    println!("FAILED: {names}, with the schedule of seed {}", failure.seed);
    let again = run::replay(failure.operations.clone(), failure.seed, |line| println!("  {line}"));
    match again {
        Err(again) if again.problem == failure.problem => {}
        _ => println!("another run of it ended otherwise: something is not decided by the seed"),
    }
    println!("see this again with: cargo xtask models {names} --replay {}", failure.seed);
}
