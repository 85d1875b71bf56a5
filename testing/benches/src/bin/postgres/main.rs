//! The PostgreSQL store on a running server.
//!
//! `cargo xtask bench postgres --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command reports to its user")]

mod client;
mod foreign;
mod hosts;
mod raw;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use benches::{Size, machine};
use clap::Parser;
use storage_backends::{Durability, PostgresOptions, PostgresStorage};
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use raw::Raw;

/// Measure the PostgreSQL store on a running server.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench postgres", bin_name = "cargo xtask bench postgres")]
struct Arguments {
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = ["client", "hosts", "foreign"])]
    part: Vec<Part>,
    /// The database, in which schemas are created and dropped.
    #[arg(long, env = "STORAGE_TEST_POSTGRES_URL", value_name = "postgres://USER@HOST:PORT/DB")]
    url: String,
    /// Measure few operations.
    #[arg(long)]
    quick: bool,
    /// Commits do not wait for the server's disk.
    #[arg(long)]
    unsynced: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Part {
    /// The store compared with the same prepared statements through the raw client.
    ///
    /// The raw client waits in the measuring thread, and tokio's threads move its bytes. It
    /// neither groups commits nor sends notices. Both sides have connections with the same
    /// settings.
    Client,
    /// How soon a host reads what another one has written, and what a cached hit costs.
    Hosts,
    /// A component among the keys of 100,000 others, and their enumeration.
    Foreign,
}

const SCHEMA: &str = "storage_bench";
const VALUE: &[u8] = &[b'v'; 100];
const COMMITTERS: usize = 16;

fn main() -> ExitCode {
    benches::exit_code(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = Server {
        runtime: &runtime,
        config: arguments.url.parse().context("the URL is invalid")?,
        unsynced: arguments.unsynced,
        size: if arguments.quick { Size::Quick } else { Size::Full },
    };
    println!("{}", machine::describe());
    for part in &arguments.part {
        server.drop_schemas()?;
        let measured = match part {
            Part::Client => client::measure(&server),
            Part::Hosts => hosts::measure(&server),
            Part::Foreign => foreign::measure(&server),
        };
        server.drop_schemas()?;
        println!("\n{}load average {}", measured?, machine::load());
    }
    Ok(())
}

/// The server, and how it is measured.
struct Server<'r> {
    runtime: &'r Runtime,
    config: tokio_postgres::Config,
    unsynced: bool,
    size: Size,
}

impl Server<'_> {
    /// The schema of a component that is alone.
    const ALONE: &'static str = "storage_bench_alone";

    fn open(&self, schema: &str) -> Result<PostgresStorage> {
        Ok(PostgresStorage::open(&self.options(schema, self.unsynced)?)?)
    }

    /// Opens a store whose commits do not wait for the disk.
    fn open_unsynced(&self, schema: &str) -> Result<PostgresStorage> {
        Ok(PostgresStorage::open(&self.options(schema, true)?)?)
    }

    fn connect(&self) -> Result<Raw<'_>> {
        Raw::connect(self.runtime, &self.config, self.unsynced)
    }

    fn options(&self, schema: &str, unsynced: bool) -> Result<PostgresOptions> {
        let config = &self.config;
        let Some(tokio_postgres::config::Host::Tcp(host)) = config.get_hosts().first() else {
            bail!("the URL names no host");
        };
        let user = config.get_user().context("the URL names no user")?;
        let database = config.get_dbname().unwrap_or(user);
        let mut options = PostgresOptions::new(host, user, database).with_schema(schema);
        options.port = config.get_ports().first().copied().unwrap_or(options.port);
        if let Some(password) = config.get_password() {
            options = options.with_password(std::str::from_utf8(password)?);
        }
        if unsynced {
            options = options.with_durability(Durability::Os);
        }
        Ok(options.with_pool_size(COMMITTERS))
    }

    fn drop_schemas(&self) -> Result<()> {
        [SCHEMA, Self::ALONE]
            .iter()
            .try_for_each(|schema| self.sql(&format!("drop schema if exists {schema} cascade")))
    }

    fn sql(&self, statement: &str) -> Result<()> {
        self.runtime.block_on(async {
            let (client, connection) = self.config.connect(NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute(statement).await?;
            Ok(())
        })
    }
}
