//! The frame of a conformance component: arguments in, the table out, an exit
//! code.
//!
//! It asks no more of WASI than the standard library does, so that old hosts can
//! run it: the exit code is 0 or 1.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::table::Table;

/// What a component was asked to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The store to work on, where it is not the one that is opened by default.
    pub store: Option<String>,
    /// Whether the texts of errors are shown.
    pub texts: bool,
}

enum Asked {
    Help,
    Run(Options),
}

/// Runs the cases as the arguments say. The exit code is 0 if all that the
/// specification fixes is as it asks, else 1. An error of `cases` says why they
/// cannot run at all.
pub fn run(
    name: &str,
    cases: impl FnOnce(&Options, &mut Table<'_>) -> Result<(), String>,
) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut out = io::stdout().lock();
    let ended = match parse(&args) {
        Ok(Asked::Help) => {
            writeln!(out, "{}", usage(name)).map(|()| true).map_err(|error| error.to_string())
        }
        Ok(Asked::Run(options)) => {
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
            // Where the outputs are closed, the exit code is what is left.
            let _ = writeln!(io::stderr(), "{name}: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn usage(name: &str) -> String {
    format!(
        "usage: {name} [--store NAME] [--texts]\n\n  \
         --store NAME  work on this store; else on \"\" or, where there is none, on \"default\".\n                \
         It must hold no keys\n  \
         --texts       show what the host says of errors, too"
    )
}

fn parse(args: &[String]) -> Result<Asked, String> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--texts" => options.texts = true,
            "--store" => match args.next() {
                Some(name) => options.store = Some(name.clone()),
                None => return Err("--store takes a name".to_owned()),
            },
            other => return Err(format!("there is no option {other:?}")),
        }
    }
    Ok(Asked::Run(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Options, String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        parse(&args).map(|asked| match asked {
            Asked::Run(options) => options,
            Asked::Help => Options { store: Some("help".to_owned()), texts: true },
        })
    }

    #[test]
    fn arguments_are_taken_in_any_order() {
        assert_eq!(parsed(&[]), Ok(Options::default()));
        let both = Options { store: Some("--texts".to_owned()), texts: true };
        assert_eq!(parsed(&["--texts", "--store", "--texts"]).as_ref(), Ok(&both));
        assert_eq!(parsed(&["--store", "--texts", "--texts"]), Ok(both));
    }

    #[test]
    fn what_is_no_option_is_named() {
        assert_eq!(parsed(&["--fast"]), Err("there is no option \"--fast\"".to_owned()));
        assert_eq!(parsed(&["--store"]), Err("--store takes a name".to_owned()));
    }
}
