//! Errors in the arguments, as clap reports them.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use storage_host::hide_passwords;

use super::escape::has_hidden;
use super::failure::{Failure, WRONG_USAGE, show};
use super::{stderr, stdio};

/// Shows an error of clap: invalid usage, or the requested help.
pub(super) fn report(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let rendered = error.render().to_string();
    // Clap quotes arguments, which may be URLs of stores.
    let text = hide_passwords(&rendered);
    let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    if json && error.use_stderr() {
        let message = match error.kind() {
            // The text is the whole help.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command given",
            // The paragraphs after the first repeat the usage.
            _ => text.split("\n\n").next().unwrap_or_default(),
        };
        let message = message.strip_prefix("error: ").unwrap_or(message).trim_end();
        show("usage", message, WRONG_USAGE, true);
    } else if !error.use_stderr() {
        // The requested help or version goes to standard output.
        let printed = stdio::check_output().and_then(|()| error.print());
        if let Err(error) = printed.and_then(|()| io::stdout().flush()) {
            return Failure::of_output(&error).report(json);
        }
    } else {
        let is_changed = text != rendered;
        // A failed write to standard error is ignored: the exit code remains.
        match is_changed || has_hidden(&text.replace('\n', "")) {
            true => stderr::line(text.trim_end()),
            false => drop(error.print()),
        }
    }
    ExitCode::from(if error.use_stderr() { WRONG_USAGE } else { 0 })
}
