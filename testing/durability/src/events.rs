//! The log of what was begun and what was acknowledged, kept off the file
//! system under test: a line an event.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::plan::Change;

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// No such key.
    Absent,
    /// A whole value that says which operation wrote it.
    By(u64),
    /// A value too short to say so.
    Short(Vec<u8>),
    /// Neither: what is wrong with it.
    Wrong(String),
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The store is open.
    Ready,
    /// The store could not be opened.
    OpenFailed(String),
    /// An operation is about to begin. `at`: how much the disk had seen.
    Begin { op: u64, at: u64, changes: Vec<Change> },
    /// It was acknowledged with this revision, or without one. `at`: what the
    /// disk had seen by then is more than the acknowledgement needs.
    Acked { op: u64, at: u64, revision: Option<u64> },
    /// It was refused and changed nothing.
    Refused { op: u64, why: String },
    /// It failed; its outcome is unknown.
    Unknown { op: u64, why: String },
    /// A read returned, with this revision, or 0 with no value. `own`: by the only
    /// thread that writes the key.
    Read { at: u64, own: bool, key: String, revision: u64, found: Found },
    /// A read failed.
    ReadFailed { key: String, why: String },
    /// The power is about to be cut.
    Cut,
    /// The store was closed in good order.
    End,
}

impl Event {
    fn line(&self) -> String {
        let flat = |text: &str| text.replace(['\t', '\n'], " ");
        match self {
            Self::Ready => "ready\n".to_owned(),
            Self::Cut => "cut\n".to_owned(),
            Self::End => "end\n".to_owned(),
            Self::OpenFailed(why) => format!("closed\t{}\n", flat(why)),
            Self::Begin { op, at, changes } => {
                let mut line = format!("begin\t{op}\t{at}");
                for (key, len) in changes {
                    let len = len.map_or_else(|| "-".to_owned(), |len| len.to_string());
                    // Writing to a String cannot fail.
                    let _ = write!(line, "\t{key}\t{len}");
                }
                line + "\n"
            }
            Self::Acked { op, at, revision } => {
                format!("acked\t{op}\t{at}\t{}\n", revision.unwrap_or(0))
            }
            Self::Refused { op, why } => format!("refused\t{op}\t{}\n", flat(why)),
            Self::Unknown { op, why } => format!("unknown\t{op}\t{}\n", flat(why)),
            Self::Read { at, own, key, revision, found } => {
                let found = match found {
                    Found::Absent => "absent".to_owned(),
                    Found::By(op) => format!("by\t{op}"),
                    Found::Short(bytes) => {
                        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                        format!("short\t{hex}")
                    }
                    Found::Wrong(what) => format!("wrong\t{}", flat(what)),
                };
                format!("read\t{at}\t{own}\t{key}\t{revision}\t{found}\n")
            }
            Self::ReadFailed { key, why } => format!("unread\t{key}\t{}\n", flat(why)),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        Some(match words.next()? {
            "ready" => Self::Ready,
            "cut" => Self::Cut,
            "end" => Self::End,
            "closed" => Self::OpenFailed(words.next()?.to_owned()),
            "begin" => {
                let (op, at) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                let mut changes = Vec::new();
                while let Some(key) = words.next() {
                    let len = match words.next()? {
                        "-" => None,
                        len => Some(len.parse().ok()?),
                    };
                    changes.push((key.to_owned(), len));
                }
                Self::Begin { op, at, changes }
            }
            "acked" => Self::Acked {
                op: words.next()?.parse().ok()?,
                at: words.next()?.parse().ok()?,
                revision: Some(words.next()?.parse().ok()?).filter(|number| *number > 0),
            },
            "refused" => {
                Self::Refused { op: words.next()?.parse().ok()?, why: words.next()?.to_owned() }
            }
            "unknown" => {
                Self::Unknown { op: words.next()?.parse().ok()?, why: words.next()?.to_owned() }
            }
            "read" => Self::Read {
                at: words.next()?.parse().ok()?,
                own: words.next()?.parse().ok()?,
                key: words.next()?.to_owned(),
                revision: words.next()?.parse().ok()?,
                found: match words.next()? {
                    "absent" => Found::Absent,
                    "by" => Found::By(words.next()?.parse().ok()?),
                    "short" => Found::Short(unhex(words.next()?)?),
                    "wrong" => Found::Wrong(words.next()?.to_owned()),
                    _ => return None,
                },
            },
            "unread" => {
                Self::ReadFailed { key: words.next()?.to_owned(), why: words.next()?.to_owned() }
            }
            _ => return None,
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    digits?
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect()
}

/// Appends to the log, from any thread.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn append(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self(file.with_context(|| format!("cannot open {}", path.display()))?))
    }

    /// Writes a line with one call, so that a killed process leaves no half of
    /// one before another. The call is `writev`, which no store makes, so that
    /// faults in the stores' own calls leave the log alone.
    pub(crate) fn write(&self, event: &Event) -> Result<()> {
        let line = event.line();
        let written = (&self.0).write_vectored(&[IoSlice::new(line.as_bytes())])?;
        if written != line.len() {
            bail!("the log has room for {written} of {} bytes", line.len());
        }
        Ok(())
    }
}

/// Reads a log; a last line without its end was being written when the process
/// was killed.
pub(crate) fn read(path: &Path) -> Result<Vec<Event>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
    whole
        .lines()
        .map(|line| Event::parse(line).with_context(|| format!("the log has the line {line:?}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_comes_back_from_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let key = || "dur/app/c0/t1/k2".to_owned();
        let read = |found| Event::Read { at: 3, own: true, key: key(), revision: 8, found };
        let events = [
            Event::Ready,
            Event::OpenFailed("disk on fire".to_owned()),
            Event::Begin { op: 7, at: 0, changes: vec![(key(), Some(5)), ("b".to_owned(), None)] },
            Event::Acked { op: 7, at: 9, revision: Some(4) },
            Event::Acked { op: 8, at: 9, revision: None },
            Event::Refused { op: 9, why: "quota".to_owned() },
            Event::Unknown { op: 10, why: "I/O".to_owned() },
            read(Found::Absent),
            read(Found::By(7)),
            read(Found::Short(vec![0, 255, 16])),
            read(Found::Wrong("torn".to_owned())),
            Event::ReadFailed { key: key(), why: "unavailable".to_owned() },
            Event::Cut,
            Event::End,
        ];
        let log = Log::append(&path).unwrap();
        events.iter().for_each(|event| log.write(event).unwrap());
        assert_eq!(super::read(&path).unwrap(), events);
        // Killed while it wrote a line.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 2);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(super::read(&path).unwrap(), events[..events.len() - 1]);
        std::fs::write(&path, "what\n").unwrap();
        assert!(super::read(&path).is_err());
    }
}
