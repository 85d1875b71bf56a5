//! Faults at every system call: the workload is killed there, or the call fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::check::check;
use crate::engine::{Engine, Mode};
use crate::events::{self, Event};
use crate::model::Model;
use crate::report::{Fault, Findings, Outcome};
use crate::scratch::{Disk, FileSystem, Scratch, copy_tree, run};
use crate::strace::{self, Injection, Point};
use crate::worker::{Worker, unacknowledged};
use crate::workload::{Work, WorkArguments};

/// The number of steps before the run with a fault.
const STEPS_BEFORE: u64 = 20;

/// A series of faults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) engine: Engine,
    pub(crate) seed: u64,
    /// The number of steps of a run with a fault.
    pub(crate) steps: u64,
    /// The number of random points of each kind; all points if `None`.
    pub(crate) sample: Option<usize>,
}

/// The store at the start of a run, and what is known about it.
struct Base {
    name: &'static str,
    /// `None` if there is no store yet.
    store: Option<PathBuf>,
    model: Model,
    steps: u64,
}

impl Faults {
    /// Injects a fault at each point and checks the store afterwards.
    pub(crate) fn run(self, scratch: &Scratch) -> Result<Outcome> {
        let new =
            Base { name: "a new store", store: None, model: Model::new(), steps: self.steps / 3 };
        let bases = [new, self.killed_store(scratch)?];
        let mut has_failed = false;
        for injection in Injection::ALL {
            has_failed |= self.points_of(scratch, &bases, injection)?;
        }
        for injection in [Injection::Io, Injection::Kill] {
            has_failed |= self.then_cut(scratch, &bases, injection)?;
        }
        Ok(if has_failed { Outcome::Failed } else { Outcome::Passed })
    }

    /// A store whose process was killed during a commit, so that opening it recovers a
    /// pending commit.
    fn killed_store(&self, scratch: &Scratch) -> Result<Base> {
        let store = scratch.fresh_directory("killed")?.join("store");
        let mut arguments = self.arguments(&store, &fresh_log(scratch)?, &Model::new());
        // The work is done twice: first to count its fsyncs.
        arguments.work = Work::StepsAndCommit(STEPS_BEFORE);
        let ranges = strace::count(&arguments, &scratch.path("trace"))?;
        let (call, number) = ["fsync", "fdatasync"]
            .into_iter()
            .filter_map(|call| ranges.get(call).map(|(_, last)| (call, *last)))
            .max_by_key(|(_, last)| *last)
            .context("the workload makes no fsync")?;
        let store = scratch.fresh_directory("killed")?.join("store");
        let log = fresh_log(scratch)?;
        arguments.store.clone_from(&store);
        arguments.log.clone_from(&log);
        let back = if call == "fdatasync" { 1 } else { 0 };
        let point =
            Point { injection: Injection::Kill, call, number: number - back, and_later: false };
        let status = strace::inject(&arguments, &point)?;
        anyhow::ensure!(was_killed(status), "the workload was not killed at {point}: {status}");
        let mut model = Model::new();
        let mut findings = Findings::default();
        model.replay(&events::read(&log)?, None, &mut findings);
        anyhow::ensure!(
            findings.total() == 0,
            "unexpected findings: {}",
            findings.texts().join("; ")
        );
        Ok(Base {
            name: "a store killed in a commit",
            store: Some(store),
            model,
            steps: self.steps,
        })
    }

    /// Injects a fault of one kind at every point; true if that failed.
    fn points_of(&self, scratch: &Scratch, bases: &[Base], injection: Injection) -> Result<bool> {
        let start = Instant::now();
        let mut findings = Findings::default();
        let mut tally = Tally::default();
        for base in bases {
            let ranges = strace::count(&self.prepare(scratch, base)?, &scratch.path("trace"))?;
            for point in self.choose(injection, &ranges, base, |_| true) {
                let arguments = self.prepare(scratch, base)?;
                let status = strace::inject(&arguments, &point)?;
                findings.context = format!("{point}, {}", base.name);
                let mut model = base.model.clone();
                check_run(&arguments, &point, status, &mut model, &mut findings, &mut tally)?;
                self.check(&arguments.store, &mut model, &mut findings);
            }
        }
        println!(
            "  {} {injection}: {tally}; {findings}; {:.0} s",
            self.engine,
            start.elapsed().as_secs_f64()
        );
        Ok(failed(&findings, &tally))
    }

    /// Injects faults into fsyncs and then cuts the power.
    ///
    /// What was read or acknowledged after the fault must be on the disk. After a kill, so
    /// must what a second process reads of the keys that the first one had not finished.
    fn then_cut(&self, scratch: &Scratch, bases: &[Base], injection: Injection) -> Result<bool> {
        let after = match injection {
            Injection::Kill => "then another process, ",
            Injection::Io | Injection::Full => "",
        };
        let what = format!("{} {injection} at an fsync, {after}then a power cut", self.engine);
        if let Some(reason) = crate::power::cannot(scratch) {
            println!("  {what}: SKIPPED: {reason}");
            return Ok(false);
        }
        let mut has_failed = false;
        for file_system in [FileSystem::Ext4NoAutoDaAlloc, FileSystem::Xfs] {
            let start = Instant::now();
            let mut findings = Findings::default();
            let mut tally = Tally::default();
            let mut disk = Disk::create(scratch, file_system)?;
            for base in bases {
                let ranges = strace::count(&self.prepare(scratch, base)?, &scratch.path("trace"))?;
                let is_sync = |call: &str| call.ends_with("sync");
                for point in self.choose(injection, &ranges, base, is_sync) {
                    findings.context = format!("{point}, {after}then a power cut, {}", base.name);
                    self.inject_and_cut(
                        scratch,
                        base,
                        &mut disk,
                        &point,
                        &mut findings,
                        &mut tally,
                    )?;
                }
            }
            println!(
                "  {what} on {}: {tally}; {findings}; {:.0} s",
                file_system.name(),
                start.elapsed().as_secs_f64()
            );
            has_failed |= failed(&findings, &tally);
        }
        Ok(has_failed)
    }

    fn inject_and_cut(
        &self,
        scratch: &Scratch,
        base: &Base,
        disk: &mut Disk,
        point: &Point,
        findings: &mut Findings,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut arguments = self.prepare(scratch, base)?;
        let on_disk = disk.root.join("store");
        remove(&on_disk)?;
        if arguments.store.exists() {
            copy_tree(&arguments.store, &on_disk)?;
        }
        run(std::process::Command::new("sync").arg("-f").arg(&disk.root))?;
        arguments.store.clone_from(&on_disk);
        let switch = disk.switch()?;
        let status = strace::inject(&arguments, point)?;
        let begun = arguments.log.exists();
        if point.injection == Injection::Kill && begun {
            let mut second = arguments.clone();
            let (next, keys) = unacknowledged(&events::read(&second.log)?);
            second.first_op = next.max(arguments.first_op);
            second.work =
                if point.number.is_multiple_of(2) { Work::Delete(keys) } else { Work::Read(keys) };
            second.ends = false;
            let mut worker = Worker::start(&second)?;
            worker.wait_for("done")?;
            switch.cut(&second.log)?;
            worker.kill()?;
        } else if begun {
            switch.cut(&arguments.log)?;
        }
        disk.umount()?;
        disk.mount()?;
        let mut model = base.model.clone();
        check_run(&arguments, point, status, &mut model, findings, tally)?;
        self.check(&on_disk, &mut model, findings);
        Ok(())
    }

    /// The points to try.
    fn choose(
        &self,
        injection: Injection,
        ranges: &BTreeMap<&'static str, (usize, usize)>,
        base: &Base,
        wanted: impl Fn(&str) -> bool,
    ) -> Vec<Point> {
        let mut points = Vec::new();
        for call in injection.calls().filter(|call| wanted(call)) {
            let Some((first, last)) = ranges.get(call) else { continue };
            for number in *first..=*last {
                points.push(Point { injection, call, number, and_later: false });
                // A disk that has failed, or is full, usually stays so.
                if injection != Injection::Kill && number % 4 == 1 {
                    points.push(Point { injection, call, number, and_later: true });
                }
            }
        }
        let Some(sample) = self.sample else { return points };
        // More of them for the store that has a pending commit.
        let count = if base.store.is_some() { sample - sample / 4 } else { sample / 4 };
        let mut random = fastrand::Rng::with_seed(self.seed ^ points.len() as u64);
        let mut chosen = Vec::new();
        while chosen.len() < count && !points.is_empty() {
            chosen.push(points.swap_remove(random.usize(0..points.len())));
        }
        chosen
    }

    /// Copies the base, and returns the work to do on the copy.
    fn prepare(&self, scratch: &Scratch, base: &Base) -> Result<WorkArguments> {
        let store = scratch.fresh_directory("store")?.join("store");
        if let Some(from) = &base.store {
            copy_tree(from, &store)?;
        }
        let mut arguments = self.arguments(&store, &fresh_log(scratch)?, &base.model);
        arguments.work = Work::Steps(Some(base.steps));
        Ok(arguments)
    }

    fn arguments(&self, store: &Path, log: &Path, model: &Model) -> WorkArguments {
        WorkArguments {
            engine: self.engine,
            mode: Mode::Sync,
            store: store.to_owned(),
            log: log.to_owned(),
            seed: self.seed,
            run: model.next_op,
            first_op: model.next_op,
            threads: 1,
            work: Work::Steps(None),
            position: None,
            continues: true,
            ends: true,
        }
    }

    /// Opens the store without faults and compares it with the model.
    fn check(&self, store: &Path, model: &mut Model, findings: &mut Findings) {
        match self.engine.open(Mode::Sync, store) {
            Ok(storage) => {
                let mut random = fastrand::Rng::with_seed(self.seed);
                check(&*storage, model, &mut random, findings);
            }
            Err(error) => {
                findings.add(Fault::Unreadable, format!("cannot open the store: {error}"))
            }
        }
    }
}

/// What happened in the runs.
#[derive(Debug, Default)]
struct Tally {
    points: u64,
    /// Faults before the work began, which do not count.
    not_begun: u64,
    not_opened: u64,
    killed: u64,
    indeterminate: u64,
    acked: u64,
    failed_reads: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.not_begun > 0 {
            write!(f, "{} of ", self.points - self.not_begun)?;
        }
        write!(
            f,
            "{} points, {} killed, {} in which the store did not open, {} operations acknowledged, {} failed, {} reads failed",
            self.points,
            self.killed,
            self.not_opened,
            self.acked,
            self.indeterminate,
            self.failed_reads
        )
    }
}

/// Whether the runs failed; prints why.
fn failed(findings: &Findings, tally: &Tally) -> bool {
    if tally.killed + tally.indeterminate + tally.not_opened == 0 {
        println!("    FAILED: no fault took effect");
        return true;
    }
    if findings.total() == 0 {
        return false;
    }
    findings.fail("each operation must happen completely or not at all") == Outcome::Failed
}

/// Checks the results of a run, and adds them to the model.
fn check_run(
    arguments: &WorkArguments,
    point: &Point,
    status: std::process::ExitStatus,
    model: &mut Model,
    findings: &mut Findings,
    tally: &mut Tally,
) -> Result<()> {
    let killed = was_killed(status) && point.injection == Injection::Kill;
    tally.points += 1;
    if !arguments.log.exists() {
        // A thread of the store makes this call, but the main thread made one with the same
        // number while it loaded the program.
        tally.not_begun += 1;
        return Ok(());
    }
    if !killed && !status.success() {
        findings.add(Fault::Died, format!("the process ended with {status}"));
    }
    let events = events::read(&arguments.log)?;
    let reads_fail = matches!(point.call, "openat" | "read" | "pread64");
    // The first read of a component syncs its directory.
    let reads_sync = point.call.ends_with("sync");
    for event in &events {
        match event {
            Event::OpenFailed(why) => {
                tally.not_opened += 1;
                if why.contains("corrupt") {
                    findings.add(Fault::Contract, format!("the opening reports corruption: {why}"));
                }
            }
            Event::Refused { op, why } if !why.contains("quota is used up") => {
                findings.add(Fault::Contract, format!("operation {op} was refused: {why}"));
            }
            Event::ReadFailed { why, .. } if why.contains("corrupt") => {
                findings.add(Fault::Contract, format!("a read reports corruption: {why}"));
            }
            _ => {}
        }
    }
    let summary = model.replay(&events, None, findings);
    // A read may fail only if the state of its key is indeterminate.
    for (unavailable, read) in &summary.needless_failures {
        if reads_fail || reads_sync && !unavailable {
            continue;
        }
        findings.add(Fault::Contract, format!("a read failed for no reason: {read}"));
    }
    tally.killed += u64::from(killed);
    tally.indeterminate += summary.failed_ops;
    tally.acked += summary.acked_ops;
    tally.failed_reads += summary.failed_reads;
    Ok(())
}

fn was_killed(status: std::process::ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
}

fn fresh_log(scratch: &Scratch) -> Result<PathBuf> {
    let log = scratch.path("log");
    remove(&log)?;
    Ok(log)
}

/// Removes a file or directory, if it exists.
fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    } else if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}
