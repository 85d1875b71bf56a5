//! Power cuts and kills, with synced writes and, as a control, with relaxed ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::check::check;
use crate::content::hash;
use crate::engine::{Engine, Mode};
use crate::events::{self, Event};
use crate::model::{Model, Replayed};
use crate::plan::percent;
use crate::report::{Fault, Findings, Outcome};
use crate::scratch::{Disk, FileSystem, PowerSwitch, Scratch, missing};
use crate::workload::{Work, WorkArguments, command};

/// The number of cuts after which the file system and the store are created anew.
const CUTS_PER_STORE: u64 = 40;

/// A series of power cuts or kills.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PowerCuts<'a> {
    pub(crate) engine: Engine,
    pub(crate) mode: Mode,
    pub(crate) cuts: u64,
    pub(crate) seed: u64,
    /// Kill only the process.
    pub(crate) kill: bool,
    /// Where to keep the logs of rounds with a finding.
    pub(crate) keep: Option<&'a Path>,
}

/// Why this machine cannot do it, if it cannot.
pub(crate) fn cannot(scratch: &Scratch) -> Option<String> {
    scratch.no_mounts().or_else(|| missing(&["mkfs.ext4", "mkfs.xfs", "xfs_io"]))
}

/// The store under test, and what is known about it.
struct Trial<'a> {
    scratch: &'a Scratch,
    plan: PowerCuts<'a>,
    disk: Disk,
    model: Model,
    run: u64,
    random: fastrand::Rng,
    findings: Findings,
    summary: Replayed,
    cuts: u64,
    opened_corrupt: u64,
}

impl PowerCuts<'_> {
    /// Runs on one file system.
    pub(crate) fn run(self, scratch: &Scratch, file_system: FileSystem) -> Result<Outcome> {
        let start = Instant::now();
        let mut trial = Trial {
            scratch,
            plan: self,
            disk: Disk::create(scratch, file_system)?,
            model: Model::of(self.mode),
            run: 0,
            random: fastrand::Rng::with_seed(self.seed ^ hash(file_system.name())),
            findings: Findings::default(),
            summary: Replayed::default(),
            cuts: 0,
            opened_corrupt: 0,
        };
        while trial.cuts < self.cuts {
            if trial.run == CUTS_PER_STORE {
                trial.start_over(file_system)?;
            }
            trial.round(file_system)?;
        }
        let Trial { findings, summary, opened_corrupt, .. } = trial;
        println!(
            "  {} {} {}: {} {}, {} acknowledged operations with {} writes, {} reads; {findings}{}; {:.0} s",
            self.engine,
            self.mode,
            file_system.name(),
            self.cuts,
            if self.kill { "kills" } else { "cuts" },
            summary.acked_ops,
            summary.acked_writes,
            summary.reads,
            if opened_corrupt > 0 {
                format!(", {opened_corrupt} stores reported corrupt")
            } else {
                String::new()
            },
            start.elapsed().as_secs_f64(),
        );
        Ok(match self.evaluate(&findings, opened_corrupt) {
            Ok(()) => Outcome::Passed,
            Err(why) => findings.fail(why),
        })
    }

    /// Fails unless only permitted faults were found.
    fn evaluate(&self, findings: &Findings, opened_corrupt: u64) -> Result<(), &'static str> {
        let survives = match self.mode {
            Mode::Sync => true,
            Mode::Relaxed => self.kill && self.engine.relaxed_survives_kills(),
        };
        if survives {
            if findings.total() + opened_corrupt > 0 {
                return Err("acknowledged writes must survive");
            }
            return Ok(());
        }
        if findings.count(Fault::Lost) == 0 && !self.kill {
            return Err("no relaxed write was lost, so the cuts prove nothing");
        }
        let allowed: &[Fault] = if self.engine.relaxed_may_tear() {
            &[Fault::Lost, Fault::Partial, Fault::Corrupt]
        } else {
            &[Fault::Lost]
        };
        if findings.other_than(allowed) > 0 {
            return Err("relaxed writes may be lost, but nothing else may happen");
        }
        Ok(())
    }
}

impl Trial<'_> {
    fn start_over(&mut self, file_system: FileSystem) -> Result<()> {
        self.disk.umount()?;
        self.disk = Disk::create(self.scratch, file_system)?;
        self.model = Model::of(self.plan.mode);
        self.run = 0;
        Ok(())
    }

    /// Works, cuts the power, mounts and checks.
    fn round(&mut self, file_system: FileSystem) -> Result<()> {
        self.run += 1;
        self.findings.context = format!("{} cut {}", file_system.name(), self.cuts + 1);
        let log = self.scratch.path("log");
        fs::write(&log, "")?;
        // Every fourth cut follows a single write. Nothing else has made the file system
        // write then, so that a missing fsync shows.
        let one = self.cuts.is_multiple_of(4).then_some(self.cuts / 4);
        // Some of the other cuts may hit the opening.
        let from_start = percent(&mut self.random, 20);
        let mut arguments = WorkArguments {
            engine: self.plan.engine,
            mode: self.plan.mode,
            store: self.disk.root.join("store"),
            log: log.clone(),
            seed: self.plan.seed,
            run: self.cuts + 1,
            first_op: self.model.next_op,
            threads: 4,
            work: one.map_or(Work::Steps(None), Work::One),
            position: None,
            continues: false,
            ends: false,
        };
        // Some cuts follow a kill: a second process reads or deletes the keys that the first
        // one had not finished. What the second one read must be durable too.
        let second = one.is_none() && self.cuts % 6 == 3;
        if second {
            let mut first = Worker::start(&arguments)?;
            first.wait_for("ready")?;
            std::thread::sleep(Duration::from_micros(self.random.u64(0..60_000)));
            first.kill()?;
            let (next, keys) = unacknowledged(&events::read(&log)?);
            arguments.first_op = next;
            let deletes = percent(&mut self.random, 50);
            arguments.work = if deletes { Work::Delete(keys) } else { Work::Read(keys) };
        }
        let quiet = one.is_some() || second;
        let switch = if self.plan.kill { None } else { Some(self.disk.switch()?) };
        let mut worker = Worker::start(&arguments)?;
        if quiet {
            worker.wait_for("done")?;
        } else {
            if !from_start {
                worker.wait_for("ready")?;
            }
            let max = if from_start { 40_000 } else { 150_000 };
            std::thread::sleep(Duration::from_micros(self.random.u64(0..max)));
        }
        match switch {
            Some(switch) => cut(switch, &mut self.disk, worker, &log)?,
            None => worker.kill()?,
        }
        self.cuts += 1;

        let events = events::read(&log)?;
        for event in &events {
            // Only a cut during the opening is a reason.
            if let Event::OpenFailed(why) = event
                && !from_start
            {
                bail!("the workload could not open the store: {why}");
            }
        }
        let before = self.findings.total();
        let summary = self.model.replay(&events, None, &mut self.findings);
        self.summary.acked_ops += summary.acked_ops;
        self.summary.acked_writes += summary.acked_writes;
        self.summary.reads += summary.reads;
        self.check(&arguments.store, file_system)?;
        if let Some(directory) = &self.plan.keep
            && self.findings.total() > before
        {
            fs::create_dir_all(directory)?;
            fs::copy(&log, directory.join(format!("{}-{}.log", file_system.name(), self.cuts)))?;
        }
        Ok(())
    }

    /// Opens the store after a cut and compares it with the model.
    fn check(&mut self, store: &Path, file_system: FileSystem) -> Result<()> {
        match self.plan.engine.open(self.plan.mode, store) {
            Ok(storage) => {
                let readable =
                    check(&*storage, &mut self.model, &mut self.random, &mut self.findings);
                drop(storage);
                if readable { Ok(()) } else { self.start_over(file_system) }
            }
            Err(error) => {
                let relaxed =
                    self.plan.mode == Mode::Relaxed && self.plan.engine.relaxed_may_tear();
                if relaxed && matches!(error, storage_core::StorageError::Corrupt { .. }) {
                    self.opened_corrupt += 1;
                } else {
                    self.findings.add(Fault::Unreadable, format!("cannot open the store: {error}"));
                }
                self.start_over(file_system)
            }
        }
    }
}

/// The number of the next operation, and the keys of the operations without an outcome.
pub(crate) fn unacknowledged(events: &[Event]) -> (u64, Vec<String>) {
    let mut open = BTreeMap::new();
    let mut next = 0;
    for event in events {
        match event {
            Event::Begin { op, changes, .. } => {
                next = next.max(op + 1);
                open.insert(*op, changes);
            }
            Event::Acked { op, .. } | Event::Refused { op, .. } => drop(open.remove(op)),
            _ => {}
        }
    }
    (next, open.into_values().flatten().map(|(key, _)| key.clone()).collect())
}

/// Cuts the power, kills the worker and mounts the disk again.
fn cut(switch: PowerSwitch, disk: &mut Disk, worker: Worker, log: &Path) -> Result<()> {
    switch.cut(log)?;
    worker.kill()?;
    disk.umount()?;
    disk.mount()
}

/// A running workload.
pub(crate) struct Worker {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Worker {
    pub(crate) fn start(arguments: &WorkArguments) -> Result<Self> {
        let mut child = command("work", arguments)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the workload")?;
        let stdout = child.stdout.take().context("the workload has no output")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// Waits for a line of its output.
    pub(crate) fn wait_for(&mut self, word: &str) -> Result<()> {
        loop {
            match self.lines.next() {
                Some(Ok(line)) if line == word => return Ok(()),
                Some(Ok(line)) if line == "failed" => bail!("the workload cannot open its store"),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the workload ended before it was {word}"),
            }
        }
    }

    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
