//! `check` of a component: what it imports and exports, and whether `run` can run it.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::failure::Failure;
use super::imports::{Contents, Import, Status};
use super::output::{Output, exact_path, json_path, printable};
use super::{compiled, provided, run};

/// Whether a file is taken for a component, and not for a manifest: by its name, else by its
/// first bytes.
pub(super) fn is_component(path: &Path, bytes: &io::Result<Vec<u8>>) -> bool {
    let extension = path.extension().unwrap_or_default();
    let is_named = ["wasm", "wat"].iter().any(|known| extension.eq_ignore_ascii_case(known));
    // If the file is unreadable, the error comes from reading it as a manifest.
    is_named || bytes.as_ref().is_ok_and(|bytes| bytes.starts_with(b"\0asm"))
}

/// Checks that a component can be run.
pub(super) fn check_runnable(path: &Path) -> Result<(), Failure> {
    examine(path, fs::read(path))?.1
}

/// Reads a component, and finds out whether it can be run.
///
/// # Errors
/// If the file is not a complete component.
fn examine(
    path: &Path,
    bytes: io::Result<Vec<u8>>,
) -> Result<(Contents, Result<(), Failure>), Failure> {
    let bytes = compiled::component(path, bytes)?;
    let contents = Contents::read(&bytes);
    let outcome = match contents.obstacle() {
        Some(obstacle) => Err(Failure::new("component", format!("{}{obstacle}", path.display()))),
        None => run::check(path, &bytes),
    };
    match (&contents.exports, outcome) {
        (None, Err(failure)) => Err(failure),
        (_, outcome) => Ok((contents, outcome)),
    }
}

#[derive(Serialize)]
struct Report<'a> {
    component: String,
    /// The bytes of a path that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    component_base64: Option<String>,
    runnable: bool,
    imports: &'a [Import],
    exports: &'a [String],
    provided: Vec<String>,
}

/// Prints the imports and exports of a component, and what this host provides. Fails if it
/// cannot be run.
pub(super) fn check(
    path: &Path,
    bytes: io::Result<Vec<u8>>,
    output: &mut Output,
) -> Result<(), Failure> {
    let (contents, outcome) = examine(path, bytes)?;
    let report = Report {
        component: json_path(path),
        component_base64: exact_path(path),
        runnable: outcome.is_ok(),
        imports: &contents.imports,
        exports: contents.exports.as_deref().unwrap_or_default(),
        provided: provided::names(),
    };
    let written = show(&report, output).and_then(|()| output.finish());
    Failure::outcome_of(written, outcome)
}

fn show(report: &Report<'_>, output: &mut Output) -> Result<(), Failure> {
    if output.json() {
        return output.document(report);
    }
    let file = &report.component;
    output.line(format_args!("{file} imports{}", if_none(report.imports)))?;
    for import in report.imports {
        let status = match import.status {
            Status::Provided => "provided",
            Status::TypesOnly => "types only",
            Status::NoNetwork => "no network",
            Status::Labelled => "unsupported",
            Status::Missing => "missing",
        };
        output.line(format_args!("  {status:<11} {}", printable(&import.described())))?;
    }
    output.line(format_args!("{file} exports{}", if_none(report.exports)))?;
    for export in report.exports {
        output.line(format_args!("  {}", printable(export)))?;
    }
    output.line("this host provides")?;
    for line in provided::lines() {
        output.line(format_args!("  {line}"))?;
    }
    if report.runnable {
        output.line(format_args!("{file}: ok: run can run it"))?;
    }
    Ok(())
}

fn if_none<T>(list: &[T]) -> &'static str {
    if list.is_empty() { " nothing" } else { "" }
}
