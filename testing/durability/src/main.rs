//! Tests whether acknowledged writes survive power cuts, killed processes, failing and full
//! disks, and whether damage is reported.
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
mod plan;
#[cfg(feature = "postgres")]
mod postgres;
mod power;
mod probe;
mod quota;
#[cfg(feature = "redis")]
mod redis;
mod report;
mod scratch;
mod strace;
mod tasks;
mod trial;
mod worker;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};

use block_log::BlockLog;
use corruption::Corruption;
use engine::{Engine, Mode};
use faults::Faults;
use full_disk::FullDisk;
use power::PowerCuts;
use quota::Quotas;
use report::Outcome;
use scratch::{FileSystem, Scratch};
use serde::de::DeserializeOwned;

/// A part of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Power cuts while four threads write. No acknowledged write may be lost.
    PowerCuts,
    /// Power cuts with relaxed durability, which must lose writes.
    Control,
    /// Processes killed while they write, and database servers. No acknowledged write may be
    /// lost, unless relaxed durability permits it.
    Kills,
    /// Database servers killed while their standby or replica takes over. Only Redis may lose
    /// acknowledged writes, which are counted.
    Failovers,
    /// Clusters whose slots move to other nodes. No acknowledged write may be lost.
    Resharding,
    /// A network that delays, holds back and cuts. No acknowledged write may be lost.
    Network,
    /// A server whose memory becomes full. It must refuse whole commits, and delete.
    FullMemory,
    /// Disks rebuilt from prefixes of a record of all writes.
    BlockLog,
    /// System calls that kill the process or fail, one after another.
    Faults,
    /// A full disk, which gets more space later.
    FullDisk,
    /// Files with flipped and missing bytes, and swapped files.
    Corruption,
    /// Many tasks at the limits of quotas, even in killed processes. No quota may be exceeded,
    /// and usage counters must be exact. Includes the memory store unless --engine is given.
    Quota,
}

impl Part {
    /// Whether a store can be tested so. A database server checks its files itself.
    fn applies_to(self, engine: Engine) -> bool {
        match self {
            Self::PowerCuts | Self::Control | Self::Kills | Self::Quota => true,
            Self::Failovers => engine.is_server(),
            Self::Resharding | Self::Network | Self::FullMemory => engine.has_memory_only(),
            Self::BlockLog | Self::Faults | Self::FullDisk | Self::Corruption => {
                !engine.is_server()
            }
        }
    }
}

/// Test every store with power cuts, failing disks and damaged files.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask durability", bin_name = "cargo xtask durability")]
struct Arguments {
    /// The parts to run [default: all].
    parts: Vec<Part>,
    /// The stores to test [default: all in this build].
    #[arg(long = "engine", value_delimiter = ',')]
    engines: Vec<Engine>,
    /// The number of power cuts for each store, over all file systems.
    #[arg(long, default_value_t = 1000)]
    cuts: u64,
    /// The number of power cuts of the control.
    #[arg(long, default_value_t = 60)]
    control_cuts: u64,
    /// The number of kills with each durability.
    #[arg(long, default_value_t = 100)]
    kills: u64,
    /// The number of failovers.
    #[arg(long, default_value_t = 50)]
    failovers: u64,
    /// The groups of Redis servers whose failovers are tested [default: all].
    #[cfg(feature = "redis")]
    #[arg(long = "group", value_delimiter = ',')]
    groups: Vec<redis::GroupKind>,
    /// The replicas that a Redis primary needs to accept writes during failovers, with a lag of at
    /// most a second. If not 0, no host waits for replicas.
    #[cfg(feature = "redis")]
    #[arg(long, default_value_t = 0)]
    min_replicas: u32,
    /// How long a Redis replica hangs before its primary is killed, in milliseconds.
    #[cfg(feature = "redis")]
    #[arg(long, default_value_t = 700)]
    hang_millis: u64,
    /// The number of rounds of resharding, of a bad network, and of full memory.
    #[arg(long, default_value_t = 30)]
    rounds: u64,
    /// How long tasks write at the limits of quotas, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The number of these tasks.
    #[arg(long, default_value_t = 64)]
    tasks: u64,
    /// The number of prefixes of a block log.
    #[arg(long, default_value_t = 200)]
    prefixes: usize,
    /// The number of random faults of each kind [default: every possible one, or 400 if the
    /// store has its own threads].
    #[arg(long)]
    points: Option<usize>,
    /// How often an engine's files are damaged at random. In the file store every byte is
    /// damaged.
    #[arg(long, default_value_t = 1000)]
    flips: u64,
    /// The seed of the random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A directory for the logs of rounds of cuts and kills with a finding.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Run a few rounds of each part, for about a minute in all.
    #[arg(long)]
    short: bool,
}

fn main() -> ExitCode {
    // Revisions that start from the clock would hide a counter that has fallen behind.
    storage_backends::internals::stop_the_clock();
    let mut words = std::env::args().skip(1);
    // The first three are processes that the suite starts.
    let result = match (words.next().as_deref(), words.next()) {
        (Some("work"), Some(json)) => parse(&json).and_then(|work| workload::run(&work)),
        (Some("probe"), Some(json)) => parse(&json).and_then(|probe| probe::run(&probe)),
        (Some("tasks"), Some(json)) => parse(&json).and_then(|tasks| tasks::run(&tasks)),
        _ => scratch::enter_own_namespace().and_then(|()| suite(&Arguments::parse())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse<T: DeserializeOwned>(json: &str) -> Result<T> {
    Ok(serde_json::from_str(json)?)
}

/// Runs the parts.
fn suite(arguments: &Arguments) -> Result<()> {
    let parts = if arguments.parts.is_empty() { Part::value_variants() } else { &arguments.parts };
    let mut engines = arguments.engines.clone();
    if engines.is_empty() {
        let built = Engine::value_variants().iter().copied();
        let (built, missing): (Vec<_>, Vec<_>) = built.partition(|engine| engine.is_built());
        engines = built;
        for engine in missing {
            println!("{engine}\n  SKIPPED: not in this build; run it with --engine {engine}");
        }
    }
    let scratch = Scratch::new()?;
    let mut outcome = Outcome::Passed;
    for part in parts {
        let name = part.to_possible_value().map(|value| value.get_name().to_owned());
        let name = name.unwrap_or_default();
        if *part == Part::Quota && arguments.engines.is_empty() {
            println!("{name} memory");
            outcome = outcome.and(quotas(None, arguments).run(&scratch)?);
        }
        for engine in engines.iter().filter(|engine| part.applies_to(**engine)) {
            println!("{name} {engine}");
            outcome = outcome.and(run_part(*part, *engine, arguments, &scratch)?);
        }
    }
    ensure!(outcome != Outcome::Failed, "a part of the durability suite failed");
    println!("ok");
    Ok(())
}

fn run_part(
    part: Part,
    engine: Engine,
    arguments: &Arguments,
    scratch: &Scratch,
) -> Result<Outcome> {
    #[cfg(feature = "postgres")]
    if engine == Engine::Postgres && part != Part::Quota {
        return run_on_servers(part, arguments, scratch);
    }
    #[cfg(feature = "redis")]
    if engine == Engine::Redis && part != Part::Quota {
        return run_on_redis(part, arguments, scratch);
    }
    let cannot = match part {
        Part::PowerCuts | Part::Control | Part::Kills => power::cannot(scratch),
        Part::BlockLog => block_log::cannot(scratch),
        Part::Faults => strace::cannot(),
        Part::FullDisk => scratch.no_mounts(),
        _ => None,
    };
    if let Some(reason) = cannot {
        println!("  SKIPPED: {reason}");
        return Ok(Outcome::Skipped);
    }
    let Arguments { seed, short, .. } = *arguments;
    let pick = |short_number, number| if short { short_number } else { number };
    let keep = arguments.keep.as_deref();
    match part {
        Part::PowerCuts | Part::Control => {
            let (mode, cuts) = match part {
                Part::Control => (Mode::Relaxed, pick(6, arguments.control_cuts)),
                _ => (Mode::Sync, pick(24, arguments.cuts)),
            };
            let cuts = cuts.div_ceil(FileSystem::ALL.len() as u64);
            let cuts = PowerCuts { engine, mode, cuts, seed, kill: false, keep };
            FileSystem::ALL.into_iter().try_fold(Outcome::Passed, |outcome, file_system| {
                Ok(outcome.and(cuts.run(scratch, file_system)?))
            })
        }
        Part::Kills => {
            let cuts = pick(5, arguments.kills);
            [Mode::Sync, Mode::Relaxed].into_iter().try_fold(Outcome::Passed, |outcome, mode| {
                let kills = PowerCuts { engine, mode, cuts, seed, kill: true, keep };
                Ok(outcome.and(kills.run(scratch, FileSystem::Ext4)?))
            })
        }
        Part::BlockLog => {
            let (prefixes, steps) = if short { (30, 20) } else { (arguments.prefixes, 100) };
            BlockLog { engine, prefixes, steps, seed }.run(scratch)
        }
        Part::Faults => {
            let sample = if short { Some(12) } else { arguments.points.or(engine.sample()) };
            Faults { engine, seed, steps: 12, sample }.run(scratch)
        }
        Part::FullDisk => FullDisk { engine }.run(scratch),
        Part::Corruption => {
            let (flips, every) = if short { (40, 37) } else { (arguments.flips, 1) };
            Corruption { engine, seed, flips, every }.run(scratch)
        }
        Part::Quota => quotas(Some(engine), arguments).run(scratch),
        // For servers only.
        Part::Failovers | Part::Resharding | Part::Network | Part::FullMemory => {
            Ok(Outcome::Skipped)
        }
    }
}

#[cfg(feature = "postgres")]
fn run_on_servers(part: Part, arguments: &Arguments, scratch: &Scratch) -> Result<Outcome> {
    use postgres::{Disturbance, Servers};

    let number = |short, number| if arguments.short { short } else { number };
    let systems = FileSystem::ALL.len() as u64;
    let all_disks = |mode, cuts: u64| {
        FileSystem::ALL.map(|one| (mode, Disturbance::PowerCut(one), cuts.div_ceil(systems)))
    };
    let kills = number(3, arguments.kills);
    let control = number(6, arguments.control_cuts);
    let series = match part {
        Part::PowerCuts => all_disks(Mode::Sync, number(6, arguments.cuts)).to_vec(),
        Part::Control => {
            let mut series = all_disks(Mode::Relaxed, control).to_vec();
            series.push((Mode::Relaxed, Disturbance::ServerKill, control));
            series
        }
        Part::Kills => vec![
            (Mode::Sync, Disturbance::ServerKill, kills),
            (Mode::Sync, Disturbance::HostKill, kills),
            (Mode::Relaxed, Disturbance::HostKill, kills),
        ],
        _ => vec![(Mode::Sync, Disturbance::Failover, number(2, arguments.failovers))],
    };
    let (seed, keep) = (arguments.seed, arguments.keep.as_deref());
    series.into_iter().try_fold(Outcome::Passed, |outcome, (mode, disturbance, rounds)| {
        Ok(outcome.and(Servers { mode, rounds, seed, keep }.run(scratch, disturbance)?))
    })
}

#[cfg(feature = "redis")]
fn run_on_redis(part: Part, arguments: &Arguments, scratch: &Scratch) -> Result<Outcome> {
    use redis::{Disturbance, Failovers, Failure, FullMemory, GroupKind, Servers};

    let number = |short, number| if arguments.short { short } else { number };
    let (seed, keep) = (arguments.seed, arguments.keep.as_deref());
    let systems = if arguments.short { &FileSystem::ALL[..1] } else { &FileSystem::ALL[..] };
    let on_disks = |mode, cuts: u64| {
        let cuts = cuts.div_ceil(systems.len() as u64);
        systems.iter().map(|one| (mode, Disturbance::PowerCut(*one), cuts)).collect()
    };
    let kills = number(3, arguments.kills);
    let rounds = number(3, arguments.rounds);
    let series = match part {
        Part::PowerCuts => on_disks(Mode::Sync, number(4, arguments.cuts)),
        Part::Control => on_disks(Mode::Relaxed, number(2, arguments.control_cuts)),
        Part::Kills => vec![
            (Mode::Sync, Disturbance::ServerKill, kills),
            (Mode::Relaxed, Disturbance::ServerKill, kills),
            (Mode::Sync, Disturbance::HostKill, kills),
        ],
        Part::Resharding => vec![(Mode::Sync, Disturbance::Resharding, rounds)],
        Part::Network => vec![(Mode::Sync, Disturbance::Network, rounds)],
        Part::FullMemory => return FullMemory { rounds: number(2, arguments.rounds), seed }.run(),
        _ => {
            let min_replicas = arguments.min_replicas;
            let hang = std::time::Duration::from_millis(arguments.hang_millis);
            let cases = |short: &[(Failure, u32)]| {
                let all = if arguments.short { short } else { &Failure::CASES[..] };
                let waits = |wait| wait > 0 && min_replicas > 0;
                all.iter().copied().filter(|(_, wait)| !waits(*wait)).collect()
            };
            let rounds = number(1, arguments.failovers);
            let cluster = cases(&[(Failure::Kill, 0), (Failure::Pause, 1)]);
            let sentinel = cases(&[(Failure::KillWithLag, 0), (Failure::KillWithLag, 1)]);
            let groups = [(GroupKind::Cluster, cluster), (GroupKind::Sentinel, sentinel)];
            let is_chosen = |kind| arguments.groups.is_empty() || arguments.groups.contains(&kind);
            let chosen = groups.into_iter().filter(|(kind, _)| is_chosen(*kind));
            return chosen.into_iter().try_fold(Outcome::Passed, |outcome, (kind, cases)| {
                Ok(outcome.and(Failovers { kind, cases, min_replicas, hang, rounds, seed }.run()?))
            });
        }
    };
    series.into_iter().try_fold(Outcome::Passed, |outcome, (mode, disturbance, rounds)| {
        Ok(outcome.and(Servers { mode, rounds, seed, keep }.run(scratch, disturbance)?))
    })
}

fn quotas(engine: Option<Engine>, arguments: &Arguments) -> Quotas {
    let Arguments { seed, tasks, .. } = *arguments;
    let is_server = engine.is_some_and(Engine::is_server);
    let (millis, kills) = match arguments.short {
        // A server takes longer to reach the limit.
        true => (if is_server { 4_000 } else { 700 }, 4),
        false => (arguments.seconds.saturating_mul(1000), arguments.kills),
    };
    Quotas { engine, tasks, millis, kills, seed }
}
