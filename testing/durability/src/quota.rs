//! Many tasks that write at the limits of quotas, even while their process is killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use storage_core::{ComponentStorage, Usage};
#[cfg(feature = "postgres")]
use test_servers::Postgres;
#[cfg(feature = "redis")]
use test_servers::Redis;

use crate::check;
use crate::engine::{Engine, Mode};
#[cfg(feature = "postgres")]
use crate::postgres;
#[cfg(feature = "redis")]
use crate::redis;
use crate::report::{Fault, Findings, Outcome};
use crate::scratch::Scratch;
use crate::tasks::{COMPONENTS, Numbers, Report, TaskArguments, recount};
use crate::workload::command;

/// A test of quotas.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quotas {
    /// `None` for the memory store.
    pub(crate) engine: Option<Engine>,
    pub(crate) tasks: u64,
    pub(crate) millis: u64,
    pub(crate) kills: u64,
    pub(crate) seed: u64,
}

impl Quotas {
    /// Runs tasks until their time is over, then kills processes of tasks.
    pub(crate) fn run(self, scratch: &Scratch) -> Result<Outcome> {
        #[cfg(feature = "postgres")]
        if self.engine == Some(Engine::Postgres) {
            if let Some(reason) = Postgres::missing() {
                println!("  SKIPPED: {reason}");
                return Ok(Outcome::Skipped);
            }
            let server = Postgres::start()?;
            return self
                .run_on(&postgres::create_store(&server)?, &|| postgres::wait_for_hosts(&server));
        }
        #[cfg(feature = "redis")]
        if self.engine == Some(Engine::Redis) {
            if let Some(reason) = Redis::missing() {
                println!("  SKIPPED: {reason}");
                return Ok(Outcome::Skipped);
            }
            // A process may be killed in either mode, and the server is not.
            let server = Redis::start()?;
            let store = redis::Location::single(server.address()).path()?;
            return self.run_on(&store, &|| redis::wait_for_hosts([&server]));
        }
        self.run_on(&scratch.fresh_directory("quota")?.join("store"), &|| Ok(()))
    }

    /// `wait` returns when no killed process writes to the store any more.
    fn run_on(self, store: &Path, wait: &dyn Fn() -> Result<()>) -> Result<Outcome> {
        let mut good = self.at_the_limit(store)?;
        if let Some(engine) = self.engine {
            // On the same store, whose quotas are used up.
            good &= self.kills(engine, store, wait)?;
        }
        Ok(if good { Outcome::Passed } else { Outcome::Failed })
    }

    fn arguments(self, store: &Path, mode: Mode, seed: u64, millis: Option<u64>) -> TaskArguments {
        let Self { engine, tasks, .. } = self;
        TaskArguments { engine, mode, store: store.to_owned(), seed, tasks, millis }
    }

    /// Runs tasks until their time is over.
    fn at_the_limit(self, store: &Path) -> Result<bool> {
        let arguments = self.arguments(store, Mode::Sync, self.seed, Some(self.millis));
        let mut tasks = Tasks::start(&arguments)?;
        while tasks.read_line()? {}
        let Tasks { numbers, mut findings, done, .. } = tasks.end()?;
        if !done {
            findings.push("the process of the tasks did not finish".to_owned());
        }
        let get = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        println!(
            "  {} tasks for {} s: {} writes and {} deletes done, {} writes refused; {} reads of usage, {} recounts of snapshots, at most {} bytes of {}",
            self.tasks,
            self.millis as f64 / 1000.0,
            get(&numbers.writes),
            get(&numbers.deletes),
            get(&numbers.refused),
            get(&numbers.samples),
            get(&numbers.recounts),
            get(&numbers.peak),
            COMPONENTS.iter().find_map(|(_, quota)| *quota).map_or(0, |quota| quota.max_bytes),
        );
        print_deviations(&numbers);
        findings.iter().take(10).for_each(|finding| println!("    {finding}"));
        if get(&numbers.refused) == 0 || get(&numbers.writes) == 0 {
            println!("    FAILED: no write was refused, so the limit was not reached");
            return Ok(false);
        }
        Ok(findings.is_empty() && is_exact(&numbers))
    }

    /// Kills processes of tasks on one store, and compares the keys with the usage counters.
    fn kills(self, engine: Engine, store: &Path, wait: &dyn Fn() -> Result<()>) -> Result<bool> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut findings = Findings::default();
        let numbers = Numbers::default();
        let mut sums = [0, 0, 0];
        for kill in 0..self.kills {
            findings.context = format!("kill {}", kill + 1);
            // Both must be exact: a kill loses relaxed writes together with their counts.
            let mode = if kill % 2 == 0 { Mode::Sync } else { Mode::Relaxed };
            let mut tasks = Tasks::start(&self.arguments(store, mode, self.seed + kill, None))?;
            // Sometimes during the opening, else after this many finished writes.
            if kill % 7 != 6 {
                let finished = random.u64(0..600);
                while !(tasks.ready && tasks.finished() > finished) && tasks.read_line()? {}
            }
            std::thread::sleep(Duration::from_micros(random.u64(0..40_000)));
            tasks.child.kill()?;
            while tasks.read_line()? {}
            let tasks = tasks.end()?;
            wait()?;
            for finding in &tasks.findings {
                findings.add(Fault::Contract, finding.clone());
            }
            let done = [&tasks.numbers.writes, &tasks.numbers.deletes, &tasks.numbers.refused];
            for (sum, number) in sums.iter_mut().zip(done) {
                *sum += number.load(Ordering::Relaxed);
            }
            check_store(engine, mode, store, &numbers, &mut findings)?;
        }
        let [writes, deletes, refused] = sums;
        println!(
            "  {} kills among {} tasks: {writes} writes and {deletes} deletes done, {refused} writes refused; {} problems",
            self.kills,
            self.tasks,
            findings.total()
        );
        print_deviations(&numbers);
        findings.texts().iter().for_each(|text| println!("    {text}"));
        if refused == 0 {
            println!("    FAILED: no write was refused, so the limit was not reached");
            return Ok(false);
        }
        Ok(findings.total() == 0 && is_exact(&numbers))
    }
}

fn print_deviations(numbers: &Numbers) {
    let get = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    println!(
        "    {} bytes and {} keys over a quota, {} bytes and {} keys counted wrong",
        get(&numbers.bytes_over),
        get(&numbers.keys_over),
        get(&numbers.bytes_drift),
        get(&numbers.keys_drift)
    );
}

fn is_exact(numbers: &Numbers) -> bool {
    let wrong =
        [&numbers.bytes_over, &numbers.keys_over, &numbers.bytes_drift, &numbers.keys_drift];
    wrong.iter().all(|number| number.load(Ordering::Relaxed) == 0)
}

/// Compares the usage counters with the keys, before and after the store is opened.
fn check_store(
    engine: Engine,
    mode: Mode,
    store: &Path,
    numbers: &Numbers,
    findings: &mut Findings,
) -> Result<()> {
    if !engine.is_server() && !store.exists() {
        // Killed before the store was created.
        return Ok(());
    }
    match engine.verify(store) {
        Ok(problems) => problems.into_iter().for_each(|one| findings.add(Fault::UsageCounter, one)),
        Err(error) => findings.add(Fault::Unreadable, error.to_string()),
    }
    let storage = match engine.open(mode, store) {
        Ok(storage) => storage,
        Err(error) => {
            findings.add(Fault::Unreadable, format!("cannot open the store: {error}"));
            return Ok(());
        }
    };
    for (id, quota) in COMPONENTS {
        let prefix = format!("{id}/");
        let counted = recount(&*storage, &prefix)?;
        if let Some(quota) = quota
            && !numbers.within(counted, quota)
        {
            findings.add(Fault::UsageCounter, format!("{id}: {counted:?}, the quota is {quota:?}"));
        }
        let full = storage.usage(Some(&prefix))?;
        let prefixes = full.keys * prefix.len() as u64;
        let usage = Usage { bytes: full.bytes.saturating_sub(prefixes), ..full };
        if !numbers.agree(usage, counted) {
            findings
                .add(Fault::UsageCounter, format!("{id}: usage {usage:?}, recount {counted:?}"));
        }
        if quota.is_some()
            && let Err((fault, problem)) = check::usage_counter(&*storage, &prefix, true)
        {
            findings.add(fault, format!("{id}: {problem}"));
        }
    }
    Ok(())
}

/// A running process of tasks.
struct Tasks {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    ready: bool,
    done: bool,
    numbers: Numbers,
    findings: Vec<String>,
}

impl Tasks {
    fn start(arguments: &TaskArguments) -> Result<Self> {
        let mut child = command("tasks", arguments)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the tasks")?;
        let stdout = child.stdout.take().context("the tasks have no output")?;
        let (numbers, findings) = (Numbers::default(), Vec::new());
        let lines = BufReader::new(stdout).lines();
        Ok(Self { child, lines, ready: false, done: false, numbers, findings })
    }

    /// Reads the next line; false at the end.
    fn read_line(&mut self) -> Result<bool> {
        let Some(line) = self.lines.next() else { return Ok(false) };
        let line = line?;
        // The last line of a killed process may be incomplete.
        match serde_json::from_str(&line) {
            Ok(Report::Ready) => self.ready = true,
            Ok(Report::Numbers(numbers)) => self.numbers = numbers,
            Ok(Report::Finding(finding)) => self.findings.push(finding),
            Ok(Report::Done) => self.done = true,
            Err(_) => {}
        }
        Ok(true)
    }

    /// The number of finished writes that was reported last.
    fn finished(&self) -> u64 {
        let finished = [&self.numbers.writes, &self.numbers.deletes, &self.numbers.refused];
        finished.iter().map(|number| number.load(Ordering::Relaxed)).sum()
    }

    /// Waits for the process to end.
    fn end(mut self) -> Result<Self> {
        self.child.wait()?;
        Ok(self)
    }
}
