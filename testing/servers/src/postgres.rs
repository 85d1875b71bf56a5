//! A PostgreSQL server.

mod builder;
mod certificate;
mod standby;

pub use builder::{PostgresBuilder, Tls};

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::directory::ServerDirectory;
use crate::ports;
use crate::process::{POLL, ServerProcess};
use crate::programs;
use crate::user::User;

/// The user and the database of every server.
const NAME: &str = "postgres";

/// How long the server may take to start, which includes its recovery, and to stop.
const LIMIT: Duration = Duration::from_secs(120);

/// How long a server may take to stop at the end of a test.
const QUICK: Duration = Duration::from_secs(5);

/// How many ports are tried. Another program may take a free port first.
const PORT_TRIES: u32 = 5;

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
    // Before the directory, so that it is dropped first.
    process: Option<ServerProcess>,
    paused: bool,
    /// The id of the shared memory that the server has, or left when it was killed.
    memory: Option<String>,
    directory: ServerDirectory,
    data: PathBuf,
    programs: PathBuf,
    user: User,
    port: u16,
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
        (Ipv4Addr::LOCALHOST, self.port).into()
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
        self.data.join(certificate::CERTIFICATE)
    }

    /// The directory with the server's data.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The last lines of the server's log.
    pub fn log(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
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
        let start = Instant::now();
        while self.sql(&format!("show {setting}"))? != value {
            ensure!(start.elapsed() < LIMIT, "{setting} did not become {value}");
            sleep(POLL);
        }
        Ok(())
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
        self.resume()?;
        let Some(process) = &mut self.process else { return Ok(()) };
        process.signal(Signal::INT)?;
        ensure!(process.wait(LIMIT)?, "the server did not stop:\n{}", self.log());
        self.process = None;
        self.memory = None;
        self.directory.guard(None, None)
    }

    /// Kills the server and all its children. Does nothing if it does not run.
    ///
    /// # Errors
    /// If that fails.
    pub fn kill(&mut self) -> Result<()> {
        self.paused = false;
        let Some(process) = self.process.take() else { return Ok(()) };
        process.kill()?;
        // The shared memory of a killed server stays until it starts again.
        self.directory.guard(None, self.memory.as_deref())
    }

    /// Stops all processes of the server, so that clients wait.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&mut self) -> Result<()> {
        let process = self.process.as_ref().context("the server does not run")?;
        self.paused = true;
        process.pause()
    }

    /// Lets a paused server continue.
    ///
    /// # Errors
    /// If a process cannot be continued.
    pub fn resume(&mut self) -> Result<()> {
        match &self.process {
            Some(process) if std::mem::take(&mut self.paused) => process.resume(),
            _ => Ok(()),
        }
    }

    /// Starts the server on a port that is free now, and on another one if it is not.
    fn launch_on_free_port(&mut self) -> Result<()> {
        let mut tries = 0;
        loop {
            self.port = ports::free()?;
            tries += 1;
            match self.launch() {
                Err(_) if tries < PORT_TRIES && self.log().contains("could not bind") => {}
                result => return result,
            }
        }
    }

    /// Starts the server and waits until it accepts connections.
    fn launch(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(self.programs.join("postgres"));
        command
            .arg("-D")
            .arg(&self.data)
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.user.run(&mut command);
        let process = self.process.insert(ServerProcess::start(&mut command)?);
        let id = process.id();
        self.directory.guard(Some(id), self.memory.as_deref())?;
        let start = Instant::now();
        loop {
            let process = self.process.as_mut().context("the server does not run")?;
            if let Some(status) = process.ended()? {
                self.process = None;
                self.directory.guard(None, self.memory.as_deref())?;
                bail!("the server ended with {status}:\n{}", self.log());
            }
            if let Some(memory) = self.ready(id) {
                self.memory = Some(memory);
                return self.directory.guard(Some(id), self.memory.as_deref());
            }
            ensure!(start.elapsed() < LIMIT, "the server did not start:\n{}", self.log());
            sleep(POLL);
        }
    }

    /// The id of the server's shared memory, once it accepts connections.
    fn ready(&self, process: u32) -> Option<String> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let [id, _, _, _, _, _, memory, status] = lines.as_slice() else { return None };
        // A killed server leaves this file.
        let is_ready = *id == process.to_string() && *status == "ready";
        is_ready.then(|| memory.split_whitespace().last().map(str::to_owned)).flatten()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.resume();
        let Some(mut process) = self.process.take() else { return };
        // Without a checkpoint: the data is not needed again.
        let ended = process.signal(Signal::QUIT).and_then(|()| process.wait(QUICK));
        if !matches!(ended, Ok(true)) {
            let _ = process.kill();
        }
        // A server that failed may have left its memory.
        let _ = self.directory.guard(None, self.memory.as_deref());
    }
}
