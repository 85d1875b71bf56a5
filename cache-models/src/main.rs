//! Every two and every three operations of the cache on threads of shuttle, in
//! random interleavings.
//!
//! `cargo xtask models --help`
#![forbid(unsafe_code)]
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

use anyhow::{Result, anyhow, bail};
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
    // Shuttle ends a thread that has nothing more to do by a panic without a text.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some() {
            tell(panic);
        }
    }));
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    if let Some(seed) = arguments.replay {
        return run::replay(arguments.operations, seed, |line| println!("{line}"))
            .map_err(|failure| anyhow!(failure.problem));
    }
    let budget = match arguments.seconds.or(arguments.short.then_some(60)) {
        Some(seconds) => Budget::Time(Duration::from_secs(seconds)),
        None => Budget::Executions { pairs: arguments.pairs, triples: arguments.triples },
    };
    let plan = Plan::new(&arguments.operations, budget, arguments.seed);
    let (pairs, triples) = plan.models();
    if pairs + triples == 0 {
        bail!("no two and no three operations are these");
    }
    println!("{pairs} pairs and {triples} triples of operations");
    if let Some(total) = plan.total() {
        println!("{total} schedules");
    }
    let threads = arguments.threads.or(available_parallelism().ok().map(usize::from));
    let start = Instant::now();
    let done = run::carry_out(&plan, threads.unwrap_or(1), |done| println!("  {done}"));
    match done {
        Ok([of_pairs, of_triples]) => {
            let seconds = start.elapsed().as_secs_f64();
            let rate = (of_pairs + of_triples) as f64 / seconds;
            println!(
                "ok: {of_pairs} schedules of pairs and {of_triples} of triples in {seconds:.0} s, \
                 {rate:.0} in a second"
            );
            Ok(())
        }
        Err(failure) => {
            show(&failure);
            bail!(failure.problem)
        }
    }
}

/// Shows a failure by running it again.
fn show(failure: &Failure) {
    let names = failure.operations.iter().filter_map(|operation| operation.to_possible_value());
    let names: Vec<String> = names.map(|value| value.get_name().to_owned()).collect();
    let names = names.join(" ");
    println!("FAILED: {names}, with the schedule of seed {}", failure.seed);
    let again = run::replay(failure.operations.clone(), failure.seed, |line| println!("  {line}"));
    if !again.is_err_and(|again| again.problem == failure.problem) {
        println!("another run of it ended otherwise: something is not decided by the seed");
    }
    println!("see this again with: cargo xtask models {names} --replay {}", failure.seed);
}
