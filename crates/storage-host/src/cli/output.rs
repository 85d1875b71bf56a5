//! Standard output: text for people or JSON for programs, never half of it
//! without an error.

use std::fmt::Display;
use std::io::{self, BufWriter, Stdout, Write};

use serde::Serialize;

use super::failure::Failure;
use super::stderr;

/// Standard output, buffered. What [`finish`](Self::finish) has not written is
/// not written.
pub(super) struct Output {
    json: bool,
    out: BufWriter<Stdout>,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json, out: BufWriter::new(io::stdout()) }
    }

    /// Whether results are JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn line(&mut self, text: impl Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(|error| Failure::of_output(&error))
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

/// A text as it can be typed in a shell, quoted only where it must be.
pub(super) fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{printable, shell_quoted};

    #[test]
    fn a_path_cannot_write_lines_of_its_own() {
        assert_eq!(printable("caf\u{e9}/a b"), "caf\u{e9}/a b");
        assert_eq!(printable("a\n\u{1b}[2Jb"), r"a\n\u{1b}[2Jb");
    }

    #[test]
    fn only_what_a_shell_would_read_otherwise_is_quoted() {
        assert_eq!(shell_quoted("note/0000000001-c0ffee"), "note/0000000001-c0ffee");
        assert_eq!(shell_quoted("file:./storage-data"), "file:./storage-data");
        for (text, quoted) in [
            ("", "''"),
            ("my data", "'my data'"),
            ("it's", r"'it'\''s'"),
            ("a?b*", "'a?b*'"),
            ("~", "'~'"),
        ] {
            assert_eq!(shell_quoted(text), quoted);
        }
    }
}
