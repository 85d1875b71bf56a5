//! One execution: concurrent calls of a cache, and what must hold afterwards.

use std::fmt::Arguments;
use std::sync::Arc;

use fastrand::Rng;
use shuttle::thread;

use crate::history::{Observation, check};
use crate::operation::{Action, Operation, Read, Write};
use crate::scenario::{AROUND, KEY, SETUP, Scenario, Start, Values, is_large};
use crate::storage::announce;

/// The calls of the threads are numbered from here.
const FIRST: usize = AROUND + 1;

/// What a thread does: an operation, and then perhaps a read.
#[derive(Debug, Clone)]
struct Script {
    action: Action,
    then: Option<Read>,
}

struct Outcome {
    observations: Vec<Observation>,
    /// How many keys it read.
    reads: u64,
    /// When the operation returned.
    returned: u64,
}

/// Runs the operations, each on its own thread. Everything follows from the seed
/// and the scheduler.
///
/// # Errors
/// A rule that the execution broke.
pub(crate) fn execute(
    operations: &[Operation],
    seed: u64,
    trace: &dyn Fn(Arguments<'_>),
) -> Result<(), String> {
    // Not the numbers of the scheduler.
    let (mut random, mut values) = (Rng::with_seed(!seed), Values::default());
    let ends = |operation: &Operation| matches!(operation, Operation::Expire | Operation::Clear);
    let start = Start::choose(&mut random, operations.iter().any(ends));
    let scenario = Arc::new(Scenario::choose(&mut random, operations.contains(&Operation::Evict)));
    let prepared = scenario.prepare(start, &mut random, &mut values);
    let mut reads = prepared.map_err(|error| error.to_string())?;
    trace(format_args!("start: {start:?} in {:?}", scenario.config));

    let began = scenario.below.next_time();
    let scripts: Vec<Script> = operations
        .iter()
        .map(|operation| Script {
            action: operation.action(&mut random, &scenario.names, &mut values),
            then: (random.u8(..4) != 0).then(|| Read::ALL[random.usize(..Read::ALL.len())]),
        })
        .collect();
    let threads: Vec<_> = scripts
        .iter()
        .enumerate()
        .map(|(number, script)| {
            trace(format_args!("thread {number}: {script:?}"));
            let (scenario, script) = (Arc::clone(&scenario), script.clone());
            thread::spawn(move || run(&scenario, number, &script))
        })
        .collect();
    let joined: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
    let mut outcomes = Vec::new();
    for joined in joined {
        outcomes.push(joined.map_err(|_| "a thread panicked")??);
    }

    let returned = |call: usize| match call {
        SETUP => 0,
        AROUND if start == Start::Expired => began,
        // It must be seen once the stale entry has expired or was cleared.
        AROUND => {
            let all = scripts.iter().zip(&outcomes);
            let ends = all.filter(|(script, _)| matches!(script.action, Action::End { .. }));
            ends.map(|(_, outcome)| outcome.returned).min().unwrap_or(u64::MAX)
        }
        call => outcomes[call - FIRST].returned,
    };
    let writes_around =
        |script: &Script| matches!(script.action, Action::End { around: Some(_), .. });
    let around = start == Start::Stale || scripts.iter().any(writes_around);
    let mut observations: Vec<_> = outcomes.iter().flat_map(|o| &o.observations).collect();
    observations.sort_by_key(|observation| observation.began);
    observations.iter().for_each(|observation| trace(format_args!("{observation:?}")));
    for key in scenario.names.all() {
        let versions = scenario.below.versions(&scenario.names.below(key));
        trace(format_args!("versions of {:?}: {versions:?}", scenario.names.get(key)));
        let of_key = observations.iter().copied().filter(|observation| observation.key == key);
        check(&versions, returned, around, of_key)?;
    }
    reads += outcomes.iter().map(|outcome| outcome.reads).sum::<u64>();
    check_at_rest(&scenario, reads, must_be_cached(&scenario, start, &scripts))
}

fn run(scenario: &Scenario, number: usize, script: &Script) -> Result<Outcome, String> {
    let cached = scenario.view(number);
    let mut outcome = Outcome { observations: Vec::new(), reads: 0, returned: 0 };
    let mut call = |action: &Action| {
        let fault = match action {
            Action::Write(_, fault) => *fault,
            _ => None,
        };
        announce(FIRST + number, fault);
        let began = scenario.below.next_time();
        let seen = action.perform(scenario, cached);
        let ended = scenario.below.next_time();
        let seen = seen.map_err(|error| format!("{action:?} ended with {error:?}"))?;
        if matches!(action, Action::Read(_) | Action::Evict(_)) {
            outcome.reads += seen.len() as u64;
        }
        let observe = |(key, seen)| Observation { key, began, ended, seen };
        outcome.observations.extend(seen.into_iter().map(observe));
        Ok::<u64, String>(ended)
    };
    let returned = call(&script.action)?;
    if let Some(read) = script.then {
        call(&Action::Read(read))?;
    }
    Ok(Outcome { returned, ..outcome })
}

/// Whether the last write must be cached in the end: everything fits, nothing
/// expired and nothing failed.
fn must_be_cached(scenario: &Scenario, start: Start, scripts: &[Script]) -> bool {
    let keeps = |script: &Script| match &script.action {
        Action::Read(_) | Action::Write(Write::Delete, None) => true,
        Action::Write(Write::Set(value), None) => !is_large(value),
        Action::Write(Write::Commit(commit), None) => commit.checks.is_empty(),
        Action::Write(_, Some(_)) | Action::End { .. } | Action::Evict(_) => false,
    };
    scenario.is_roomy && start != Start::TooLarge && scripts.iter().all(keeps)
}

/// Checks what must hold when all threads have ended.
fn check_at_rest(scenario: &Scenario, reads: u64, must_be_cached: bool) -> Result<(), String> {
    let (stats, config) = (scenario.stats(), &scenario.config);
    if stats.entries > config.max_entries as u64 || stats.bytes > config.max_size_bytes as u64 {
        return Err(format!("{stats:?} exceeds {config:?}"));
    }
    if stats.hits + stats.misses != reads {
        return Err(format!("{stats:?} after {reads} keys were read"));
    }
    let latest = |key| scenario.below.versions(&scenario.names.below(key)).pop();
    let is_cached =
        scenario.views().any(|view| view.try_get("", scenario.names.get(KEY)).is_some());
    if must_be_cached && latest(KEY).is_some_and(|last| last.call >= FIRST) && !is_cached {
        return Err("the last write is not cached".into());
    }
    for (view, read) in scenario.views().flat_map(|view| Read::ALL.map(|read| (view, read))) {
        let seen = read.perform(view, &scenario.names).map_err(|error| error.to_string())?;
        for (key, seen) in seen {
            let latest = latest(key);
            if !latest.as_ref().is_some_and(|latest| seen.matches(latest)) {
                return Err(format!("in the end {read:?} returns {seen:?}, not {latest:?}"));
            }
        }
    }
    Ok(())
}
