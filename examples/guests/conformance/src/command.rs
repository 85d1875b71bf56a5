//! The command line of a conformance component.
//!
//! It needs only the WASI functions that the standard library uses, so old hosts
//! can run it. The exit code is therefore 0 or 1.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::table::Table;

#[derive(Default)]
pub struct Options {
    /// The name of the store, unless it is the default one.
    pub store: Option<String>,
    /// Whether the messages of errors are shown.
    pub texts: bool,
}

enum Arguments {
    Help,
    Run(Options),
}

/// Runs the cases. The exit code is 0 if all results that the specification fixes
/// are right, otherwise 1. `cases` returns an error if they cannot run.
pub fn run(
    name: &str,
    cases: impl FnOnce(&Options, &mut Table<'_>) -> Result<(), String>,
) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut out = io::stdout().lock();
    let ended = match parse(&args) {
        Ok(Arguments::Help) => {
            writeln!(out, "{}", usage(name)).map(|()| true).map_err(|error| error.to_string())
        }
        Ok(Arguments::Run(options)) => {
            let mut table = Table::new(&mut out, options.texts);
            cases(&options, &mut table)
                .and_then(|()| table.finish().map_err(|error| format!("cannot write: {error}")))
        }
        Err(wrong) => Err(format!("{wrong}\n{}", usage(name))),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            let _ = writeln!(io::stderr(), "{name}: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn usage(name: &str) -> String {
    format!(
        "usage: {name} [--store NAME] [--texts]\n\n  \
         --store NAME  use this store, by default \"\" or, if there is none, \"default\".\n                \
         It must be empty\n  \
         --texts       show the messages of errors"
    )
}

fn parse(args: &[String]) -> Result<Arguments, String> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(Arguments::Help),
            "--texts" => options.texts = true,
            "--store" => match args.next() {
                Some(name) => options.store = Some(name.clone()),
                None => return Err("--store needs a name".to_owned()),
            },
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    Ok(Arguments::Run(options))
}
