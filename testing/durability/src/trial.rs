//! Rounds of work, each of which ends with a disturbance and a check of the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fastrand::Rng;

use crate::check::check;
use crate::content::hash;
use crate::engine::{Engine, Mode};
use crate::events::{self, Event};
use crate::model::{Model, Replayed};
use crate::plan::percent;
use crate::report::{Fault, Findings, Outcome};
use crate::scratch::Scratch;
use crate::worker::{Worker, unacknowledged};
use crate::workload::{Work, WorkArguments};

/// What keeps the data of the store under test, and what is done to it.
pub(crate) trait Target {
    /// Its name in the report.
    fn name(&self) -> String;

    /// The rounds after which it is created anew.
    fn rounds_per_store(&self) -> u64;

    /// Removes the data.
    fn start_over(&mut self) -> Result<()>;

    /// The store as [`Engine::open`] names it.
    fn store(&self) -> PathBuf;

    /// How long a workload runs at most before it is disturbed.
    fn longest_work(&self) -> Duration {
        Duration::from_millis(150)
    }

    /// Whether the workload continues after errors, because the target recovers from the
    /// disturbance while the workload runs.
    fn recovers(&self) -> bool {
        false
    }

    /// Prepares the disturbance before a workload starts.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// Waits until nothing of a killed workload can take effect any more.
    fn wait_for_killed(&self) -> Result<()> {
        Ok(())
    }

    /// Disturbs the workload, and ends it. Afterwards the store can be opened.
    fn disturb(&mut self, worker: Worker, log: &Path, random: &mut Rng) -> Result<()>;
}

/// What acknowledged writes must survive.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// Everything.
    Survival,
    /// Only these faults may happen.
    Only(&'static [Fault]),
    /// Only these faults may happen, and some acknowledged write must be lost.
    Loss(&'static [Fault]),
}

impl Expected {
    /// Why the findings are not as expected, if they are not.
    pub(crate) fn evaluate(
        self,
        findings: &Findings,
        opened_corrupt: u64,
    ) -> Result<(), &'static str> {
        let allowed = match self {
            Self::Survival if findings.total() + opened_corrupt > 0 => {
                return Err("acknowledged writes must survive");
            }
            Self::Survival => return Ok(()),
            Self::Loss(_) if findings.count(Fault::Lost) == 0 => {
                return Err("no relaxed write was lost, so the rounds prove nothing");
            }
            Self::Only(allowed) | Self::Loss(allowed) => allowed,
        };
        if findings.other_than(allowed) > 0 {
            return Err("relaxed writes may be lost, but nothing else may happen");
        }
        Ok(())
    }
}

/// A series of rounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series<'a> {
    pub(crate) engine: Engine,
    pub(crate) mode: Mode,
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
    /// What a round is called: `cuts`.
    pub(crate) unit: &'static str,
    pub(crate) expected: Expected,
    /// Where to keep the logs of rounds with a finding.
    pub(crate) keep: Option<&'a Path>,
}

/// A series that is running, and what is known about the store.
struct Trial<'a> {
    scratch: &'a Scratch,
    plan: Series<'a>,
    target: &'a mut dyn Target,
    model: Model,
    run: u64,
    random: Rng,
    findings: Findings,
    summary: Replayed,
    rounds: u64,
    opened_corrupt: u64,
}

impl Series<'_> {
    /// Runs the rounds and prints a summary.
    pub(crate) fn run(self, scratch: &Scratch, target: &mut dyn Target) -> Result<Outcome> {
        let start = Instant::now();
        let name = target.name();
        let mut trial = Trial {
            scratch,
            plan: self,
            target,
            model: Model::of(self.mode),
            run: 0,
            random: Rng::with_seed(self.seed ^ hash(&name)),
            findings: Findings::default(),
            summary: Replayed::default(),
            rounds: 0,
            opened_corrupt: 0,
        };
        while trial.rounds < self.rounds {
            if trial.run == trial.target.rounds_per_store() {
                trial.start_over()?;
            }
            trial.round(&name)?;
        }
        let Trial { findings, summary, opened_corrupt, .. } = trial;
        println!(
            "  {} {} {name}: {} {}, {} acknowledged operations with {} writes, {} reads; {findings}{}; {:.0} s",
            self.engine,
            self.mode,
            self.rounds,
            self.unit,
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
        Ok(match self.expected.evaluate(&findings, opened_corrupt) {
            Ok(()) => Outcome::Passed,
            Err(why) => findings.fail(why),
        })
    }
}

impl Trial<'_> {
    fn start_over(&mut self) -> Result<()> {
        self.target.start_over()?;
        self.model = Model::of(self.plan.mode);
        self.run = 0;
        Ok(())
    }

    /// Works, disturbs and checks.
    fn round(&mut self, name: &str) -> Result<()> {
        self.run += 1;
        self.findings.context = format!("{name} round {}", self.rounds + 1);
        let log = self.scratch.path("log");
        fs::write(&log, "")?;
        // Every fourth round ends after a single write. Nothing else has made the file system
        // write then, so that a missing fsync shows.
        let one = self.rounds.is_multiple_of(4).then_some(self.rounds / 4);
        // Some of the other disturbances may hit the opening.
        let from_start = percent(&mut self.random, 20);
        let mut arguments = WorkArguments {
            engine: self.plan.engine,
            mode: self.plan.mode,
            store: self.target.store(),
            log: log.clone(),
            seed: self.plan.seed,
            run: self.rounds + 1,
            first_op: self.model.next_op,
            threads: 4,
            work: one.map_or(Work::Steps(None), Work::One),
            position: None,
            continues: self.target.recovers(),
            ends: false,
        };
        // In some rounds a process is killed, and a second one reads or deletes the keys that
        // it had not finished. What the second one read must be durable too.
        let second = one.is_none() && self.rounds % 6 == 3;
        if second {
            let mut first = Worker::start(&arguments)?;
            first.wait_for("ready")?;
            std::thread::sleep(Duration::from_micros(self.random.u64(0..60_000)));
            first.kill()?;
            self.target.wait_for_killed()?;
            let (next, keys) = unacknowledged(&events::read(&log)?);
            arguments.first_op = next;
            let deletes = percent(&mut self.random, 50);
            arguments.work = if deletes { Work::Delete(keys) } else { Work::Read(keys) };
        }
        let quiet = one.is_some() || second;
        self.target.prepare()?;
        let mut worker = Worker::start(&arguments)?;
        if quiet {
            worker.wait_for("done")?;
        } else {
            if !from_start {
                worker.wait_for("ready")?;
            }
            let max = self.target.longest_work();
            let max = if from_start { max / 4 } else { max };
            std::thread::sleep(max.mul_f64(self.random.f64()));
        }
        self.target.disturb(worker, &log, &mut self.random)?;
        self.rounds += 1;

        let events = events::read(&log)?;
        for event in &events {
            // Only a disturbance of the opening is a reason.
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
        self.check()?;
        if let Some(directory) = &self.plan.keep
            && self.findings.total() > before
        {
            fs::create_dir_all(directory)?;
            fs::copy(&log, directory.join(format!("{name}-{}.log", self.rounds)))?;
        }
        Ok(())
    }

    /// Opens the store after a disturbance and compares it with the model.
    fn check(&mut self) -> Result<()> {
        match self.plan.engine.open(self.plan.mode, &self.target.store()) {
            Ok(storage) => {
                let readable =
                    check(&*storage, &mut self.model, &mut self.random, &mut self.findings);
                drop(storage);
                if readable { Ok(()) } else { self.start_over() }
            }
            Err(error) => {
                let relaxed =
                    self.plan.mode == Mode::Relaxed && self.plan.engine.relaxed_may_tear();
                if relaxed && matches!(error, storage_core::StorageError::Corrupt { .. }) {
                    self.opened_corrupt += 1;
                } else {
                    self.findings.add(Fault::Unreadable, format!("cannot open the store: {error}"));
                }
                self.start_over()
            }
        }
    }
}
