//! `verify`: reads a whole store and reports problems.

use std::cell::RefCell;

use serde::Serialize;
use storage_host::{Problem, Verified};

use super::beside::here_or_there;
use super::failure::Failure;
use super::output::{Output, printable};
use super::progress::{Progress, counted};
use super::target::Target;

/// Read the whole store and report problems
///
/// Checks the checksums, the names of files against their keys, pending commits,
/// counters, and the number of keys. Changes nothing. Prints a line for each
/// problem: where it is, the key, and what is wrong. Exits with 1 if there is any.
/// Unknown files, and permissions that give other users access, are warnings.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Exit with 1 on warnings too
    #[arg(long)]
    pub(super) strict: bool,
}

/// Fails if there is a problem, or with `strict` if there is a warning.
pub(super) fn verify(target: &Target, strict: bool, output: &mut Output) -> Result<(), Failure> {
    let store = target.url();
    let progress = Progress::new("checking");
    let mut report = Report { written: Ok(()), found: 0, store: store.to_string() };
    let mut add = |problem| report.add(&problem, &progress, output);
    let add = RefCell::new(&mut add as &mut dyn FnMut(Problem));
    // A locked store fails before any problem is reported.
    let verified = here_or_there(
        store,
        target.wait(),
        || {
            let verified = store.verify(&mut **add.borrow_mut());
            verified.map_err(|error| Failure::of_opening(store, &error))
        },
        |mut client| Ok(client.verify(&mut **add.borrow_mut())?),
    );
    drop(progress);
    let Report { written, found, store: shown } = report;
    let verified = match verified {
        Ok(verified) => verified,
        Err(failure) => return Failure::outcome_of(written, Err(failure)),
    };
    let written = written.and_then(|()| summary(&shown, found, &verified, output));
    let outcome = match (verified.problems, verified.warnings) {
        (0, warnings) if strict && warnings > 0 => Err(Failure::new(
            "warnings",
            format!("{} in the store \"{store}\"", counted(warnings, "warning")),
        )),
        (0, _) => Ok(()),
        (problems, _) => Err(Failure::new(
            "problems",
            format!("{} in the store \"{store}\"", counted(problems, "problem")),
        )),
    };
    Failure::outcome_of(written, outcome)
}

/// Writes the totals, after all problems.
fn summary(
    store: &str,
    found: u64,
    verified: &Verified,
    output: &mut Output,
) -> Result<(), Failure> {
    if output.json() {
        end_document(store, found, verified, output)?;
        return output.finish();
    }
    let whole = format!(
        "{} of {}, {} bytes",
        counted(verified.usage.keys, "key"),
        counted(verified.components, "component"),
        verified.usage.bytes
    );
    let warnings = match verified.warnings {
        0 => String::new(),
        warnings => format!("; {}", counted(warnings, "warning")),
    };
    match verified.problems {
        0 => output.line(format_args!("no problems found: {whole}{warnings}"))?,
        _ => output.line(format_args!("undamaged: {whole}{warnings}"))?,
    }
    output.finish()
}

/// Writes each problem when it is found: all of them may not fit in memory.
struct Report {
    written: Result<(), Failure>,
    found: u64,
    store: String,
}

impl Report {
    fn add(&mut self, problem: &Problem, progress: &Progress, output: &mut Output) {
        if self.written.is_ok() {
            self.written = progress.show(output, |output| {
                if output.json() {
                    return self.add_to_document(problem, output);
                }
                let kind = if problem.kind.is_warning() { "warning: " } else { "" };
                let key = problem.key.as_ref().map(|key| format!("key {key:?}: "));
                output.line(format_args!(
                    "{kind}{}: {}{}",
                    printable(&problem.location),
                    key.unwrap_or_default(),
                    printable(&problem.detail)
                ))
            });
        }
        self.found += 1;
    }

    fn add_to_document(&self, problem: &Problem, output: &mut Output) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Entry<'a> {
            kind: &'a str,
            place: &'a str,
            /// Whether U+FFFD may replace bytes of a path that is not UTF-8.
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            place_is_lossy: bool,
            key: Option<&'a str>,
            detail: &'a str,
        }

        match self.found {
            0 => begin_document(&self.store, output)?,
            _ => output.bytes(b",")?,
        }
        let entry = Entry {
            kind: problem.kind.as_str(),
            place: &problem.location,
            place_is_lossy: problem.location.contains(char::REPLACEMENT_CHARACTER),
            key: problem.key.as_deref(),
            detail: &problem.detail,
        };
        output.part(&entry)
    }
}

fn begin_document(store: &str, output: &mut Output) -> Result<(), Failure> {
    output.bytes(b"{\"store\":")?;
    output.part(&store)?;
    output.bytes(b",\"problems\":[")
}

fn end_document(
    store: &str,
    found: u64,
    verified: &Verified,
    output: &mut Output,
) -> Result<(), Failure> {
    if found == 0 {
        begin_document(store, output)?;
    }
    output.line(format_args!(
        "],\"problem_count\":{},\"warning_count\":{},\"key_count\":{},\"component_count\":{},\
         \"bytes\":{}}}",
        verified.problems,
        verified.warnings,
        verified.usage.keys,
        verified.components,
        verified.usage.bytes
    ))
}
