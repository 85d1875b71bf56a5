//! Faults at every system call: the workload is killed, or its calls fail, one
//! point after another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::check::check;
use crate::engine::{Engine, Mode};
use crate::events::{self, Event};
use crate::model::Model;
use crate::place::{Disk, FileSystem, Place, copy_tree, run};
use crate::power::{Worker, name_unfinished};
use crate::random::Random;
use crate::report::{Fault, Findings, Outcome};
use crate::strace::{self, Injury, Point};
use crate::workload::WorkArguments;

/// How many steps come before the run that is hurt, and how many it has.
const STEPS_BEFORE: u64 = 20;

/// How a run is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) engine: Engine,
    pub(crate) seed: u64,
    /// How many steps the run has that is hurt.
    pub(crate) steps: u64,
    /// So many random points of each kind; every one, if `None`.
    pub(crate) sample: Option<usize>,
}

/// A store to begin with, and what is known of it.
struct Base {
    name: &'static str,
    /// `None`: there is no store yet.
    store: Option<PathBuf>,
    model: Model,
    steps: u64,
}

impl Faults {
    /// Hurts a run at each point and looks at what it left.
    pub(crate) fn run(self, place: &Place) -> Result<Outcome> {
        let new =
            Base { name: "a new store", store: None, model: Model::new(), steps: self.steps / 3 };
        let bases = [new, self.killed_store(place)?];
        let mut failed = false;
        for injury in Injury::ALL {
            failed |= self.points_of(place, &bases, injury)?;
        }
        for injury in [Injury::Io, Injury::Kill] {
            failed |= self.then_cut(place, &bases, injury)?;
        }
        Ok(if failed { Outcome::Failed } else { Outcome::Passed })
    }

    /// A store whose last process was killed in a commit, so that opening it has
    /// something to finish.
    fn killed_store(&self, place: &Place) -> Result<Base> {
        let store = place.fresh_folder("killed")?.join("store");
        let mut arguments = self.arguments(&store, &fresh_log(place)?, &Model::new());
        arguments.steps = Some(STEPS_BEFORE);
        // The same work twice: the first tells how many fsyncs it makes.
        arguments.last_commit = true;
        let ranges = strace::count(&arguments, &place.path("trace"))?;
        let (call, number) = ["fsync", "fdatasync"]
            .into_iter()
            .filter_map(|call| ranges.get(call).map(|(_, last)| (call, *last)))
            .max_by_key(|(_, last)| *last)
            .context("the workload makes no fsync")?;
        let store = place.fresh_folder("killed")?.join("store");
        let log = fresh_log(place)?;
        arguments.store.clone_from(&store);
        arguments.log.clone_from(&log);
        let back = if call == "fdatasync" { 1 } else { 0 };
        let point = Point { injury: Injury::Kill, call, number: number - back, onwards: false };
        let status = strace::hurt(&arguments, &point)?;
        anyhow::ensure!(was_killed(status), "the workload was not killed at {point}: {status}");
        let mut model = Model::new();
        let mut findings = Findings::default();
        model.replay(&events::read(&log)?, None, &mut findings);
        anyhow::ensure!(findings.total() == 0, "the workload misbehaves: {:?}", findings.texts());
        Ok(Base {
            name: "a store killed in a commit",
            store: Some(store),
            model,
            steps: self.steps,
        })
    }

    /// Every point of one kind; true if something was found.
    fn points_of(&self, place: &Place, bases: &[Base], injury: Injury) -> Result<bool> {
        let start = Instant::now();
        let mut findings = Findings::default();
        let mut tally = Tally::default();
        for base in bases {
            let ranges = strace::count(&self.prepare(place, base)?, &place.path("trace"))?;
            for point in self.choose(injury, &ranges, base, |_| true) {
                let arguments = self.prepare(place, base)?;
                let status = strace::hurt(&arguments, &point)?;
                findings.place = format!("{point}, {}", base.name);
                let mut model = base.model.clone();
                judge_run(&arguments, &point, status, &mut model, &mut findings, &mut tally)?;
                self.look(&arguments.store, &mut model, &mut findings);
            }
        }
        println!(
            "  {} {injury}: {tally}; {findings}; {:.0} s",
            self.engine,
            start.elapsed().as_secs_f64()
        );
        Ok(verdict(&findings, &tally))
    }

    /// Fsyncs that fail, or at which the process is killed, and then a power cut.
    ///
    /// What was read or acknowledged after the failure must be on the disk; and
    /// so must what another process, after the kill, was told of the keys that
    /// the first had not finished.
    fn then_cut(&self, place: &Place, bases: &[Base], injury: Injury) -> Result<bool> {
        let after = match injury {
            Injury::Kill => "another process looks or deletes, ",
            Injury::Io | Injury::Full => "",
        };
        let what = format!("{} {injury} at an fsync, {after}then a power cut", self.engine);
        if let Some(reason) = crate::power::cannot(place) {
            println!("  {what}: SKIPPED: {reason}");
            return Ok(false);
        }
        let mut failed = false;
        for file_system in [FileSystem::Ext4Bare, FileSystem::Xfs] {
            let start = Instant::now();
            let mut findings = Findings::default();
            let mut tally = Tally::default();
            let mut disk = Disk::make(place, file_system)?;
            for base in bases {
                let ranges = strace::count(&self.prepare(place, base)?, &place.path("trace"))?;
                let is_sync = |call: &str| call.ends_with("sync");
                for point in self.choose(injury, &ranges, base, is_sync) {
                    findings.place = format!("{point}, {after}then a power cut, {}", base.name);
                    self.hurt_and_cut(place, base, &mut disk, &point, &mut findings, &mut tally)?;
                }
            }
            println!(
                "  {what} on {}: {tally}; {findings}; {:.0} s",
                file_system.name(),
                start.elapsed().as_secs_f64()
            );
            failed |= verdict(&findings, &tally);
        }
        Ok(failed)
    }

    fn hurt_and_cut(
        &self,
        place: &Place,
        base: &Base,
        disk: &mut Disk,
        point: &Point,
        findings: &mut Findings,
        tally: &mut Tally,
    ) -> Result<()> {
        let mut arguments = self.prepare(place, base)?;
        let on_disk = disk.root.join("store");
        remove(&on_disk)?;
        if arguments.store.exists() {
            copy_tree(&arguments.store, &on_disk)?;
        }
        run(std::process::Command::new("sync").arg("-f").arg(&disk.root))?;
        arguments.store.clone_from(&on_disk);
        let switch = disk.switch()?;
        let status = strace::hurt(&arguments, point)?;
        let begun = arguments.log.exists();
        if point.injury == Injury::Kill && begun {
            let mut second = arguments.clone();
            let keys = place.path("keys");
            let next = name_unfinished(&events::read(&second.log)?, &keys)?;
            second.first_op = next.max(arguments.first_op);
            second.touch = Some(keys);
            second.delete = point.number.is_multiple_of(2);
            second.end = false;
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
        judge_run(&arguments, point, status, &mut model, findings, tally)?;
        self.look(&on_disk, &mut model, findings);
        Ok(())
    }

    /// The points to try.
    fn choose(
        &self,
        injury: Injury,
        ranges: &BTreeMap<&'static str, (usize, usize)>,
        base: &Base,
        wanted: impl Fn(&str) -> bool,
    ) -> Vec<Point> {
        let mut points = Vec::new();
        for call in injury.calls().filter(|call| wanted(call)) {
            let Some((first, last)) = ranges.get(call) else { continue };
            for number in *first..=*last {
                points.push(Point { injury, call, number, onwards: false });
                // A disk that has failed, or is full, mostly stays so.
                if injury != Injury::Kill && number % 4 == 1 {
                    points.push(Point { injury, call, number, onwards: true });
                }
            }
        }
        let Some(sample) = self.sample else { return points };
        // More of them where there is more to go wrong.
        let count = if base.store.is_some() { sample - sample / 4 } else { sample / 4 };
        let mut random = Random::new(self.seed ^ points.len() as u64);
        let mut chosen = Vec::new();
        while chosen.len() < count && !points.is_empty() {
            chosen.push(points.swap_remove(random.index(points.len())));
        }
        chosen
    }

    /// A copy of the base, and the work to do on it.
    fn prepare(&self, place: &Place, base: &Base) -> Result<WorkArguments> {
        let store = place.fresh_folder("hurt")?.join("store");
        if let Some(from) = &base.store {
            copy_tree(from, &store)?;
        }
        let mut arguments = self.arguments(&store, &fresh_log(place)?, &base.model);
        arguments.steps = Some(base.steps);
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
            steps: None,
            one: None,
            touch: None,
            delete: false,
            position: None,
            go_on: true,
            end: true,
            last_commit: false,
        }
    }

    /// Opens what the run left, with nothing in the way, and compares.
    fn look(&self, store: &Path, model: &mut Model, findings: &mut Findings) {
        match self.engine.open(Mode::Sync, store) {
            Ok(storage) => {
                let mut random = Random::new(self.seed);
                check(&*storage, model, &mut random, findings);
            }
            Err(error) => findings.add(Fault::Unreadable, format!("it does not open: {error}")),
        }
    }
}

/// What the runs went through.
#[derive(Debug, Default)]
struct Tally {
    points: u64,
    /// Before the program had begun: these count for nothing.
    not_begun: u64,
    not_opened: u64,
    killed: u64,
    unknown: u64,
    acked: u64,
    unread: u64,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.not_begun > 0 {
            write!(f, "{} of ", self.points - self.not_begun)?;
        }
        write!(
            f,
            "{} points, {} killed, {} in which the store did not open, {} operations acknowledged, {} failed, {} reads refused",
            self.points, self.killed, self.not_opened, self.acked, self.unknown, self.unread
        )
    }
}

fn verdict(findings: &Findings, tally: &Tally) -> bool {
    if tally.killed + tally.unknown + tally.not_opened == 0 {
        println!("    FAILED: VOID: nothing was hurt");
        return true;
    }
    if findings.total() == 0 {
        return false;
    }
    findings.texts().iter().for_each(|text| println!("    {text}"));
    println!("    FAILED: each operation must be as before or as after, and answers true");
    true
}

/// Compares what a run was told with what it may be told, and takes it into the
/// model.
fn judge_run(
    arguments: &WorkArguments,
    point: &Point,
    status: std::process::ExitStatus,
    model: &mut Model,
    findings: &mut Findings,
    tally: &mut Tally,
) -> Result<()> {
    let killed = was_killed(status) && point.injury == Injury::Kill;
    tally.points += 1;
    if !arguments.log.exists() {
        // A number that a thread of the store came to, and that the first thread
        // had come to when it loaded the program.
        tally.not_begun += 1;
        return Ok(());
    }
    if !killed && !status.success() {
        findings.add(Fault::Died, format!("the process ended with {status}"));
    }
    let events = events::read(&arguments.log)?;
    let reads_fail = matches!(point.call, "openat" | "read" | "pread64");
    for event in &events {
        match event {
            Event::OpenFailed(why) => {
                tally.not_opened += 1;
                if why.contains("corrupt") {
                    findings.add(Fault::Contract, format!("the opening blames the store: {why}"));
                }
            }
            Event::Refused { op, why } if !why.contains("quota is used up") => {
                findings.add(Fault::Contract, format!("operation {op} was refused: {why}"));
            }
            Event::ReadFailed { why, .. } if why.contains("corrupt") => {
                findings.add(Fault::Contract, format!("a read blames the store: {why}"));
            }
            _ => {}
        }
    }
    let told = model.replay(&events, None, findings);
    // Only what is in doubt may be refused to a reader.
    for read in told.needless.iter().filter(|_| !reads_fail) {
        findings.add(Fault::Contract, format!("in no doubt, and not read: {read}"));
    }
    tally.killed += u64::from(killed);
    tally.unknown += told.failed_ops;
    tally.acked += told.acked_ops;
    tally.unread += told.failed_reads;
    Ok(())
}

fn was_killed(status: std::process::ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
}

fn fresh_log(place: &Place) -> Result<PathBuf> {
    let log = place.path("log");
    remove(&log)?;
    Ok(log)
}

/// Removes a file or folder that may be there.
fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)?;
    } else if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}
