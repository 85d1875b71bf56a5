//! The log of begun and acknowledged operations, one JSON object per line. It is not on
//! the file system under test.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::plan::Change;

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Found {
    /// No such key.
    Absent,
    /// The whole value of an operation.
    By(u64),
    /// A value too short to name its operation.
    Short(Vec<u8>),
    /// Any other value, and what is wrong with it.
    Wrong(String),
}

/// A line of the log. `at` is the length of the record of disk writes at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The store could not be opened.
    OpenFailed(String),
    /// An operation begins.
    Begin { op: u64, at: u64, changes: Vec<Change> },
    /// The operation was acknowledged. `at` may be later than the acknowledgement needs.
    Acked { op: u64, at: u64, revision: Option<u64> },
    /// The operation was refused and changed nothing.
    Refused { op: u64, why: String },
    /// The operation failed, and its outcome is indeterminate.
    Indeterminate { op: u64, why: String },
    /// A read returned. `own`: by the only thread that writes the key.
    Read { at: u64, own: bool, key: String, revision: Option<u64>, found: Found },
    /// A read failed. `unavailable`: because of an earlier fault, not of one in this read.
    ReadFailed { key: String, unavailable: bool, why: String },
    /// An operation or a read took too long.
    Late { what: String, seconds: u64 },
    /// The power is about to be cut.
    Cut,
}

/// Appends to the log, from any thread.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn append(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self(file.with_context(|| format!("cannot open {}", path.display()))?))
    }

    /// Writes a line with one call, so that a killed process leaves at most its last line
    /// incomplete. The call is `writev`, which no store uses, so that faults injected into
    /// the calls of the store do not affect the log.
    pub(crate) fn write(&self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let written = (&self.0).write_vectored(&[IoSlice::new(&line)])?;
        if written != line.len() {
            bail!("wrote {written} of {} bytes to the log", line.len());
        }
        Ok(())
    }
}

/// Reads a log. An incomplete last line is ignored.
pub(crate) fn read(path: &Path) -> Result<Vec<Event>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let complete = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
    let parse = |line| {
        serde_json::from_str(line).with_context(|| format!("cannot parse a log line: {line}"))
    };
    complete.lines().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_lines_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let changes = vec![("a\tb".to_owned(), Some(5)), ("c".to_owned(), None)];
        let events = [Event::Begin { op: 7, at: 0, changes }, Event::Cut];
        let log = Log::append(&path).unwrap();
        events.iter().for_each(|event| log.write(event).unwrap());
        assert_eq!(read(&path).unwrap(), events);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.pop();
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), events[..1]);
    }
}
