//! Standard output: text or JSON. An incomplete output is an error.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::escape::visible;
use super::failure::Failure;
use super::{stderr, stdio};

/// Buffered standard output. [`finish`](Self::finish) writes the buffer.
pub(super) struct Output {
    json: bool,
    is_terminal: bool,
    out: BufWriter<Box<dyn Write>>,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self { json, is_terminal, out: BufWriter::new(stdio::output()) }
    }

    /// An output to another writer.
    #[cfg(test)]
    pub(super) fn to(out: Box<dyn Write>, json: bool) -> Self {
        Self { json, is_terminal: false, out: BufWriter::new(out) }
    }

    /// Whether results are JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Writes a line. On a terminal, hidden characters are escaped.
    pub(super) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        match self.is_terminal && !self.json {
            true => self.styled(visible(&text.to_string())),
            false => self.styled(text),
        }
    }

    /// Writes a line that may contain escape sequences of this program.
    pub(super) fn styled(&mut self, text: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(|error| Failure::of_output(&error))
    }

    /// Escapes a part of a styled line that may contain any character.
    pub(super) fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_terminal { visible(text) } else { text.into() }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| Failure::of_output(&error))
    }

    /// Writes a result as one line of JSON.
    pub(super) fn document(&mut self, result: &impl Serialize) -> Result<(), Failure> {
        self.part(result)?;
        self.line("")
    }

    /// Writes a part of a result as JSON.
    pub(super) fn part(&mut self, part: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(part)
            .map_err(|error| Failure::new("output", format!("cannot write as JSON: {error}")))?;
        self.bytes(text.as_bytes())
    }

    /// Writes what is buffered.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::of_output(&error))
    }
}

/// Writes a note to standard error.
pub(super) fn note(text: impl Display) {
    stderr::note(text);
}

/// A text with its control characters escaped, so that it is one line.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// A path as text in JSON. U+FFFD replaces what is not UTF-8.
pub(super) fn json_path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The bytes of a path in base64, if [`json_path`] loses some of them. In JSON it follows
/// the path, under the same name with `_base64`.
pub(super) fn exact_path(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().as_encoded_bytes();
    path.to_str().is_none().then(|| STANDARD.encode(bytes))
}
