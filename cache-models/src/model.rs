//! One execution: threads that meet in a cache, and what must hold afterwards.

use std::fmt::Arguments;
use std::sync::Arc;

use shuttle::rand::RngCore as _;
use shuttle::thread;

use crate::action::{Action, Read, Write};
use crate::below::announce;
use crate::history::{Observation, judge};
use crate::operation::Operation;
use crate::random::Random;
use crate::setup::{AROUND, SETUP, Setup, Start};
use crate::values::{KEY, Names, Values, is_large};

/// The calls of threads are numbered from here.
const FIRST: usize = AROUND + 1;

/// What a thread does: an operation, and then perhaps a look at what is there.
#[derive(Debug, Clone)]
struct Script {
    action: Action,
    then: Option<Read>,
}

/// What came of it.
struct Outcome {
    seen: Vec<Observation>,
    /// How many keys it has read.
    asked: u64,
    /// When the operation had returned.
    returned: u64,
}

/// Something that must not be, in words.
pub(crate) type Problem = String;

/// Runs the operations, each on a thread of its own. With `tell` it shows what
/// happens.
///
/// Nothing decides what happens but the scheduler.
pub(crate) fn execute(
    operations: &[Operation],
    tell: &dyn Fn(Arguments<'_>),
) -> Result<(), Problem> {
    let mut random = Random::new(shuttle::rand::thread_rng().next_u64());
    let mut values = Values::default();
    let ends = |operation: &Operation| matches!(operation, Operation::Expire | Operation::Clear);
    let start = Start::choose(&mut random, operations.iter().any(ends));
    let setup = Arc::new(Setup::choose(&mut random, operations.contains(&Operation::Evict)));
    let asked = setup.bring_to(start, &mut random, &mut values);
    let asked = asked.map_err(|error| error.to_string())?;
    tell(format_args!("it begins with {start:?} in {setup:?}"));

    let began = setup.below.stamps().next();
    let scripts: Vec<Script> = operations
        .iter()
        .map(|operation| Script {
            action: operation.action(&mut random, &setup.names, &mut values),
            then: (!random.once_in(4)).then(|| random.pick(&Read::ALL)),
        })
        .collect();
    let threads: Vec<_> = scripts
        .iter()
        .enumerate()
        .map(|(number, script)| {
            tell(format_args!("thread {number}: {script:?}"));
            let (setup, script) = (Arc::clone(&setup), script.clone());
            thread::spawn(move || run(&setup, number, &script))
        })
        .collect();
    // All of them have ended before anything is judged.
    let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
    let mut outcomes = Vec::new();
    for ended in ended {
        outcomes.push(ended.map_err(|_| "a thread panicked")??);
    }

    let returned = |call: usize| match call {
        SETUP => 0,
        AROUND if start == Start::Expired => began,
        // It must be seen once what is kept has expired, or was dropped.
        AROUND => {
            let all = scripts.iter().zip(&outcomes);
            let ends = all.filter(|(script, _)| matches!(script.action, Action::End { .. }));
            ends.map(|(_, outcome)| outcome.returned).min().unwrap_or(u64::MAX)
        }
        call => outcomes.get(call - FIRST).map_or(u64::MAX, |outcome| outcome.returned),
    };
    let overtaken = |script: &Script| matches!(script.action, Action::End { around: Some(_), .. });
    let around = start == Start::Overtaken || scripts.iter().any(overtaken);
    let mut seen: Vec<&Observation> = outcomes.iter().flat_map(|outcome| &outcome.seen).collect();
    seen.sort_by_key(|seen| seen.began);
    for key in Names::all() {
        let versions = setup.below.versions(&setup.names.below(key));
        tell(format_args!("versions of {:?}: {versions:?}", setup.names.get(key)));
        let seen = seen.iter().copied().filter(|seen| seen.key == key);
        judge(&versions, returned, around, seen.inspect(|seen| tell(format_args!("{seen:?}"))))?;
    }
    let asked = outcomes.iter().fold(asked, |sum, outcome| sum + outcome.asked);
    at_rest(&setup, asked, must_be_kept(&setup, start, &scripts))
}

fn run(setup: &Setup, number: usize, script: &Script) -> Result<Outcome, Problem> {
    let cached = setup.view(number);
    let mut outcome = Outcome { seen: Vec::new(), asked: 0, returned: 0 };
    let mut call = |action: &Action| {
        let fault = match action {
            Action::Write(_, fault) => *fault,
            _ => None,
        };
        announce(FIRST + number, fault);
        let began = setup.below.stamps().next();
        let told = action.perform(setup, cached);
        let ended = setup.below.stamps().next();
        let told = told.map_err(|error| format!("{action:?} ended with {error:?}"))?;
        if matches!(action, Action::Read(_) | Action::Evict(_)) {
            outcome.asked += told.len() as u64;
        }
        let observe = |(key, saw)| Observation { key, began, ended, saw };
        outcome.seen.extend(told.into_iter().map(observe));
        Ok::<u64, Problem>(ended)
    };
    let returned = call(&script.action)?;
    if let Some(read) = script.then {
        call(&Action::Read(read))?;
    }
    Ok(Outcome { returned, ..outcome })
}

/// Whether what a thread wrote last must be at hand in the end: there was room for
/// everything, it was not too large, time stood still and nothing failed.
fn must_be_kept(setup: &Setup, start: Start, scripts: &[Script]) -> bool {
    let harmless = |script: &Script| match &script.action {
        Action::Read(_) => true,
        Action::Write(Write::Set(value) | Write::Put(value), None) => !is_large(value),
        Action::Write(Write::Delete, None) => true,
        Action::Write(Write::Commit(commit), None) => commit.checks.is_empty(),
        Action::Write(_, Some(_)) | Action::End { .. } | Action::Evict(_) => false,
    };
    setup.roomy && start != Start::TooLarge && scripts.iter().all(harmless)
}

/// What must hold when nobody does anything any more.
fn at_rest(setup: &Setup, asked: u64, kept: bool) -> Result<(), Problem> {
    let stats = setup.stats();
    let config = &setup.config;
    if stats.entries > config.max_entries as u64 || stats.bytes > config.max_size_bytes as u64 {
        return Err(format!("{stats:?} is more than {config:?}"));
    }
    if stats.hits + stats.misses != asked {
        return Err(format!("{stats:?} after {asked} keys were read"));
    }
    let last = |key| setup.below.latest(&setup.names.below(key));
    let at_hand = setup.views().any(|view| view.try_get(setup.names.get(KEY)).is_some());
    if kept && last(KEY).call >= FIRST && !at_hand {
        return Err("what was written last is not at hand".into());
    }
    for (view, read) in setup.views().flat_map(|view| Read::ALL.map(|read| (view, read))) {
        let told = read.perform(view, &setup.names).map_err(|error| error.to_string())?;
        for (key, saw) in told {
            let last = last(key);
            if !saw.fits(&last) {
                return Err(format!("in the end {read:?} tells {saw:?} of {last:?}"));
            }
        }
    }
    Ok(())
}
