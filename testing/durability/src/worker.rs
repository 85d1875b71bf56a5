//! Runs the workload in a process of its own, which can be killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::events::Event;
use crate::workload::{WorkArguments, command};

/// A running workload.
pub(crate) struct Worker {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Worker {
    pub(crate) fn start(arguments: &WorkArguments) -> Result<Self> {
        let mut child = command("work", arguments)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the workload")?;
        let stdout = child.stdout.take().context("the workload has no output")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// Waits for a line of its output.
    pub(crate) fn wait_for(&mut self, word: &str) -> Result<()> {
        loop {
            match self.lines.next() {
                Some(Ok(line)) if line == word => return Ok(()),
                Some(Ok(line)) => {
                    if let Some(why) = line.strip_prefix("failed: ") {
                        bail!("the workload cannot open its store: {why}");
                    }
                }
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

/// The number of the next operation, and the keys of the operations without an outcome.
pub(crate) fn unacknowledged(events: &[Event]) -> (u64, Vec<String>) {
    let mut open = BTreeMap::new();
    let mut next = 0;
    for event in events {
        match event {
            Event::Begin { op, changes, .. } => {
                next = next.max(op + 1);
                open.insert(*op, changes);
            }
            Event::Acked { op, .. } | Event::Refused { op, .. } => drop(open.remove(op)),
            _ => {}
        }
    }
    (next, open.into_values().flatten().map(|(key, _)| key.clone()).collect())
}
