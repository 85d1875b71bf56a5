//! Quotas: many tasks at the edge, and processes killed among them.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use storage_core::{ComponentStorage, Usage};

use crate::check;
use crate::engine::{Engine, Mode};
use crate::place::Place;
use crate::random::Random;
use crate::report::{Fault, Findings, Outcome};
use crate::tasks::{COMPONENTS, Numbers, TaskArguments, recount};

/// How a run is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quotas {
    /// The store; `None` for the one in memory.
    pub(crate) engine: Option<Engine>,
    pub(crate) tasks: u64,
    pub(crate) millis: u64,
    pub(crate) kills: u64,
    pub(crate) seed: u64,
}

impl Quotas {
    /// Lets tasks write for a while, then kills some that do.
    pub(crate) fn run(self, place: &Place) -> Result<Outcome> {
        let store = place.fresh_folder("quota")?.join("store");
        let mut good = self.at_the_edge(&store)?;
        if let Some(engine) = self.engine {
            // On the same store: its quotas are full.
            good &= self.kills(engine, &store)?;
        }
        Ok(if good { Outcome::Passed } else { Outcome::Failed })
    }

    fn arguments(self, store: &Path, mode: Mode, seed: u64, millis: Option<u64>) -> TaskArguments {
        let Self { engine, tasks, .. } = self;
        TaskArguments { engine, mode, store: store.to_owned(), seed, tasks, millis }
    }

    /// Lets the tasks write until their time is over.
    fn at_the_edge(self, store: &Path) -> Result<bool> {
        let arguments = self.arguments(store, Mode::Sync, self.seed, Some(self.millis));
        let mut tasks = Tasks::start(&arguments)?;
        while tasks.hear()? {}
        let Tasks { numbers, mut findings, done, .. } = tasks.end()?;
        if !done {
            findings.push("the process of the tasks did not come to its end".to_owned());
        }
        let get = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        println!(
            "  {} tasks for {} s: {} writes and {} deletes done, {} writes refused; {} looks at usage, {} recounts as of one moment, at most {} bytes of {}",
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
        print_over_and_drift(&numbers);
        findings.iter().take(10).for_each(|finding| println!("    {finding}"));
        if get(&numbers.refused) == 0 || get(&numbers.writes) == 0 {
            println!("    VOID: nothing was refused, so the edge was not reached");
            return Ok(false);
        }
        Ok(findings.is_empty() && is_exact(&numbers))
    }

    /// Kills the process of the tasks again and again, on one store, and compares
    /// what is there with its ledgers.
    fn kills(self, engine: Engine, store: &Path) -> Result<bool> {
        let mut random = Random::new(self.seed);
        let mut findings = Findings::default();
        let numbers = Numbers::default();
        let mut told = [0, 0, 0];
        for kill in 0..self.kills {
            findings.place = format!("kill {}", kill + 1);
            // Both are held to it: what a kill takes from a relaxed store it
            // takes from the ledger too.
            let mode = if kill % 2 == 0 { Mode::Sync } else { Mode::Relaxed };
            let mut tasks = Tasks::start(&self.arguments(store, mode, self.seed + kill, None))?;
            // At any moment after so many answers, at times in the opening.
            if kill % 7 != 6 {
                let answers = random.below(600);
                while !(tasks.ready && tasks.answers() > answers) && tasks.hear()? {}
            }
            std::thread::sleep(Duration::from_micros(random.below(40_000)));
            tasks.child.kill()?;
            while tasks.hear()? {}
            let tasks = tasks.end()?;
            for finding in &tasks.findings {
                findings.add(Fault::Contract, finding.clone());
            }
            let done = [&tasks.numbers.writes, &tasks.numbers.deletes, &tasks.numbers.refused];
            for (sum, number) in told.iter_mut().zip(done) {
                *sum += number.load(Ordering::Relaxed);
            }
            look(engine, mode, store, &numbers, &mut findings)?;
        }
        let [writes, deletes, refused] = told;
        println!(
            "  {} kills among {} tasks: {writes} writes and {deletes} deletes done, {refused} writes refused; {} problems",
            self.kills,
            self.tasks,
            findings.total()
        );
        print_over_and_drift(&numbers);
        findings.texts().iter().for_each(|text| println!("    {text}"));
        if refused == 0 {
            println!("    VOID: nothing was refused, so the edge was not reached");
            return Ok(false);
        }
        Ok(findings.total() == 0 && is_exact(&numbers))
    }
}

fn print_over_and_drift(numbers: &Numbers) {
    let get = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    println!(
        "    {} bytes and {} keys over a quota, {} bytes and {} keys of drift",
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

/// Compares the ledgers with what is there: as the kill has left them, and once
/// the store is open to write.
fn look(
    engine: Engine,
    mode: Mode,
    store: &Path,
    numbers: &Numbers,
    findings: &mut Findings,
) -> Result<()> {
    if !store.exists() {
        // Killed before there was a store.
        return Ok(());
    }
    match engine.verify(store) {
        Ok(problems) => problems.into_iter().for_each(|one| findings.add(Fault::Ledger, one)),
        Err(error) => findings.add(Fault::Unreadable, error.to_string()),
    }
    let storage = match engine.open(mode, store) {
        Ok(storage) => storage,
        Err(error) => {
            findings.add(Fault::Unreadable, format!("it does not open: {error}"));
            return Ok(());
        }
    };
    for (id, quota) in COMPONENTS {
        let partition = format!("{id}/");
        let counted = recount(&*storage, &partition)?;
        if let Some(quota) = quota
            && !numbers.within(counted, quota)
        {
            findings.add(Fault::Ledger, format!("{id}: {counted:?}, the quota is {quota:?}"));
        }
        let full = storage.usage(Some(&partition))?;
        let names = full.keys * partition.len() as u64;
        let told = Usage { bytes: full.bytes.saturating_sub(names), ..full };
        if !numbers.agree(told, counted) {
            findings.add(Fault::Ledger, format!("{id}: usage {told:?}, a recount {counted:?}"));
        }
        if quota.is_some()
            && let Err((fault, problem)) = check::ledger(&*storage, &partition, true)
        {
            findings.add(fault, format!("{id}: {problem}"));
        }
    }
    Ok(())
}

/// A process of tasks that runs.
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
        let program: PathBuf =
            std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .args(arguments.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the tasks")?;
        let stdout = child.stdout.take().context("the tasks have no output")?;
        let (numbers, findings) = (Numbers::default(), Vec::new());
        let lines = BufReader::new(stdout).lines();
        Ok(Self { child, lines, ready: false, done: false, numbers, findings })
    }

    /// Takes in the next line; false at the end.
    fn hear(&mut self) -> Result<bool> {
        let Some(line) = self.lines.next() else { return Ok(false) };
        let line = line?;
        let (word, rest) = line.split_once('\t').unwrap_or((&line, ""));
        match word {
            "ready" => self.ready = true,
            "done" => self.done = true,
            "finding" => self.findings.push(rest.to_owned()),
            "numbers" => {
                // The last line of a killed process may be a part of one.
                for (name, number) in rest.split('\t').filter_map(|word| word.split_once('=')) {
                    let known = self.numbers.named();
                    let of_name = known.iter().find(|(known, _)| *known == name);
                    if let (Some((_, kept)), Ok(number)) = (of_name, number.parse()) {
                        kept.fetch_max(number, Ordering::Relaxed);
                    }
                }
            }
            _ => {}
        }
        Ok(true)
    }

    /// How many writes have been answered, as far as this was told.
    fn answers(&self) -> u64 {
        let answered = [&self.numbers.writes, &self.numbers.deletes, &self.numbers.refused];
        answered.iter().map(|number| number.load(Ordering::Relaxed)).sum()
    }

    /// Waits for the end of the process.
    fn end(mut self) -> Result<Self> {
        self.child.wait()?;
        Ok(self)
    }
}
