//! Whether what a store acknowledged outlives power cuts, killed processes,
//! failing and full disks, and whether damage is told.
//!
//! `cargo xtask durability --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

mod block_log;
mod check;
mod content;
mod corruption;
mod engine;
mod events;
mod faults;
mod full_disk;
mod model;
mod place;
mod plan;
mod power;
mod probe;
mod quota;
mod random;
mod report;
mod strace;
mod tasks;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use block_log::BlockLog;
use corruption::Corruption;
use engine::{Engine, Mode};
use faults::Faults;
use full_disk::FullDisk;
use place::{FileSystem, Place};
use power::PowerCuts;
use probe::ProbeArguments;
use quota::Quotas;
use report::Outcome;
use tasks::TaskArguments;
use workload::WorkArguments;

/// A part of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Power cuts while four threads write: nothing acknowledged is lost.
    PowerCuts,
    /// The same cuts with relaxed durability: they must lose something.
    Control,
    /// Processes killed while they write: nothing acknowledged is lost, with
    /// relaxed durability neither where that is promised.
    Kills,
    /// The disk as it was at moments of a record of all its writes.
    BlockLog,
    /// System calls that kill, fail or find the disk full, one after another.
    Faults,
    /// A full disk, which gets room again.
    FullDisk,
    /// Files with flipped, lost and swapped bytes.
    Corruption,
    /// Many tasks at the edge of quotas, and processes killed among them: no byte
    /// over, and ledgers that a recount confirms. The store in memory too, where
    /// no other is named.
    Quota,
}

/// Power cuts, failing disks and damaged files against every store.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask durability", bin_name = "cargo xtask durability")]
struct Arguments {
    /// The parts to run; all, if none.
    parts: Vec<Part>,
    /// The stores to test; all that the program was built with, if none.
    #[arg(long = "engine", value_delimiter = ',')]
    engines: Vec<Engine>,
    /// How many power cuts for each store, over the three file systems.
    #[arg(long, default_value_t = 1000)]
    cuts: u64,
    /// How many for the control.
    #[arg(long, default_value_t = 60)]
    control_cuts: u64,
    /// How many kills, with each durability.
    #[arg(long, default_value_t = 100)]
    kills: u64,
    /// For how many seconds tasks write at the edge of quotas, to each store.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many of these tasks there are.
    #[arg(long, default_value_t = 64)]
    tasks: u64,
    /// How many moments of a block log.
    #[arg(long, default_value_t = 200)]
    prefixes: usize,
    /// How many random faults of each kind, rather than every one; 300 where the
    /// store has threads of its own and the order of their calls is chance.
    #[arg(long)]
    points: Option<usize>,
    /// How many random damages to the files of an engine. In the store of a file
    /// a key every byte has its turn.
    #[arg(long, default_value_t = 1000)]
    flips: u64,
    /// What random numbers begin with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to keep the logs of rounds of cuts and kills with a finding.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// A few of each kind, in all under a minute and a half.
    #[arg(long)]
    short: bool,
}

#[derive(Debug, Parser)]
#[command(name = "durability work")]
struct Work {
    #[command(flatten)]
    arguments: WorkArguments,
}

#[derive(Debug, Parser)]
#[command(name = "durability probe")]
struct Probe {
    #[command(flatten)]
    arguments: ProbeArguments,
}

#[derive(Debug, Parser)]
#[command(name = "durability tasks")]
struct Tasks {
    #[command(flatten)]
    arguments: TaskArguments,
}

fn main() -> ExitCode {
    // The clock would hide that a counter of revisions has fallen behind.
    storage_backends::internals::stop_the_clock();
    // The three processes that it starts of itself are not for its user.
    let words = || std::env::args_os().skip(1);
    let result = match words().next() {
        Some(word) if word == "work" => {
            workload::run(&Work::parse_from(words()).arguments).map(|()| true)
        }
        Some(word) if word == "probe" => {
            probe::run(&Probe::parse_from(words()).arguments).map(|()| true)
        }
        Some(word) if word == "tasks" => {
            tasks::run(&Tasks::parse_from(words()).arguments).map(|()| true)
        }
        _ => place::enter_own_namespace().and_then(|()| suite(&Arguments::parse())),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the parts; false if one failed.
fn suite(arguments: &Arguments) -> Result<bool> {
    let parts = if arguments.parts.is_empty() { Part::value_variants() } else { &arguments.parts };
    let engines = if arguments.engines.is_empty() { Engine::all() } else { &arguments.engines };
    let place = Place::new()?;
    let mut good = true;
    for part in parts {
        let name = part.to_possible_value().map(|value| value.get_name().to_owned());
        let name = name.unwrap_or_default();
        if *part == Part::Quota && arguments.engines.is_empty() {
            println!("{name} memory");
            good &= quotas(None, arguments).run(&place)? != Outcome::Failed;
        }
        for engine in engines {
            println!("{name} {engine}");
            good &= run_part(*part, *engine, arguments, &place)? != Outcome::Failed;
        }
        if *part == Part::Quota && arguments.engines.is_empty() {
            for missing in Engine::not_built_in() {
                println!(
                    "{name} {missing}\n  SKIPPED: not built in; ask for it: --engine {missing}"
                );
            }
        }
    }
    println!("{}", if good { "ok" } else { "FAILED" });
    Ok(good)
}

fn run_part(part: Part, engine: Engine, arguments: &Arguments, place: &Place) -> Result<Outcome> {
    let cannot = match part {
        Part::PowerCuts | Part::Control | Part::Kills => power::cannot(place),
        Part::BlockLog => block_log::cannot(place),
        Part::Faults => strace::cannot(),
        Part::FullDisk => place.no_mounts(),
        Part::Corruption | Part::Quota => None,
    };
    if let Some(reason) = cannot {
        println!("  SKIPPED: {reason}");
        return Ok(Outcome::Skipped);
    }
    let Arguments { seed, short, .. } = *arguments;
    let keep = arguments.keep.as_deref();
    match part {
        Part::PowerCuts => {
            let cuts = if short { 24 } else { arguments.cuts };
            power_cuts(PowerCuts { engine, mode: Mode::Sync, cuts, seed, kill: false, keep }, place)
        }
        Part::Control => {
            let cuts = if short { 6 } else { arguments.control_cuts };
            power_cuts(
                PowerCuts { engine, mode: Mode::Relaxed, cuts, seed, kill: false, keep },
                place,
            )
        }
        Part::Kills => {
            let cuts = if short { 5 } else { arguments.kills };
            let mut outcome = Outcome::Passed;
            for mode in [Mode::Sync, Mode::Relaxed] {
                let kills = PowerCuts { engine, mode, cuts, seed, kill: true, keep };
                if kills.run(place, FileSystem::Ext4)? == Outcome::Failed {
                    outcome = Outcome::Failed;
                }
            }
            Ok(outcome)
        }
        Part::BlockLog => {
            let (prefixes, steps) = if short { (30, 20) } else { (arguments.prefixes, 100) };
            BlockLog { engine, prefixes, steps, seed }.run(place)
        }
        Part::Faults => {
            let sample = if short { Some(12) } else { arguments.points.or(engine.sample()) };
            Faults { engine, seed, steps: 12, sample }.run(place)
        }
        Part::FullDisk => FullDisk { engine }.run(place),
        Part::Corruption => {
            let (flips, every) = if short { (40, 37) } else { (arguments.flips, 1) };
            Corruption { engine, seed, flips, every }.run(place)
        }
        Part::Quota => quotas(Some(engine), arguments).run(place),
    }
}

fn quotas(engine: Option<Engine>, arguments: &Arguments) -> Quotas {
    let Arguments { seed, tasks, .. } = *arguments;
    let (millis, kills) = match arguments.short {
        true => (700, 4),
        false => (arguments.seconds.saturating_mul(1000), arguments.kills),
    };
    Quotas { engine, tasks, millis, kills, seed }
}

/// Shares the cuts out over the file systems.
fn power_cuts(whole: PowerCuts<'_>, place: &Place) -> Result<Outcome> {
    let cuts = whole.cuts.div_ceil(FileSystem::ALL.len() as u64);
    let mut outcome = Outcome::Passed;
    for file_system in FileSystem::ALL {
        if (PowerCuts { cuts, ..whole }).run(place, file_system)? == Outcome::Failed {
            outcome = Outcome::Failed;
        }
    }
    Ok(outcome)
}
