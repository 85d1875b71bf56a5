//! The process that is cut off, killed or hit by faults while it writes.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use storage_core::{StorageError, Store};

use crate::content::{content, writer_of};
use crate::engine::{Engine, Mode};
use crate::events::{Event, Found, Log};
use crate::plan::{Plan, Step, commit_of};

/// A path that does not exist. A lookup of it marks in a trace of system calls where the
/// work begins.
pub(crate) const BEGIN_MARK: &str = "/durability-begins-here";

/// The longest time that a call of a store on a server may take.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// After this many consecutive errors a thread gives up.
const GIVE_UP_AFTER: u32 = 3;

/// What the process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorkArguments {
    pub(crate) engine: Engine,
    pub(crate) mode: Mode,
    pub(crate) store: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) seed: u64,
    /// The number of this run on the store.
    pub(crate) run: u64,
    /// The number of the first operation.
    pub(crate) first_op: u64,
    pub(crate) threads: u64,
    pub(crate) work: Work,
    /// A file whose length is recorded as `at` in the log.
    pub(crate) position: Option<PathBuf>,
    /// Continue after errors.
    pub(crate) continues: bool,
    /// End after the work, instead of waiting to be killed.
    pub(crate) ends: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Steps of every thread, without end if `None`.
    Steps(Option<u64>),
    /// Steps of one thread and then a commit.
    StepsAndCommit(u64),
    /// One write of this kind.
    One(u64),
    /// Reads of these keys.
    Read(Vec<String>),
    /// Deletes of these keys.
    Delete(Vec<String>),
}

/// What the threads share.
struct Shared {
    storage: Arc<dyn Store>,
    log: Log,
    next_op: AtomicU64,
    position: Option<PathBuf>,
    continues: bool,
}

/// Opens the store and works on it.
pub(crate) fn run(arguments: &WorkArguments) -> Result<()> {
    let log = Log::append(&arguments.log)?;
    if !arguments.ends {
        end_with_parent();
    }
    let _ = std::fs::exists(BEGIN_MARK);
    let storage = match arguments.engine.open(arguments.mode, &arguments.store) {
        Ok(storage) => storage,
        Err(error) => {
            log.write(&Event::OpenFailed(error.to_string()))?;
            return report(&format!("failed: {error}"), arguments);
        }
    };
    report("ready", arguments)?;
    let shared = Shared {
        storage,
        log,
        next_op: AtomicU64::new(arguments.first_op),
        position: arguments.position.clone(),
        continues: arguments.continues,
    };
    let plan = |thread| Plan::new(arguments.seed, arguments.run, thread, arguments.threads);
    match &arguments.work {
        // On the main thread, whose calls strace counts.
        Work::Steps(steps) if arguments.threads == 1 => shared.work(plan(0), *steps)?,
        Work::Steps(steps) => std::thread::scope(|scope| {
            let shared = &shared;
            let start = |thread| scope.spawn(move || shared.work(plan(thread), *steps));
            let threads: Vec<_> = (0..arguments.threads).map(start).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread panicked"),
            })
        })?,
        Work::StepsAndCommit(steps) => {
            shared.work(plan(0), Some(*steps))?;
            shared.step(&plan(0).kind(3))?;
        }
        Work::One(kind) => drop(shared.step(&plan(0).kind(*kind))?),
        Work::Read(keys) => keys.iter().try_for_each(|key| shared.read(key, true).map(drop))?,
        Work::Delete(keys) => {
            let delete = |key: &String| shared.step(&Step::Plain((key.clone(), None))).map(drop);
            keys.iter().try_for_each(delete)?;
        }
    }
    report("done", arguments)
}

impl Shared {
    fn work(&self, mut plan: Plan, steps: Option<u64>) -> Result<()> {
        let mut failures = 0;
        let mut done = 0;
        while steps.is_none_or(|steps| done < steps) {
            done += 1;
            let step = plan.next();
            if self.step(&step)? {
                failures = 0;
                continue;
            }
            failures += 1;
            if !self.continues && failures >= GIVE_UP_AFTER {
                return Ok(());
            }
            // Whatever the failed write left must stay once it is read.
            for (key, _) in step.changes() {
                self.read(key, true)?;
            }
        }
        Ok(())
    }

    /// Takes a step and logs it; false if the disk failed.
    fn step(&self, step: &Step) -> Result<bool> {
        if let Step::Read { key, own } = step {
            return self.read(key, *own);
        }
        let op = self.next_op.fetch_add(1, Ordering::Relaxed);
        let changes = step.changes().to_vec();
        self.log.write(&Event::Begin { op, at: self.at(), changes })?;
        let began = Instant::now();
        let result = match step {
            Step::Plain((key, Some(len))) => {
                storage_core::put(&*self.storage, key, content(key, op, *len).into()).map(Some)
            }
            Step::Plain((key, None)) => self.storage.delete(key).map(|()| None),
            Step::Commit(changes, budget) => {
                self.storage.commit(commit_of(op, changes, *budget)).map(Some)
            }
            Step::Read { .. } => return Ok(true),
        };
        self.note_time(began, || format!("operation {op}"))?;
        let event = match &result {
            Ok(revision) => {
                let revision = revision.map(|revision| revision.get()).filter(|number| *number > 0);
                Event::Acked { op, at: self.at(), revision }
            }
            Err(error) if is_indeterminate(error) => {
                Event::Indeterminate { op, why: error.to_string() }
            }
            Err(error) => Event::Refused { op, why: error.to_string() },
        };
        self.log.write(&event)?;
        Ok(!matches!(event, Event::Indeterminate { .. }))
    }

    fn read(&self, key: &str, own: bool) -> Result<bool> {
        let began = Instant::now();
        let read = self.storage.get_versioned(key);
        self.note_time(began, || format!("a read of {key}"))?;
        let key = key.to_owned();
        let event = match &read {
            Ok(found) => {
                let value = found.as_ref().map(|found| found.value.as_bytes());
                let revision = found.as_ref().map(|found| found.revision.get());
                Event::Read { at: self.at(), own, revision, found: identify(&key, value), key }
            }
            Err(error) => Event::ReadFailed {
                key,
                unavailable: matches!(error, StorageError::Unavailable { .. }),
                why: error.to_string(),
            },
        };
        self.log.write(&event)?;
        Ok(read.is_ok())
    }

    /// Logs a call that took too long.
    fn note_time(&self, began: Instant, what: impl Fn() -> String) -> Result<()> {
        let took = began.elapsed();
        if took <= LONGEST_CALL {
            return Ok(());
        }
        self.log.write(&Event::Late { what: what(), seconds: took.as_secs() })
    }

    fn at(&self) -> u64 {
        let length = |path: &PathBuf| std::fs::metadata(path).map(|metadata| metadata.len());
        self.position.as_ref().and_then(|path| length(path).ok()).unwrap_or(0)
    }
}

/// Whether the contract permits both outcomes for a write with this error.
fn is_indeterminate(error: &StorageError) -> bool {
    matches!(error, StorageError::IoError(_) | StorageError::Unavailable { .. })
}

/// Identifies a value that was read.
fn identify(key: &str, value: Option<&[u8]>) -> Found {
    let Some(value) = value else { return Found::Absent };
    match writer_of(key, value) {
        Some(op) if content(key, op, value.len()) == value => Found::By(op),
        Some(op) => Found::Wrong(format!("{} torn bytes of operation {op}", value.len())),
        None if value.len() < 16 => Found::Short(value.to_vec()),
        None => Found::Wrong(format!("{} foreign bytes", value.len())),
    }
}

/// Reports progress to the parent. After the last report the process waits to be killed.
fn report(word: &str, arguments: &WorkArguments) -> Result<()> {
    if arguments.ends {
        // The parent does not read, and faults may be injected into the call.
        return Ok(());
    }
    let mut out = std::io::stdout();
    writeln!(out, "{word}")?;
    out.flush()?;
    if word == "ready" {
        return Ok(());
    }
    loop {
        std::thread::park();
    }
}

/// Ends this process when the parent closes its end of the pipe, however the parent ended.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::abort();
    });
}

/// The command that starts this program again, as another of its processes.
pub(crate) fn command(process: &str, arguments: &impl Serialize) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let mut command = Command::new(program);
    command.arg(process).arg(serde_json::to_string(arguments)?);
    Ok(command)
}
