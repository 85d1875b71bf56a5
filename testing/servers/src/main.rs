//! Runs a command with database servers: `cargo run --package test-servers -- COMMAND`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "a command reports to its user")]

use std::io::{Read as _, Write as _};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use test_servers::{
    Postgres, PostgresBuilder, Redis, RedisBuilder, RedisCluster, RedisSentinel, Tls,
};

/// Where tests find the URL of each kind of server.
const POSTGRES_URL: &str = "STORAGE_TEST_POSTGRES_URL";
const REDIS_URL: &str = "STORAGE_TEST_REDIS_URL";
const CLUSTER_URL: &str = "STORAGE_TEST_REDIS_CLUSTER_URL";
const SENTINEL_URL: &str = "STORAGE_TEST_REDIS_SENTINEL_URL";

/// Run a command with the URLs of servers in its environment.
///
/// Without a kind of server, starts PostgreSQL. The URLs are in STORAGE_TEST_POSTGRES_URL,
/// STORAGE_TEST_REDIS_URL, STORAGE_TEST_REDIS_CLUSTER_URL and STORAGE_TEST_REDIS_SENTINEL_URL.
/// The servers listen on loopback and are gone afterwards. Without a command, prints a line
/// for each variable and runs until its input ends.
#[derive(Debug, Parser)]
#[command(name = "test-servers")]
struct Arguments {
    /// Start PostgreSQL.
    #[arg(long)]
    postgres: bool,
    /// Start a single Redis server.
    #[arg(long)]
    redis: bool,
    /// Start a Redis cluster: three masters and three replicas.
    #[arg(long)]
    redis_cluster: bool,
    /// Start a Redis master and its replica with three sentinels.
    #[arg(long)]
    redis_sentinel: bool,
    /// Require this password.
    #[arg(long)]
    password: Option<String>,
    /// Refuse connections without TLS.
    #[arg(long)]
    tls: bool,
    /// A setting of postgresql.conf or redis.conf, if the servers are of one of both.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("a setting is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
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

/// The servers that were asked for. They stop when this value is dropped.
#[derive(Default)]
struct Servers {
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    cluster: Option<RedisCluster>,
    sentinel: Option<RedisSentinel>,
}

impl Servers {
    fn start(arguments: &Arguments) -> Result<Self> {
        let Arguments { redis, redis_cluster, redis_sentinel, .. } = *arguments;
        let any_redis = redis || redis_cluster || redis_sentinel;
        let postgres = arguments.postgres || !any_redis;
        if postgres && any_redis && !arguments.settings.is_empty() {
            bail!("--set needs servers of one kind: remove --postgres or the options of Redis");
        }
        let mut servers = Self::default();
        if postgres {
            servers.postgres = Some(arguments.postgres_options().start()?);
        }
        if redis {
            servers.redis = Some(arguments.redis_options().start()?);
        }
        if redis_cluster {
            servers.cluster = Some(RedisCluster::with(arguments.redis_options())?);
        }
        if redis_sentinel {
            let password = arguments.password.as_deref();
            servers.sentinel = Some(RedisSentinel::with(arguments.redis_options(), password)?);
        }
        Ok(servers)
    }

    fn variables(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Self { postgres, redis, cluster, sentinel } = self;
        [
            (POSTGRES_URL, postgres.as_ref().map(Postgres::url)),
            (REDIS_URL, redis.as_ref().map(Redis::url)),
            (CLUSTER_URL, cluster.as_ref().map(RedisCluster::url)),
            (SENTINEL_URL, sentinel.as_ref().map(RedisSentinel::url)),
        ]
        .into_iter()
        .filter_map(|(name, url)| Some((name, url?)))
    }
}

impl Arguments {
    fn postgres_options(&self) -> PostgresBuilder {
        let mut builder = Postgres::builder();
        if let Some(password) = &self.password {
            builder = builder.password(password);
        }
        if self.tls {
            builder = builder.tls(Tls::Required);
        }
        for (name, value) in &self.settings {
            builder = builder.setting(name, value);
        }
        builder
    }

    fn redis_options(&self) -> RedisBuilder {
        let mut builder = Redis::builder();
        if let Some(password) = &self.password {
            builder = builder.password(password);
        }
        if self.tls {
            builder = builder.tls();
        }
        for (name, value) in &self.settings {
            builder = builder.setting(name, value);
        }
        builder
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let servers = Servers::start(arguments)?;
    let Some((program, rest)) = arguments.command.split_first() else {
        let mut output = std::io::stdout();
        for (name, url) in servers.variables() {
            writeln!(output, "{name}={url}")?;
        }
        output.flush()?;
        std::io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(ExitCode::SUCCESS);
    };
    let status = Command::new(program).args(rest).envs(servers.variables()).status();
    let status = status.with_context(|| format!("cannot start {program}"))?;
    // A command that was killed has no code.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
