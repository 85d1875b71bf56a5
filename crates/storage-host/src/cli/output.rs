//! Standard output: text for people or JSON for programs, never half of it
//! without an error.

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

/// Standard output, buffered. What [`finish`](Self::finish) has not written is
/// not written.
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

    /// An output that is written elsewhere.
    #[cfg(test)]
    pub(super) fn to(out: Box<dyn Write>, json: bool) -> Self {
        Self { json, is_terminal: false, out: BufWriter::new(out) }
    }

    /// Whether results are JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Writes a line; a terminal shows all of it.
    pub(super) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        match self.is_terminal && !self.json {
            true => self.styled(visible(&text.to_string())),
            false => self.styled(text),
        }
    }

    /// Writes a line that may hold escape sequences of our own.
    pub(super) fn styled(&mut self, text: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(|error| Failure::of_output(&error))
    }

    /// A part of a styled line that may hold anything.
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

    /// Shows what was written so far.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::of_output(&error))
    }
}

/// Says something beside the result, on standard error.
pub(super) fn note(text: impl Display) {
    stderr::note(text);
}

/// A text on one line, whatever it holds.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// A path as text in JSON, in which U+FFFD stands for what is not UTF-8.
pub(super) fn json_path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The bytes of a path in base64, where [`json_path`] is not all of it. In JSON it
/// stands beside the path, under the same name with `_base64`.
pub(super) fn exact_path(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().as_encoded_bytes();
    path.to_str().is_none().then(|| STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_path_cannot_write_lines_of_its_own() {
        assert_eq!(printable("caf\u{e9}/a b"), "caf\u{e9}/a b");
        assert_eq!(printable("a\n\u{1b}[2Jb"), r"a\n\u{1b}[2Jb");
    }
}
