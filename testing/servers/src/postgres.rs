//! A PostgreSQL server.

mod builder;
mod standby;

pub use builder::{PostgresBuilder, Tls};

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::server::{Ready, Server, wait_until};
use crate::user::User;
use crate::{certificate, ports, programs};

/// The user and the database of every server.
const NAME: &str = "postgres";

/// A PostgreSQL server on loopback. It stops, and its files are removed, when it is dropped
/// or this process ends.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// let mut server = test_servers::Postgres::start()?;
/// assert_eq!(server.sql("select 1")?, "1");
/// server.kill()?;
/// server.restart()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    programs: PathBuf,
    password: Option<String>,
}

impl Postgres {
    /// Why this machine cannot start a server, if it cannot.
    pub fn missing() -> Option<String> {
        let found = Self::programs().and_then(|_| User::unprivileged());
        found.err().map(|error| error.to_string())
    }

    /// The directory with the programs of the server: that of `STORAGE_TEST_POSTGRES_BIN`, or
    /// of the newest version that is installed.
    ///
    /// # Errors
    /// If there is none. The message says what to install.
    pub fn programs() -> Result<PathBuf> {
        programs::postgres()
    }

    /// Starts a server with the default settings.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// The options of a server.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// The address of the server. It stays the same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL of the server's database, with the password if it has one.
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The URL of the server's database through a [`Proxy`](crate::Proxy) with this address.
    pub fn url_at(&self, address: SocketAddr) -> String {
        let password = self.password.as_ref().map(|text| format!(":{text}")).unwrap_or_default();
        format!("postgres://{NAME}{password}@{address}/{NAME}")
    }

    /// The certificate that clients trust, in PEM, if the server has TLS.
    pub fn certificate(&self) -> PathBuf {
        self.server.data().join(certificate::CERTIFICATE)
    }

    /// The directory with the server's data.
    pub fn data(&self) -> &Path {
        self.server.data()
    }

    /// The last lines of the server's log.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Runs SQL and returns the rows, one a line, with `|` between columns.
    ///
    /// # Errors
    /// If the server refuses it or cannot be reached.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.sql_at(self.address(), sql)
    }

    /// Runs SQL through a [`Proxy`](crate::Proxy) with this address.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn sql_at(&self, address: SocketAddr, sql: &str) -> Result<String> {
        let output = self
            .client("psql", address)
            .args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet"])
            .args(["--set", "ON_ERROR_STOP=1", "--dbname", NAME, "--command", sql])
            .output()
            .context("cannot start psql")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{sql}: {}", errors.trim_end());
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// A client program that connects to this server as its owner.
    fn client(&self, program: &str, address: SocketAddr) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--username", NAME, "--no-password"])
            .env("PGPASSWORD", self.password.as_deref().unwrap_or_default())
            .env("PGCONNECT_TIMEOUT", "30")
            .env("PGSSLMODE", "prefer")
            .stdin(Stdio::null());
        command
    }

    /// Changes a setting that needs no restart.
    ///
    /// # Errors
    /// If the server refuses it, or if the setting needs a restart.
    pub fn set(&self, setting: &str, value: &str) -> Result<()> {
        self.sql(&format!("alter system set {setting} = '{value}'"))?;
        self.sql("select pg_reload_conf()")?;
        // The server reads its settings some time after this request.
        wait_until(|| Ok(self.sql(&format!("show {setting}"))? == value))
            .with_context(|| format!("{setting} did not become {value}"))
    }

    /// Makes the server refuse writes, or accept them again.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub fn set_read_only(&self, read_only: bool) -> Result<()> {
        self.set("default_transaction_read_only", if read_only { "on" } else { "off" })
    }

    /// Stops the server without waiting for its clients, and starts it. Starts it if it was
    /// stopped or killed.
    ///
    /// # Errors
    /// If it does not stop or start. The message has the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Stops the server without waiting for its clients. Does nothing if it does not run.
    ///
    /// # Errors
    /// If it does not stop.
    pub fn stop(&mut self) -> Result<()> {
        self.server.stop(Signal::INT)
    }

    /// Kills the server and all its children. Does nothing if it does not run.
    ///
    /// # Errors
    /// If that fails.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Stops all processes of the server, so that clients wait.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.server.pause()
    }

    /// Lets a paused server continue.
    ///
    /// # Errors
    /// If a process cannot be continued.
    pub fn resume(&mut self) -> Result<()> {
        self.server.resume()
    }

    /// Starts the server on a port that is free now, and on another one if it is not.
    fn launch_on_free_port(&mut self) -> Result<()> {
        ports::on_free_port(ports::free, "could not bind", |port| {
            self.server.set_port(port);
            self.launch()
        })
    }

    /// Starts the server and waits until it accepts connections.
    fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(self.programs.join("postgres"));
        command
            .arg("-D")
            .arg(self.server.data())
            .args(["-p", &self.server.port().to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        let file = self.server.data().join("postmaster.pid");
        self.server.launch(command, |process| ready(&file, process))
    }
}

/// The server's shared memory, once it accepts connections.
fn ready(file: &Path, process: u32) -> Option<Ready> {
    let text = fs::read_to_string(file).ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let [id, _, _, _, _, _, memory, status] = lines.as_slice() else { return None };
    // A killed server leaves this file.
    let is_ready = *id == process.to_string() && *status == "ready";
    let memory = memory.split_whitespace().last().filter(|_| is_ready)?;
    Some(Ready { memory: Some(memory.to_owned()) })
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Without a checkpoint.
        self.server.discard(Signal::QUIT);
    }
}
