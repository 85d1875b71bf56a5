//! `completions` and `man`: files for shells and for `man`.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;

use super::Cli;
use super::failure::Failure;
use super::output::{Output, exact_path, json_path};

const NAME: &str = "storage-host";

/// Write a script that completes commands and options in a shell
///
/// For bash: storage-host completions bash > ~/.local/share/bash-completion/completions/storage-host
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Write the manual pages into a directory, which is created if it is missing
///
/// One page for each command: storage-host.1, storage-host-run.1 and so on.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The directory, such as ~/.local/share/man/man1
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs, output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        shell: String,
        script: &'a str,
    }

    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    if output.json() {
        let (shell, script) = (args.shell.to_string(), &String::from_utf8_lossy(&script));
        return output.document(&Document { shell, script });
    }
    output.bytes(&script)
}

pub(super) fn man(args: &ManArgs, output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document {
        directory: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        directory_base64: Option<String>,
    }

    let directory = &args.directory;
    let failed = |error: io::Error| {
        Failure::new("output", format!("cannot write to {}: {error}", directory.display()))
    };
    if directory.exists() && !directory.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)?;
    if output.json() {
        return output.document(&Document {
            directory: json_path(directory),
            directory_base64: exact_path(directory),
        });
    }
    output.line(format_args!("wrote the manual pages to {}", directory.display()))
}
