//! Runs a command with a PostgreSQL server: `cargo run --package test-servers -- COMMAND`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "a command reports to its user")]

use std::io::{Read as _, Write as _};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;
use test_servers::{Postgres, Tls};

/// Where tests find the URL of the server.
const POSTGRES_URL: &str = "STORAGE_TEST_POSTGRES_URL";

/// Run a command with the URL of a PostgreSQL server in STORAGE_TEST_POSTGRES_URL.
///
/// The server listens on loopback and is gone afterwards. Without a command, prints the
/// variable and runs until its input ends.
#[derive(Debug, Parser)]
#[command(name = "test-servers")]
struct Arguments {
    /// Require this password.
    #[arg(long)]
    password: Option<String>,
    /// Refuse connections without TLS.
    #[arg(long)]
    tls: bool,
    /// A setting of postgresql.conf.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut builder = Postgres::builder();
    if let Some(password) = &arguments.password {
        builder = builder.password(password);
    }
    if arguments.tls {
        builder = builder.tls(Tls::Required);
    }
    for setting in &arguments.settings {
        let (name, value) = setting.split_once('=').context("a setting is NAME=VALUE")?;
        builder = builder.setting(name, value);
    }
    let server = builder.start()?;
    let Some((program, rest)) = arguments.command.split_first() else {
        let mut output = std::io::stdout();
        writeln!(output, "{POSTGRES_URL}={}", server.url())?;
        output.flush()?;
        std::io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut command = Command::new(program);
    let status = command.args(rest).env(POSTGRES_URL, server.url()).status();
    let status = status.with_context(|| format!("cannot start {program}"))?;
    // A command that was killed has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
