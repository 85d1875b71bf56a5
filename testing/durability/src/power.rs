//! Power cuts and kills, with durable writes and, as a control, with relaxed
//! ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::check::check;
use crate::engine::{Engine, Mode};
use crate::events::{self, Event};
use crate::model::{Model, Told};
use crate::place::{Disk, FileSystem, Place, Switch, missing};
use crate::random::Random;
use crate::report::{Fault, Findings, Outcome};
use crate::workload::{WorkArguments, command};

/// After so many cuts the file system and the store are made anew.
const CUTS_A_STORE: u64 = 40;

/// How a run of cuts is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PowerCuts<'a> {
    pub(crate) engine: Engine,
    pub(crate) mode: Mode,
    pub(crate) cuts: u64,
    pub(crate) seed: u64,
    /// Whether only the process is killed, and the power stays on.
    pub(crate) kill: bool,
    /// Where the logs of rounds with a finding are kept.
    pub(crate) keep: Option<&'a Path>,
}

/// Why they cannot be done here.
pub(crate) fn cannot(place: &Place) -> Option<String> {
    place.no_mounts().or_else(|| missing(&["mkfs.ext4", "mkfs.xfs", "xfs_io"]))
}

/// The store under test, on a disk that is cut off again and again.
struct Bench<'a> {
    place: &'a Place,
    plan: PowerCuts<'a>,
    disk: Disk,
    model: Model,
    run: u64,
    random: Random,
    findings: Findings,
    told: Told,
    cuts: u64,
    opened_corrupt: u64,
}

impl PowerCuts<'_> {
    /// Cuts on one file system, and prints what they showed.
    pub(crate) fn run(self, place: &Place, file_system: FileSystem) -> Result<Outcome> {
        let start = Instant::now();
        let mut bench = Bench {
            place,
            plan: self,
            disk: Disk::make(place, file_system)?,
            model: Model::of(self.mode),
            run: 0,
            random: Random::new(self.seed ^ crate::random::hash(file_system.name())),
            findings: Findings::default(),
            told: Told::default(),
            cuts: 0,
            opened_corrupt: 0,
        };
        while bench.cuts < self.cuts {
            if bench.run == CUTS_A_STORE {
                bench.start_anew(file_system)?;
            }
            bench.round(file_system)?;
        }
        let Bench { findings, told, opened_corrupt, .. } = bench;
        println!(
            "  {} {} {}: {} {}, {} acknowledged operations with {} writes, {} reads; {findings}{}; {:.0} s",
            self.engine,
            self.mode,
            file_system.name(),
            self.cuts,
            if self.kill { "kills" } else { "cuts" },
            told.acked_ops,
            told.acked_writes,
            told.reads,
            if opened_corrupt > 0 {
                format!(", {opened_corrupt} stores told corrupt")
            } else {
                String::new()
            },
            start.elapsed().as_secs_f64(),
        );
        let verdict = self.verdict(&findings, opened_corrupt);
        if verdict.is_err() {
            for text in findings.texts() {
                println!("    {text}");
            }
        }
        match verdict {
            Ok(()) => Ok(Outcome::Passed),
            Err(why) => {
                println!("    FAILED: {why}");
                Ok(Outcome::Failed)
            }
        }
    }

    /// Whether what was found is as it must be.
    fn verdict(&self, findings: &Findings, opened_corrupt: u64) -> Result<(), &'static str> {
        let survives = match self.mode {
            Mode::Sync => true,
            Mode::Relaxed => self.kill && self.engine.relaxed_outlives_kills(),
        };
        if survives {
            if findings.total() + opened_corrupt > 0 {
                return Err("what was acknowledged must be there");
            }
            return Ok(());
        }
        if findings.count(Fault::Lost) == 0 && !self.kill {
            return Err("VOID: relaxed writes were not lost, so the cuts prove nothing");
        }
        let allowed: &[Fault] = if self.engine.relaxed_may_tear() {
            &[Fault::Lost, Fault::Partial, Fault::Corrupt]
        } else {
            &[Fault::Lost]
        };
        if findings.besides(allowed) > 0 {
            return Err("relaxed writes may be lost, no more");
        }
        Ok(())
    }
}

impl Bench<'_> {
    fn start_anew(&mut self, file_system: FileSystem) -> Result<()> {
        self.disk.umount()?;
        self.disk = Disk::make(self.place, file_system)?;
        self.model = Model::of(self.plan.mode);
        self.run = 0;
        Ok(())
    }

    /// One cut: work, cut, mount, check.
    fn round(&mut self, file_system: FileSystem) -> Result<()> {
        self.run += 1;
        self.findings.place = format!("{} cut {}", file_system.name(), self.cuts + 1);
        let log = self.place.path("log");
        fs::write(&log, "")?;
        // Every fourth cut comes right after one write, when nothing else has
        // made the file system write: that is where a forgotten fsync shows.
        let one = self.cuts.is_multiple_of(4).then_some(self.cuts / 4);
        // Or it comes at any time since the start, in the opening too.
        let from_start = self.random.chance(20);
        let mut arguments = WorkArguments {
            engine: self.plan.engine,
            mode: self.plan.mode,
            store: self.disk.root.join("store"),
            log: log.clone(),
            seed: self.plan.seed,
            run: self.cuts + 1,
            first_op: self.model.next_op,
            threads: 4,
            steps: None,
            one,
            touch: None,
            delete: false,
            position: None,
            go_on: false,
            end: false,
            last_commit: false,
        };
        // Or after a process that was killed, and another that touched what the
        // first had not finished: what that one was told must be durable too.
        let second = one.is_none() && self.cuts % 6 == 3;
        if second {
            let mut first = Worker::start(&arguments)?;
            first.wait_for("ready")?;
            std::thread::sleep(Duration::from_micros(self.random.below(60_000)));
            first.kill()?;
            let keys = self.place.path("keys");
            arguments.first_op = name_unfinished(&events::read(&log)?, &keys)?;
            arguments.touch = Some(keys);
            arguments.delete = self.random.chance(50);
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
            let most = if from_start { 40_000 } else { 150_000 };
            std::thread::sleep(Duration::from_micros(self.random.below(most)));
        }
        match switch {
            Some(switch) => cut(switch, &mut self.disk, worker, &log)?,
            None => worker.kill()?,
        }
        self.cuts += 1;

        let events = events::read(&log)?;
        for event in &events {
            // The cut may have hit the opening; before it there was no reason.
            if let Event::OpenFailed(why) = event
                && !from_start
            {
                bail!("the workload could not open the store: {why}");
            }
        }
        let before = self.findings.total();
        let told = self.model.replay(&events, None, &mut self.findings);
        self.told.acked_ops += told.acked_ops;
        self.told.acked_writes += told.acked_writes;
        self.told.reads += told.reads;
        self.look(&arguments.store, file_system)?;
        if let Some(folder) = &self.plan.keep
            && self.findings.total() > before
        {
            fs::create_dir_all(folder)?;
            fs::copy(&log, folder.join(format!("{}-{}.log", file_system.name(), self.cuts)))?;
        }
        Ok(())
    }

    /// Opens the store after a cut and compares.
    fn look(&mut self, store: &Path, file_system: FileSystem) -> Result<()> {
        match self.plan.engine.open(self.plan.mode, store) {
            Ok(storage) => {
                let looked =
                    check(&*storage, &mut self.model, &mut self.random, &mut self.findings);
                drop(storage);
                if looked { Ok(()) } else { self.start_anew(file_system) }
            }
            Err(error) => {
                let relaxed =
                    self.plan.mode == Mode::Relaxed && self.plan.engine.relaxed_may_tear();
                if relaxed && matches!(error, storage_core::StorageError::Corrupt { .. }) {
                    self.opened_corrupt += 1;
                } else {
                    self.findings.add(Fault::Unreadable, format!("it does not open: {error}"));
                }
                self.start_anew(file_system)
            }
        }
    }
}

/// Writes down the keys of the operations that were begun and not answered, and
/// gives the number of the next operation.
pub(crate) fn name_unfinished(events: &[Event], path: &Path) -> Result<u64> {
    let mut unfinished = BTreeMap::new();
    let mut next = 0;
    for event in events {
        match event {
            Event::Begin { op, changes, .. } => {
                next = next.max(op + 1);
                unfinished.insert(*op, changes);
            }
            Event::Acked { op, .. } | Event::Refused { op, .. } => {
                unfinished.remove(op);
            }
            _ => {}
        }
    }
    let keys: Vec<&str> = unfinished
        .values()
        .flat_map(|changes| changes.iter().map(|(key, _)| key.as_str()))
        .collect();
    fs::write(path, keys.join("\n"))?;
    Ok(next)
}

/// Cuts the power, kills who worked, and mounts what the disk has.
fn cut(switch: Switch, disk: &mut Disk, worker: Worker, log: &Path) -> Result<()> {
    switch.cut(log)?;
    worker.kill()?;
    disk.umount()?;
    disk.mount()
}

/// A workload that runs.
pub(crate) struct Worker {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Worker {
    pub(crate) fn start(arguments: &WorkArguments) -> Result<Self> {
        let mut child = command(arguments)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the workload")?;
        let stdout = child.stdout.take().context("the workload has no output")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// Waits until it has come so far.
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
