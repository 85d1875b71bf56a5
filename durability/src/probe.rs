//! The process that opens a damaged store: whatever the damage makes of it, the
//! suite goes on.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use storage_core::{ComponentStorage, StorageError};

use crate::content::content;
use crate::engine::{Engine, Mode};
use crate::report::{Fault, Findings};

/// How long a damaged store may take.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Args)]
pub(crate) struct ProbeArguments {
    #[arg(long)]
    pub(crate) engine: Engine,
    #[arg(long)]
    pub(crate) store: PathBuf,
    /// What must be in it.
    #[arg(long)]
    pub(crate) expected: PathBuf,
}

/// What must be in a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    /// The operation and the length of each key's value.
    pub(crate) keys: BTreeMap<String, (u64, usize)>,
    /// What new revisions must be above.
    pub(crate) largest_revision: u64,
}

impl Expected {
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = format!("{}\n", self.largest_revision);
        for (key, (op, len)) in &self.keys {
            let _ = writeln!(text, "{key}\t{op}\t{len}");
        }
        Ok(std::fs::write(path, text)?)
    }

    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let mut lines = text.lines();
        let largest_revision = lines.next().context("no revision is expected")?.parse()?;
        let mut keys = BTreeMap::new();
        for line in lines {
            let mut words = line.split('\t');
            let mut word = || words.next().context("a line of what is expected is cut");
            keys.insert(word()?.to_owned(), (word()?.parse()?, word()?.parse()?));
        }
        Ok(Self { keys, largest_revision })
    }
}

/// What a damaged store was like.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    /// It did not open, and said why.
    pub(crate) refused: u64,
    /// Keys that it told corrupt.
    pub(crate) corrupt: u64,
    /// Keys that had the right value.
    pub(crate) right: u64,
}

impl std::ops::AddAssign for Told {
    fn add_assign(&mut self, other: Self) {
        self.refused += other.refused;
        self.corrupt += other.corrupt;
        self.right += other.right;
    }
}

/// Opens the store and prints a line for each wrong answer, and a last one.
pub(crate) fn run(arguments: &ProbeArguments) -> Result<()> {
    let expected = Expected::read(&arguments.expected)?;
    let mut findings = Vec::new();
    let told = look(arguments.engine, &arguments.store, &expected, &mut findings);
    for finding in findings {
        println!("wrong {}", finding.replace('\n', " "));
    }
    println!("told {} {} {}", told.refused, told.corrupt, told.right);
    Ok(())
}

/// Asks a store for everything that must be in it.
pub(crate) fn look(
    engine: Engine,
    store: &Path,
    expected: &Expected,
    wrong: &mut Vec<String>,
) -> Told {
    let mut told = Told::default();
    let storage = match engine.open(Mode::Sync, store) {
        Ok(storage) => storage,
        Err(StorageError::Corrupt { .. } | StorageError::Unsupported(_)) => {
            told.refused = 1;
            return told;
        }
        Err(error) => {
            told.refused = 1;
            wrong.push(format!("it does not open, but does not say that it is corrupt: {error}"));
            return told;
        }
    };
    for (key, (op, len)) in &expected.keys {
        match storage.get(key) {
            Ok(Some(value)) if value.as_ref() == content(key, *op, *len) => told.right += 1,
            Ok(Some(value)) => wrong.push(format!("{key} has {} other bytes", value.len())),
            Ok(None) => wrong.push(format!("{key} is gone without a word")),
            Err(StorageError::Corrupt { .. }) => told.corrupt += 1,
            Err(error) => wrong.push(format!("{key}: {error}")),
        }
    }
    look_around(&*storage, expected, told.corrupt > 0, wrong);
    told
}

/// The answers about several keys, and writing.
fn look_around(
    storage: &dyn ComponentStorage,
    expected: &Expected,
    some_corrupt: bool,
    wrong: &mut Vec<String>,
) {
    match storage.list_keys(None) {
        Ok(listed) => {
            if let Some(key) = expected.keys.keys().find(|key| !listed.contains(key)) {
                wrong.push(format!("{key} is not listed"));
            }
            if let Some(key) = listed.iter().find(|key| !expected.keys.contains_key(*key)) {
                wrong.push(format!("{key} is listed and was never written"));
            }
        }
        Err(StorageError::Corrupt { .. }) => {}
        Err(error) => wrong.push(format!("the listing: {error}")),
    }
    let written = storage_core::put(&storage, "dur/probe/a/new", "new".into());
    match &written {
        Ok(revision) if revision.get() <= expected.largest_revision => wrong.push(format!(
            "a new write got revision {revision}, {} had been given",
            expected.largest_revision
        )),
        Ok(_) => match storage.get("dur/probe/a/new") {
            Ok(Some(value)) if value.as_ref() == b"new" => {}
            Err(StorageError::Corrupt { .. }) => {}
            other => wrong.push(format!("what was just written reads {other:?}")),
        },
        Err(StorageError::Corrupt { .. }) => {}
        // After damage was met it may write no more.
        Err(StorageError::Unavailable { .. }) if some_corrupt => {}
        Err(error) => wrong.push(format!("a write: {error}")),
    }
}

/// Has another process look at a store.
pub(crate) fn in_another_process(
    arguments: &ProbeArguments,
    findings: &mut Findings,
) -> Result<Told> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut child = Command::new(program)
        .args(["probe", "--engine", &arguments.engine.to_string(), "--store"])
        .arg(&arguments.store)
        .arg("--expected")
        .arg(&arguments.expected)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // What it prints fits into the pipes.
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > LIMIT {
            child.kill()?;
            findings.add(Fault::Died, "it did not come to an end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut told = Told::default();
    for line in text.lines() {
        if let Some(what) = line.strip_prefix("wrong ") {
            findings.add(Fault::Contract, what.to_owned());
        }
        if let Some(numbers) = line.strip_prefix("told ") {
            let mut numbers = numbers.split(' ').filter_map(|number| number.parse().ok());
            let mut number = || numbers.next().unwrap_or(0);
            told = Told { refused: number(), corrupt: number(), right: number() };
        }
    }
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        findings.add(Fault::Died, format!("{}: {}", output.status, stderr.trim_end()));
    }
    Ok(told)
}
