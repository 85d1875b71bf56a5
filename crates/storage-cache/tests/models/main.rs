//! Models of the cache: every pair and every triple of operations, on threads
//! whose interleavings shuttle chooses. `cargo xtask models` runs them.
#![cfg(shuttle)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test helpers"
)]

mod coherence;
mod execution;
mod history;
mod operation;
mod scenario;
mod scheduler;
mod storage;

use std::env;
use std::fmt::{Arguments, Write as _};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use execution::execute;
use operation::Operation;
use scheduler::SeededScheduler;

/// How many schedules of one model run before the next model's turn.
const SCHEDULES_PER_TURN: u64 = 200;

/// An execution with more steps is taken to be endless.
const MAX_STEPS: usize = 100_000;

/// Receives the events of an execution, line by line.
type Trace = Arc<dyn Fn(Arguments<'_>) + Send + Sync>;

/// An execution that broke a rule.
struct Failure {
    operations: Vec<Operation>,
    seed: u64,
    problem: String,
}

/// `cargo xtask models` sets the variables.
#[test]
fn concurrent_operations_are_linearizable() {
    silence_shuttle();
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let names = env::var("MODELS_OPERATIONS").unwrap_or_default();
    let wanted: Vec<Operation> = names.split_whitespace().map(Operation::named).collect();
    if let Some(seed) = number("MODELS_REPLAY") {
        let replayed = run(&wanted, seed..seed + 1, &print());
        replayed.unwrap_or_else(|failure| panic!("{}", failure.problem));
        return;
    }
    let seconds = number("MODELS_SECONDS").unwrap_or(60);
    let models = models_with(&wanted);
    assert!(!models.is_empty(), "no pair or triple contains {wanted:?}");
    match run_all(&models, number("MODELS_SEED").unwrap_or(1), Duration::from_secs(seconds)) {
        Ok(count) => println!("{count} schedules of {} models in {seconds} s", models.len()),
        Err(Failure { operations, seed, problem }) => {
            // Once more, this time with a trace.
            drop(run(&operations, seed..seed + 1, &print()));
            let names: Vec<String> = operations.iter().map(Operation::name).collect();
            panic!("{problem}\nrepeat: cargo xtask models {} --replay {seed}", names.join(" "));
        }
    }
}

/// Without this, a failure could not be replayed.
#[test]
fn a_seed_decides_the_whole_execution() {
    silence_shuttle();
    let operations = ["get", "commit", "panic"].map(Operation::named);
    let trace = |seed| {
        let lines = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&lines);
        let trace: Trace =
            Arc::new(move |line| writeln!(written.lock().unwrap(), "{line}").unwrap());
        assert!(run(&operations, seed..seed + 1, &trace).is_ok());
        let lines = lines.lock().unwrap();
        lines.clone()
    };
    for seed in 1..=20 {
        assert_eq!(trace(seed), trace(seed));
    }
}

fn print() -> Trace {
    Arc::new(|line| println!("{line}"))
}

/// Every pair and triple of operations that contains all of `wanted`, each as
/// often as it is named.
fn models_with(wanted: &[Operation]) -> Vec<Vec<Operation>> {
    let all = Operation::ALL;
    let mut models = Vec::new();
    for (first, one) in all.iter().enumerate() {
        for (second, two) in all.iter().enumerate().skip(first) {
            models.push(vec![*one, *two]);
            models.extend(all.iter().skip(second).map(|three| vec![*one, *two, *three]));
        }
    }
    let count = |of: &[Operation], which| of.iter().filter(|one| *one == which).count();
    models.retain(|model| wanted.iter().all(|which| count(model, which) >= count(wanted, which)));
    models
}

/// Runs the models in turn on all processors until the time is up or one fails.
/// Returns the number of schedules.
fn run_all(models: &[Vec<Operation>], seed: u64, time: Duration) -> Result<u64, Failure> {
    let (began, turns) = (Instant::now(), AtomicU64::new(0));
    let failure = Mutex::new(None);
    let trace: Trace = Arc::new(|_| ());
    let work = || {
        while began.elapsed() < time && failure.lock().unwrap().is_none() {
            let turn = turns.fetch_add(1, Ordering::Relaxed);
            let first = seed.wrapping_add(turn.wrapping_mul(SCHEDULES_PER_TURN));
            let model = &models[turn as usize % models.len()];
            if let Err(found) = run(model, first..first + SCHEDULES_PER_TURN, &trace) {
                failure.lock().unwrap().get_or_insert(found);
            }
        }
    };
    let threads = available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    match failure.into_inner().unwrap() {
        Some(failure) => Err(failure),
        None => Ok(turns.into_inner() * SCHEDULES_PER_TURN),
    }
}

/// Runs one execution for each seed, until one fails.
fn run(operations: &[Operation], seeds: Range<u64>, trace: &Trace) -> Result<(), Failure> {
    let current = Arc::new(AtomicU64::new(seeds.start));
    let problem: Arc<Mutex<Option<String>>> = Arc::default();
    let found = Arc::clone(&problem);
    // A problem ends the run here: a panic would make shuttle print its own report.
    let seeds = seeds.take_while(move |_| found.lock().unwrap().is_none());
    let scheduler = SeededScheduler::new(seeds, Arc::clone(&current));
    let once = {
        let (operations, trace) = (operations.to_vec(), Arc::clone(trace));
        let (problem, current) = (Arc::clone(&problem), Arc::clone(&current));
        move || {
            let executed = execute(&operations, current.load(Ordering::Relaxed), &*trace);
            *problem.lock().unwrap() = executed.err();
        }
    };
    let ended = catch_unwind(AssertUnwindSafe(|| Runner::new(scheduler, config()).run(once)));
    let found = problem.lock().unwrap().take();
    let problem = match (found, ended) {
        (None, Ok(_)) => return Ok(()),
        (Some(problem), _) => problem,
        // A deadlock, or a panic in the cache.
        (None, Err(panic)) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or(panic.downcast_ref().cloned()).unwrap_or_else(|| "a panic".to_owned())
        }
    };
    let seed = current.load(Ordering::Relaxed);
    Err(Failure { operations: operations.to_vec(), seed, problem })
}

fn config() -> Config {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    // It warns that it tries sequentially consistent orders only.
    config.silence_warnings = true;
    // The key locks alone exceed the default.
    config.stack_size = 1 << 18;
    config
}

/// shuttle ends its own threads with panics that have no message.
fn silence_shuttle() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let payload = panic.payload();
        if payload.is::<&str>() || payload.is::<String>() {
            report(panic);
        }
    }));
}
