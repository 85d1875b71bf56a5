//! Standard error: text, or with `--json` an object on each line.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::escape::visible_lines;

/// Whether lines are JSON. A global, because threads, the log and panics use the stream too.
static JSON: AtomicBool = AtomicBool::new(false);
/// Whether notes are suppressed.
static QUIET: AtomicBool = AtomicBool::new(false);

/// The exit code of Rust programs after a panic.
const PANICKED: u8 = 101;

/// Sets the format of lines, and whether notes are written. With JSON, a panic is written as
/// an error.
pub(super) fn start(json: bool, quiet: bool) {
    JSON.store(json, Ordering::Relaxed);
    QUIET.store(quiet, Ordering::Relaxed);
    if json {
        panic::set_hook(Box::new(|panic| line(panic_line(panic))));
    }
}

/// Whether lines are JSON.
pub(super) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Whether standard error is a terminal without JSON, so that progress is shown.
pub(super) fn is_watched() -> bool {
    !is_json() && io::stderr().is_terminal()
}

/// Writes a note: `{"note":{"message":...}}` in JSON.
pub(super) fn note(text: impl Display) {
    if !QUIET.load(Ordering::Relaxed) {
        notice(text);
    }
}

/// Writes a note even with `--quiet`.
pub(super) fn notice(text: impl Display) {
    #[derive(Serialize)]
    struct Document {
        note: Note,
    }
    #[derive(Serialize)]
    struct Note {
        message: String,
    }

    match is_json() {
        true => json_line(&Document { note: Note { message: text.to_string() } }),
        false => line(text),
    }
}

/// Writes an error as `{"error":{"kind":...,"message":...,"exit_code":...}}`.
pub(super) fn json_error(kind: &str, message: &str, exit_code: u8) {
    json_line(&ErrorDocument { error: Error { kind, message, exit_code } });
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    kind: &'a str,
    message: &'a str,
    exit_code: u8,
}

fn panic_line(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let reason = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given");
    let location = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
    let message = format!("internal error{location}: {reason}");
    let error = Error { kind: "panic", message: &message, exit_code: PANICKED };
    to_json(&ErrorDocument { error })
}

fn json_line(document: &impl Serialize) {
    line(to_json(document));
}

fn to_json(document: &impl Serialize) -> String {
    // Cannot fail: these documents hold only texts and numbers.
    serde_json::to_string(document).unwrap_or_default()
}

/// Writes lines. On a terminal, hidden characters are escaped.
pub(super) fn line(text: impl Display) {
    if is_watched() {
        return raw_line(visible_lines(&text.to_string()));
    }
    raw_line(text);
}

fn raw_line(text: impl Display) {
    // A failed write to standard error is ignored: the exit code remains.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// Run by the test below, in a new process.
    #[test]
    #[ignore = "panics"]
    fn a_process_that_panics() {
        super::start(true, false);
        panic!("a \"reason\"\non two lines");
    }

    #[test]
    fn with_json_a_panic_is_one_line_of_json() {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--ignored", "--exact", "cli::stderr::tests::a_process_that_panics"]);
        let output = child.args(["--nocapture"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        let [line] = lines.as_slice() else { panic!("{said}") };
        let document: serde_json::Value = serde_json::from_str(line).unwrap();
        let error = &document["error"];
        assert_eq!((&error["kind"], &error["exit_code"]), (&"panic".into(), &101.into()), "{said}");
        let message = error["message"].as_str().unwrap();
        assert!(message.ends_with(": a \"reason\"\non two lines"), "{said}");
    }
}
