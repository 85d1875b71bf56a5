//! The process that opens a damaged store, so that the suite survives whatever happens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use storage_core::{StorageError, Store};

use crate::content::content;
use crate::engine::{Engine, Mode};
use crate::report::{Fault, Findings};
use crate::workload::command;

/// The time limit for a damaged store.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProbeArguments {
    pub(crate) engine: Engine,
    pub(crate) store: PathBuf,
    /// A file with the expected content.
    pub(crate) expected: PathBuf,
}

/// The expected content of a store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// The operation and the length of each key's value.
    pub(crate) keys: BTreeMap<String, (u64, usize)>,
    /// New revisions must be larger.
    pub(crate) largest_revision: u64,
}

/// How a damaged store behaved.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// 1 if the store did not open.
    pub(crate) refused: u64,
    /// Keys reported corrupt.
    pub(crate) corrupt: u64,
    /// Keys with the right value.
    pub(crate) right: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.refused += other.refused;
        self.corrupt += other.corrupt;
        self.right += other.right;
    }
}

/// Probes the store and prints the tally and the wrong results.
pub(crate) fn run(arguments: &ProbeArguments) -> Result<()> {
    let expected = serde_json::from_slice(&std::fs::read(&arguments.expected)?)?;
    let mut wrong = Vec::new();
    let tally = probe(arguments.engine, &arguments.store, &expected, &mut wrong);
    println!("{}", serde_json::to_string(&(tally, wrong))?);
    Ok(())
}

/// Reads all expected keys of a store, lists them and writes one.
pub(crate) fn probe(
    engine: Engine,
    store: &Path,
    expected: &Expected,
    wrong: &mut Vec<String>,
) -> Tally {
    let mut tally = Tally::default();
    let storage = match engine.open(Mode::Sync, store) {
        Ok(storage) => storage,
        Err(StorageError::Corrupt { .. } | StorageError::Unsupported(_)) => {
            tally.refused = 1;
            return tally;
        }
        Err(error) => {
            tally.refused = 1;
            wrong.push(format!("cannot open the store, but not because of corruption: {error}"));
            return tally;
        }
    };
    for (key, (op, len)) in &expected.keys {
        match storage.get(key) {
            Ok(Some(value)) if value.as_ref() == content(key, *op, *len) => tally.right += 1,
            Ok(Some(value)) => wrong.push(format!("{key} has {} other bytes", value.len())),
            Ok(None) => wrong.push(format!("{key} is missing")),
            Err(StorageError::Corrupt { .. }) => tally.corrupt += 1,
            Err(error) => wrong.push(format!("{key}: {error}")),
        }
    }
    list_and_write(&*storage, expected, tally.corrupt > 0, wrong);
    tally
}

fn list_and_write(
    storage: &dyn Store,
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
                wrong.push(format!("{key} is listed but was never written"));
            }
        }
        Err(StorageError::Corrupt { .. }) => {}
        Err(error) => wrong.push(format!("cannot list the keys: {error}")),
    }
    let written = storage_core::put(storage, "dur/probe/a/new", "new".into());
    match &written {
        Ok(revision) if revision.get() <= expected.largest_revision => wrong.push(format!(
            "a new write got revision {revision} after revision {}",
            expected.largest_revision
        )),
        Ok(_) => match storage.get("dur/probe/a/new") {
            Ok(Some(value)) if value.as_ref() == b"new" => {}
            Err(StorageError::Corrupt { .. }) => {}
            other => wrong.push(format!("a read after the write returned {other:?}")),
        },
        Err(StorageError::Corrupt { .. }) => {}
        // A store that has found damage may refuse writes.
        Err(StorageError::Unavailable { .. }) if some_corrupt => {}
        Err(error) => wrong.push(format!("cannot write: {error}")),
    }
}

/// Probes a store in another process.
pub(crate) fn in_another_process(
    arguments: &ProbeArguments,
    findings: &mut Findings,
) -> Result<Tally> {
    let mut child = command("probe", arguments)?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // The output fits into the pipes.
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > LIMIT {
            child.kill()?;
            findings.add(Fault::Died, "the process did not end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        findings.add(Fault::Died, format!("{}: {}", output.status, stderr.trim_end()));
        return Ok(Tally::default());
    }
    let (tally, wrong): (_, Vec<String>) = serde_json::from_slice(&output.stdout)?;
    wrong.into_iter().for_each(|text| findings.add(Fault::Contract, text));
    Ok(tally)
}
