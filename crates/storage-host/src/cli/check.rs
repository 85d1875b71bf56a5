//! `check` of a component: what it imports and exports, and which command can use it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::failure::Failure;
use super::imports::{Contents, Import, Purpose, Status};
use super::output::{Output, exact_path, json_path, printable};
#[cfg(feature = "serve")]
use super::serve;
use super::{compiled, provided, run};

/// Check a component or a manifest: whether run or serve can use it
///
/// Of a component it shows the imports, each of them provided or missing, with the
/// nearest version of a missing one; the exports; and what this host provides. Exits
/// with 1 if neither run nor serve can use it.
///
/// Of a manifest it checks every field, the ids, quotas, grants and routes, and each
/// component's file. Warns of grants that allow more than they seem to, and of presets
/// above the quota.
///
/// Opens no store. Of a manifest, --store replaces the store's URL; a component takes
/// no --store. Changes nothing, except that compiled components are cached.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A component, or a manifest in TOML
    ///
    /// A name that ends in .wasm, or a WebAssembly file, is a component.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    /// Exit with 1 on warnings of a manifest too
    #[arg(long)]
    pub(super) strict: bool,
}

/// Whether a file is taken for a component, and not for a manifest: by its name, else by its
/// first bytes.
pub(super) fn is_component(path: &Path, bytes: &io::Result<Vec<u8>>) -> bool {
    let extension = path.extension().unwrap_or_default();
    let is_named = ["wasm", "wat"].iter().any(|known| extension.eq_ignore_ascii_case(known));
    // If the file is unreadable, the error comes from reading it as a manifest.
    is_named || bytes.as_ref().is_ok_and(|bytes| bytes.starts_with(b"\0asm"))
}

/// Checks that a command can use a component.
pub(super) fn check_for(purpose: Purpose, path: &Path) -> Result<(), Failure> {
    let bytes = compiled::component(path, fs::read(path))?;
    outcome(purpose, path, &bytes, &Contents::read(&bytes))
}

fn outcome(
    purpose: Purpose,
    path: &Path,
    bytes: &[u8],
    contents: &Contents,
) -> Result<(), Failure> {
    match (contents.obstacle(purpose), purpose) {
        (Some(obstacle), _) => {
            Err(Failure::new("component", format!("{}{obstacle}", path.display())))
        }
        (None, Purpose::Run) => run::check(path, bytes),
        #[cfg(feature = "serve")]
        (None, Purpose::Serve) => serve::check(path, bytes),
        #[cfg(not(feature = "serve"))]
        (None, Purpose::Serve) => Err(Failure::new(
            "component",
            format!(
                "{} handles HTTP requests, which needs a build with the feature serve",
                path.display()
            ),
        )),
    }
}

/// What is known of a component.
struct Examined {
    contents: Contents,
    runnable: bool,
    servable: bool,
    /// Fails if no command can use it.
    outcome: Result<(), Failure>,
}

/// Reads a component, and finds out which commands can use it.
///
/// # Errors
/// If the file is not a complete component.
fn examine(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<Examined, Failure> {
    let bytes = compiled::component(path, bytes)?;
    let contents = Contents::read(&bytes);
    let with = |purpose| outcome(purpose, path, &bytes, &contents);
    let served = contents.is_for(Purpose::Serve).then(|| with(Purpose::Serve));
    // Without an export of either, the error is about `run`.
    let needs_run = served.is_none() || contents.is_for(Purpose::Run);
    let run = needs_run.then(|| with(Purpose::Run));
    let is_ok = |outcome: &Option<Result<(), Failure>>| matches!(outcome, Some(Ok(())));
    let (runnable, servable) = (is_ok(&run), is_ok(&served));
    let outcome = match runnable || servable {
        true => Ok(()),
        false => run.or(served).unwrap_or(Ok(())),
    };
    match (&contents.exports, outcome) {
        (None, Err(failure)) => Err(failure),
        (_, outcome) => Ok(Examined { contents, runnable, servable, outcome }),
    }
}

#[derive(Serialize)]
struct Report<'a> {
    component: String,
    /// The bytes of a path that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    component_base64: Option<String>,
    /// Whether `run` can run it.
    runnable: bool,
    /// Whether `serve` can serve it.
    servable: bool,
    imports: &'a [Import],
    exports: &'a [String],
    provided: Vec<String>,
}

/// Prints the imports and exports of a component, and what this host provides. Fails if no
/// command can use it.
pub(super) fn check(
    path: &Path,
    bytes: io::Result<Vec<u8>>,
    output: &mut Output,
) -> Result<(), Failure> {
    let Examined { contents, runnable, servable, outcome } = examine(path, bytes)?;
    let report = Report {
        component: json_path(path),
        component_base64: exact_path(path),
        runnable,
        servable,
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
    let uses = match (report.runnable, report.servable) {
        (true, true) => "run can run it, and serve can serve it",
        (true, false) => "run can run it",
        (false, true) => "serve can serve it",
        (false, false) => return Ok(()),
    };
    output.line(format_args!("{file}: ok: {uses}"))
}

fn if_none<T>(list: &[T]) -> &'static str {
    if list.is_empty() { " nothing" } else { "" }
}
