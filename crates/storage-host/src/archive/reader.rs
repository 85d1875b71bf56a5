//! Reads the lines of an archive, and refuses one that is not complete and unchanged.

use std::collections::BTreeSet;
use std::io::{BufRead, Read};

use sha2::{Digest, Sha256};
use storage_core::{StorageValue, Usage, split_full_key, validate_full_key};

use super::error::ImportError;
use super::lines::{self, Header, Kind, ReadKeyLine, Totals};

/// The capacity that is kept for the next line.
const KEPT: usize = 1 << 20;

/// How much of a line is read before it is known to be one.
const BEGINNING: u64 = 64 << 10;

/// How a header begins.
const START: &[u8] = b"{\"format\":";

const NO_ARCHIVE: &str = "it is not the header of an archive of storage-host; a compressed archive \
                          must be decompressed first";

/// The maximum length of the header.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// A full key and its value.
pub(super) type Entry = (String, StorageValue);

/// Reads an archive block by block, each of which is verified before it is returned.
pub(super) struct ArchiveReader<'a> {
    input: &'a mut dyn BufRead,
    hash: Sha256,
    line: Vec<u8>,
    /// The number of `line`.
    number: u64,
    bytes: u64,
    /// The chosen component prefixes; `None` if the archive is of the whole store.
    selection: Option<BTreeSet<String>>,
    totals: Totals,
    last_key: String,
    component: String,
    /// The first line that no checkpoint has verified yet.
    unverified: u64,
    is_done: bool,
}

impl<'a> ArchiveReader<'a> {
    /// Reads the header.
    pub(super) fn begin(input: &'a mut dyn BufRead) -> Result<Self, ImportError> {
        let mut reader = Self {
            input,
            hash: Sha256::new(),
            line: Vec::new(),
            number: 0,
            bytes: 0,
            selection: None,
            totals: Totals::default(),
            last_key: String::new(),
            component: String::new(),
            unverified: 1,
            is_done: false,
        };
        reader.read_line()?;
        let header = reader.header().map_err(|problem| reader.refused(problem))?;
        let prefixes = |ids: Vec<String>| ids.into_iter().map(|id| id + "/").collect();
        reader.selection = header.selection.map(prefixes);
        reader.hash.update(&reader.line);
        Ok(reader)
    }

    fn header(&self) -> Result<Header, String> {
        let kind: Kind = serde_json::from_slice(&self.line).map_err(|_| NO_ARCHIVE.to_owned())?;
        if kind.format != lines::FORMAT {
            return Err(NO_ARCHIVE.to_owned());
        }
        if kind.version != u64::from(lines::VERSION) {
            return Err(format!(
                "the archive has version {}, but this program reads version {}; use the release \
                 that wrote it",
                kind.version,
                lines::VERSION
            ));
        }
        serde_json::from_slice(&self.line)
            .map_err(|error| format!("the header is invalid: {}", described(&error)))
    }

    /// The prefixes of the components that were chosen for the archive; `None` for the
    /// whole store.
    pub(super) fn selection(&self) -> Option<&BTreeSet<String>> {
        self.selection.as_ref()
    }

    /// The bytes of the lines that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next block; `None` after the last one, when the whole archive is verified.
    pub(super) fn next_block(&mut self) -> Result<Option<Vec<Entry>>, ImportError> {
        if self.is_done {
            return Ok(None);
        }
        let mut entries = Vec::new();
        let mut block = Usage::default();
        loop {
            self.read_line()?;
            if self.line.starts_with(lines::KEY) {
                if lines::is_full(block) {
                    return Err(self.refused("a checkpoint is missing before it"));
                }
                let (key, value) = self.entry().map_err(|problem| self.refused(problem))?;
                block = block + Usage::of(&key, value.len());
                entries.push((key, value));
            } else if self.line.starts_with(lines::CHECKPOINT) && !entries.is_empty() {
                let digest = self.hash.clone().finalize();
                self.compare(&lines::checkpoint(self.totals.usage.keys, &digest))?;
            } else if self.line.starts_with(lines::END) {
                let digest = self.hash.clone().finalize();
                self.compare(&lines::end(&self.totals, &digest))?;
                self.check_is_last()?;
                self.is_done = true;
                return Ok(Some(entries));
            } else {
                return Err(self.refused("it is not a line of an archive"));
            }
            self.hash.update(&self.line);
            if self.line.starts_with(lines::CHECKPOINT) {
                self.unverified = self.number + 1;
                return Ok(Some(entries));
            }
        }
    }

    /// The key and the value of the line.
    fn entry(&mut self) -> Result<Entry, String> {
        let line: ReadKeyLine<'_> = serde_json::from_slice(&self.line)
            .map_err(|error| format!("it is not a line of an archive: {}", described(&error)))?;
        let (key, value) = line.into_entry()?;
        validate_full_key(&key).map_err(|error| error.to_string())?;
        if key <= self.last_key {
            return Err(match key == self.last_key {
                true => "it repeats the key before it",
                false => "its key must follow the one before it in byte order",
            }
            .to_owned());
        }
        let prefix = split_full_key(&key).0;
        if self.selection.as_ref().is_some_and(|chosen| !chosen.contains(prefix)) {
            return Err("its component is not in the selection of the header".to_owned());
        }
        if !prefix.is_empty() && prefix != self.component {
            prefix.clone_into(&mut self.component);
            self.totals.components += 1;
        }
        self.totals.usage = self.totals.usage + Usage::of(&key, value.len());
        key.clone_into(&mut self.last_key);
        Ok((key, value))
    }

    /// Compares the line with what the lines before it require.
    fn compare(&self, expected: &str) -> Result<(), ImportError> {
        if self.line == expected.as_bytes() {
            return Ok(());
        }
        Err(self.refused(format!(
            "it does not match the lines before it: one of the lines {} to {} was changed",
            self.unverified, self.number
        )))
    }

    fn check_is_last(&mut self) -> Result<(), ImportError> {
        let line = self.number + 1;
        let rest = Read::take(&mut *self.input, 1).read_until(b'\n', &mut Vec::new());
        match rest.map_err(|error| ImportError::Read { line, error })? {
            0 => Ok(()),
            _ => Err(ImportError::Refused {
                line,
                problem: "it follows the last line of the archive".to_owned(),
            }),
        }
    }

    /// Reads a line with its line feed.
    fn read_line(&mut self) -> Result<(), ImportError> {
        self.line.clear();
        self.line.shrink_to(KEPT);
        self.number += 1;
        let max = if self.number == 1 { MAX_HEADER_BYTES } else { lines::MAX_LINE_BYTES };
        self.read_up_to(BEGINNING)?;
        if self.line.len() as u64 == BEGINNING && !self.line.ends_with(b"\n") {
            // A file that is not an archive may have no line feed at all.
            if self.number > 1 && !self.line.starts_with(lines::KEY) {
                return Err(self.refused("it is not a line of an archive"));
            }
            self.read_up_to(max - BEGINNING)?;
        }
        self.bytes += self.line.len() as u64;
        match self.line.last() {
            Some(b'\n') => Ok(()),
            None if self.number == 1 => Err(self.refused("the archive is empty")),
            None => Err(self.refused("it is missing: the archive ends before its last line")),
            Some(_) if self.number == 1 && !self.line.starts_with(START) => {
                Err(self.refused(NO_ARCHIVE))
            }
            Some(_) if self.line.len() as u64 == max => Err(self.refused("it is too long")),
            Some(_) => Err(self.refused("it is incomplete: the archive ends within it")),
        }
    }

    /// Reads more of the line.
    fn read_up_to(&mut self, bytes: u64) -> Result<(), ImportError> {
        let read = Read::take(&mut *self.input, bytes).read_until(b'\n', &mut self.line);
        read.map(drop).map_err(|error| ImportError::Read { line: self.number, error })
    }

    fn refused(&self, problem: impl Into<String>) -> ImportError {
        ImportError::Refused { line: self.number, problem: problem.into() }
    }
}

/// The problem of a line, whose number serde_json does not know.
fn described(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let problem = text.split(" at line ").next().unwrap_or_default();
    format!("{problem}, at byte {} of the line", error.column())
}
