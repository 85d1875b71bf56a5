//! The process that is cut off, killed or failed while it writes.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use storage_core::{ComponentStorage, StorageError, Store};

use crate::content::{content, writer_of};
use crate::engine::{Engine, Mode};
use crate::events::{Event, Found, Log};
use crate::plan::{Plan, Step, commit_of};

/// A path that is nowhere: looking for it shows in a trace of system calls
/// where the work begins.
pub(crate) const BEGIN_MARK: &str = "/durability-begins-here";

/// How many errors in a row tell a thread that its disk has gone.
const GIVE_UP_AFTER: u32 = 3;

#[derive(Debug, Clone, Args)]
pub(crate) struct WorkArguments {
    #[arg(long)]
    pub(crate) engine: Engine,
    #[arg(long)]
    pub(crate) mode: Mode,
    #[arg(long)]
    pub(crate) store: PathBuf,
    /// The log, which is appended to.
    #[arg(long)]
    pub(crate) log: PathBuf,
    #[arg(long)]
    pub(crate) seed: u64,
    /// The number of this run on the store.
    #[arg(long)]
    pub(crate) run: u64,
    /// The number of the first operation.
    #[arg(long)]
    pub(crate) first_op: u64,
    #[arg(long, default_value_t = 4)]
    pub(crate) threads: u64,
    /// Each thread ends after so many steps; without it none does.
    #[arg(long)]
    pub(crate) steps: Option<u64>,
    /// One write of this kind by one thread, then nothing until killed.
    #[arg(long)]
    pub(crate) one: Option<u64>,
    /// A file that names keys, a line each: these are touched by one thread, then
    /// nothing until killed.
    #[arg(long)]
    pub(crate) touch: Option<PathBuf>,
    /// Delete them rather than read them.
    #[arg(long)]
    pub(crate) delete: bool,
    /// A file whose length tells how much the disk has seen.
    #[arg(long)]
    pub(crate) position: Option<PathBuf>,
    /// Go on after errors, to see what the store answers.
    #[arg(long)]
    pub(crate) go_on: bool,
    /// End with a commit of several keys.
    #[arg(long)]
    pub(crate) last_commit: bool,
    /// End by oneself when the work is done, rather than wait to be killed.
    #[arg(long)]
    pub(crate) end: bool,
}

/// What the threads share.
struct Shared {
    storage: Arc<dyn Store>,
    log: Log,
    next_op: AtomicU64,
    position: Option<PathBuf>,
    go_on: bool,
}

/// Opens the store and works on it.
pub(crate) fn run(arguments: &WorkArguments) -> Result<()> {
    let log = Log::append(&arguments.log)?;
    if !arguments.end {
        end_with_parent();
    }
    let _ = std::fs::exists(BEGIN_MARK);
    let storage = match arguments.engine.open(arguments.mode, &arguments.store) {
        Ok(storage) => storage,
        Err(error) => {
            log.write(&Event::OpenFailed(error.to_string()))?;
            tell("failed", arguments)?;
            return wait_unless(arguments.end);
        }
    };
    log.write(&Event::Ready)?;
    tell("ready", arguments)?;
    let shared = Shared {
        storage,
        log,
        next_op: AtomicU64::new(arguments.first_op),
        position: arguments.position.clone(),
        go_on: arguments.go_on,
    };
    let plan = |thread| Plan::new(arguments.seed, arguments.run, thread, arguments.threads);
    if let Some(kind) = arguments.one {
        shared.step(&plan(0).kind(kind))?;
    } else if let Some(keys) = &arguments.touch {
        for key in std::fs::read_to_string(keys)?.lines().map(str::to_owned) {
            shared.step(&match arguments.delete {
                true => Step::Plain((key, None)),
                false => Step::Read { key, own: true },
            })?;
        }
    } else if arguments.threads == 1 {
        // On the thread that strace counts the calls of.
        work(&shared, plan(0), arguments.steps)?;
        if arguments.last_commit {
            shared.step(&plan(0).kind(3))?;
        }
    } else {
        std::thread::scope(|scope| {
            let start = |thread| {
                let (shared, plan) = (&shared, plan(thread));
                scope.spawn(move || work(shared, plan, arguments.steps))
            };
            let threads: Vec<_> = (0..arguments.threads).map(start).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread panicked"),
            })
        })?;
    }
    tell("done", arguments)?;
    wait_unless(arguments.end)?;
    let Shared { storage, log, .. } = shared;
    drop(storage);
    log.write(&Event::End)
}

fn work(shared: &Shared, mut plan: Plan, steps: Option<u64>) -> Result<()> {
    let mut failures = 0;
    let mut done = 0;
    while steps.is_none_or(|steps| done < steps) {
        done += 1;
        let step = plan.next();
        if shared.step(&step)? {
            failures = 0;
            continue;
        }
        failures += 1;
        if !shared.go_on && failures >= GIVE_UP_AFTER {
            return Ok(());
        }
        // What a failed write left: once read it must stay.
        for (key, _) in step.changes() {
            shared.read(key, true)?;
        }
    }
    Ok(())
}

impl Shared {
    /// Takes a step and logs it; false if the disk failed.
    fn step(&self, step: &Step) -> Result<bool> {
        if let Step::Read { key, own } = step {
            return self.read(key, *own);
        }
        let op = self.next_op.fetch_add(1, Ordering::Relaxed);
        let changes = step.changes().to_vec();
        self.log.write(&Event::Begin { op, at: self.at(), changes })?;
        let result = match step {
            Step::Plain((key, Some(len))) => {
                storage_core::put(&self.storage, key, content(key, op, *len).into()).map(Some)
            }
            Step::Plain((key, None)) => self.storage.delete(key).map(|()| None),
            Step::Commit(changes, budget) => {
                self.storage.commit(commit_of(op, changes, *budget)).map(Some)
            }
            Step::Read { .. } => return Ok(true),
        };
        let event = match &result {
            Ok(revision) => {
                Event::Acked { op, at: self.at(), revision: revision.map(|number| number.get()) }
            }
            Err(error) if is_open(error) => Event::Unknown { op, why: error.to_string() },
            Err(error) => Event::Refused { op, why: error.to_string() },
        };
        self.log.write(&event)?;
        Ok(!matches!(event, Event::Unknown { .. }))
    }

    fn read(&self, key: &str, own: bool) -> Result<bool> {
        let read = self.storage.get_versioned(key);
        let event = match &read {
            Ok(found) => Event::Read {
                at: self.at(),
                own,
                key: key.to_owned(),
                revision: found.as_ref().map_or(0, |found| found.revision.get()),
                found: identify(key, found.as_ref().map(|found| found.value.as_ref())),
            },
            Err(error) => Event::ReadFailed { key: key.to_owned(), why: error.to_string() },
        };
        self.log.write(&event)?;
        Ok(read.is_ok())
    }

    fn at(&self) -> u64 {
        let length = |path: &PathBuf| std::fs::metadata(path).map(|about| about.len());
        self.position.as_ref().and_then(|path| length(path).ok()).unwrap_or(0)
    }
}

/// Whether the outcome of a write with this error is open, by the contract.
fn is_open(error: &StorageError) -> bool {
    matches!(error, StorageError::IoError(_) | StorageError::Unavailable { .. })
}

/// Says what a value that was read is.
pub(crate) fn identify(key: &str, value: Option<&[u8]>) -> Found {
    let Some(value) = value else { return Found::Absent };
    match writer_of(key, value) {
        Some(op) if content(key, op, value.len()) == value => Found::By(op),
        Some(op) => Found::Wrong(format!("{} torn bytes of operation {op}", value.len())),
        None if value.len() < 16 => Found::Short(value.to_vec()),
        None => Found::Wrong(format!("{} foreign bytes", value.len())),
    }
}

/// Tells the parent how far this is.
fn tell(word: &str, arguments: &WorkArguments) -> Result<()> {
    if arguments.end {
        // Nobody listens, and the call may be one that is made to fail.
        return Ok(());
    }
    let mut out = std::io::stdout();
    writeln!(out, "{word}")?;
    Ok(out.flush()?)
}

/// Ends this process when the parent closes its end of the pipe, so that none
/// stays behind, however the parent ended.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::abort();
    });
}

/// Waits to be killed, unless the process shall end by itself.
fn wait_unless(end: bool) -> Result<()> {
    if end {
        return Ok(());
    }
    loop {
        std::thread::park();
    }
}

/// The command that starts this program again as the workload.
pub(crate) fn command(arguments: &WorkArguments) -> Result<std::process::Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = std::process::Command::new(program);
    command.args(words(arguments));
    Ok(command)
}

/// The command line of the workload, without the program.
pub(crate) fn words(arguments: &WorkArguments) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let mut words = vec!["work".to_owned()];
    let mut add = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    add("engine", arguments.engine.to_string());
    add("mode", arguments.mode.to_string());
    add("store", path(&arguments.store));
    add("log", path(&arguments.log));
    add("seed", arguments.seed.to_string());
    add("run", arguments.run.to_string());
    add("first-op", arguments.first_op.to_string());
    add("threads", arguments.threads.to_string());
    if let Some(steps) = arguments.steps {
        add("steps", steps.to_string());
    }
    if let Some(one) = arguments.one {
        add("one", one.to_string());
    }
    if let Some(keys) = &arguments.touch {
        add("touch", path(keys));
    }
    if let Some(position) = &arguments.position {
        add("position", path(position));
    }
    words.extend(arguments.delete.then(|| "--delete".to_owned()));
    words.extend(arguments.last_commit.then(|| "--last-commit".to_owned()));
    words.extend(arguments.go_on.then(|| "--go-on".to_owned()));
    words.extend(arguments.end.then(|| "--end".to_owned()));
    words
}
