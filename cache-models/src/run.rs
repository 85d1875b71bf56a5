//! Runs models, on a thread for each processor.

use std::fmt::Arguments;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::model::{Problem, execute};
use crate::operation::Operation;
use crate::plan::{Plan, Turn};
use crate::scheduler::RandomSchedules;

/// An execution that showed what must not be.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) operations: Vec<Operation>,
    pub(crate) seed: u64,
    pub(crate) problem: Problem,
}

/// No execution takes a tenth of this, unless it never ends.
const STEPS: usize = 100_000;

/// After so many executions it tells how far it is.
const PROGRESS: u64 = 500_000;

/// Carries the plan out with so many threads; tells how many executions there
/// were of pairs and of triples, and `progress` how many there are so far.
///
/// # Errors
/// The first failure that is found.
pub(crate) fn carry_out(
    plan: &Plan,
    threads: usize,
    progress: fn(u64),
) -> Result<[u64; 2], Failure> {
    let done = [AtomicU64::new(0), AtomicU64::new(0)];
    let all = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        while let Some(turn) = plan.turn() {
            let which = usize::from(turn.operations.len() > 2);
            let count = turn.seeds.len() as u64;
            if failed.load(Ordering::Relaxed) {
                break;
            }
            take(turn, silent).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            if let Some(done) = done.get(which) {
                done.fetch_add(count, Ordering::Relaxed);
            }
            let sum = all.fetch_add(count, Ordering::Relaxed) + count;
            if sum / PROGRESS > (sum - count) / PROGRESS {
                progress(sum);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(done.map(AtomicU64::into_inner))
}

/// Runs one execution again and shows what happens in it.
pub(crate) fn replay(
    operations: Vec<Operation>,
    seed: u64,
    tell: fn(Arguments<'_>),
) -> Result<(), Failure> {
    take(Turn { operations, seeds: vec![seed] }, tell)
}

fn silent(_: Arguments<'_>) {}

fn take(turn: Turn, tell: fn(Arguments<'_>)) -> Result<(), Failure> {
    let current = Arc::new(AtomicU64::new(0));
    let problem: Arc<Mutex<Option<Problem>>> = Arc::default();
    let found = Arc::clone(&problem);
    // Ends with the first problem, without a panic, of which shuttle would tell
    // in its own way.
    let seeds =
        turn.seeds.into_iter().take_while(move |_| found.lock().is_ok_and(|found| found.is_none()));
    let scheduler = RandomSchedules::new(seeds, Arc::clone(&current));
    let run = {
        let (operations, problem) = (turn.operations.clone(), Arc::clone(&problem));
        move || {
            if let Err(found) = execute(&operations, &tell) {
                *problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            }
        }
    };
    let ended = catch_unwind(AssertUnwindSafe(|| Runner::new(scheduler, config()).run(run)));
    let found = problem.lock().unwrap_or_else(PoisonError::into_inner).take();
    let problem = match (found, ended) {
        (None, Ok(_)) => return Ok(()),
        (Some(problem), _) => problem,
        // A deadlock, or a panic somewhere in the cache.
        (None, Err(panic)) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            text.or(panic.downcast_ref().cloned()).unwrap_or_else(|| "a panic".to_owned())
        }
    };
    Err(Failure { operations: turn.operations, seed: current.load(Ordering::Relaxed), problem })
}

fn config() -> Config {
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    // Only sequentially consistent orders are tried; docs/architecture.md says so.
    config.silence_warnings = true;
    // 64 locks of shuttle alone are larger than its default.
    config.stack_size = 1 << 18;
    config
}
