//! The options of a PostgreSQL server, and its creation.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{NAME, Postgres};
use crate::certificate::Certificate;
use crate::programs;
use crate::server::Server;

/// Settings of every server, before those of the test. Nothing stays outside of the data
/// directory: POSIX shared memory of a killed server would.
const SETTINGS: &str = "\
dynamic_shared_memory_type = mmap
max_wal_senders = 10
wal_keep_size = 64MB
max_wal_size = 128MB
timezone = UTC
";

/// The settings of a server with a certificate. The names of its files are the defaults.
const TLS: &str = "ssl = on\n";

/// Whether connections to a server are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// The server refuses TLS.
    #[default]
    Off,
    /// Clients choose.
    Offered,
    /// The server refuses connections without TLS.
    Required,
}

/// The options of a PostgreSQL server.
#[derive(Debug, Clone, Default)]
pub struct PostgresBuilder {
    password: Option<String>,
    tls: Tls,
    settings: Vec<(String, String)>,
    directory: Option<PathBuf>,
    tmpfs: Option<String>,
}

impl PostgresBuilder {
    /// Requires this password (SCRAM). Without a password the server trusts every client.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Whether connections are encrypted. The certificate is self-signed, for `localhost`
    /// and `127.0.0.1`.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// A setting of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps the data in a new directory below this one, such as the root of a small file
    /// system. The server's user must be able to reach it.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Keeps the data on a tmpfs of this size, such as `96m`. Needs root. A new server takes
    /// about 60 MB; [`Postgres::resize`] gives it more.
    #[must_use]
    pub fn tmpfs(mut self, size: &str) -> Self {
        self.tmpfs = Some(size.to_owned());
        self
    }

    /// Creates the data directory and starts the server.
    ///
    /// # Errors
    /// If PostgreSQL is not installed ([`Postgres::missing`]) or does not start.
    pub fn start(self) -> Result<Postgres> {
        let mut server = Postgres::prepare(self.directory.as_deref(), self.password.clone())?;
        if let Some(size) = &self.tmpfs {
            server.mount("size", size)?;
        }
        self.initialize(&server)?;
        server.launch_on_free_port()?;
        Ok(server)
    }

    fn initialize(&self, server: &Postgres) -> Result<()> {
        let mut command = Command::new(server.programs.join("initdb"));
        command.arg("--pgdata").arg(server.data()).args([
            "--username",
            NAME,
            "--encoding",
            "UTF8",
            "--locale",
            "C",
        ]);
        if let Some(password) = &self.password {
            let file = server.server.path().join("password");
            fs::write(&file, password)?;
            server.server.user().own_alone(&file)?;
            command.args(["--auth", "scram-sha-256", "--pwfile"]).arg(file);
        } else {
            command.args(["--auth", "trust"]);
        }
        server.run(command.arg("--no-sync"))?;
        if self.tls != Tls::Off {
            Certificate::create()?.write(server.data(), server.server.user())?;
        }
        fs::write(server.data().join("pg_hba.conf"), self.access())?;
        let mut file =
            OpenOptions::new().append(true).open(server.data().join("postgresql.conf"))?;
        file.write_all(self.configuration().as_bytes())?;
        if self.directory.is_some() {
            // A server on a file system of its own may have to survive a power cut.
            server.run(Command::new("sync").arg("--file-system").arg(server.data()))?;
        }
        Ok(())
    }

    /// The text of `pg_hba.conf`: who may connect, and how.
    fn access(&self) -> String {
        let kind = match self.tls {
            Tls::Off | Tls::Offered => "host",
            Tls::Required => "hostssl",
        };
        let method = if self.password.is_some() { "scram-sha-256" } else { "trust" };
        format!(
            "{kind} all all 127.0.0.1/32 {method}\n{kind} replication all 127.0.0.1/32 {method}\n"
        )
    }

    /// What is added to `postgresql.conf`. The last value of a setting counts.
    fn configuration(&self) -> String {
        let mut text = SETTINGS.to_owned();
        if self.tls != Tls::Off {
            text.push_str(TLS);
        }
        for (name, value) in &self.settings {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        text
    }
}

impl Postgres {
    /// A server without data, which does not run.
    pub(super) fn prepare(parent: Option<&Path>, password: Option<String>) -> Result<Self> {
        let programs = programs::postgres()?;
        let server = Server::create("test-postgres-", parent)?;
        Ok(Self { server, programs, password })
    }

    /// Gives a server on a tmpfs another amount of space.
    ///
    /// # Errors
    /// If its data is not on a tmpfs.
    pub fn resize(&self, size: &str) -> Result<()> {
        self.mount("remount,size", size)
    }

    fn mount(&self, option: &str, size: &str) -> Result<()> {
        let option = format!("{option}={size}");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(self.server.data());
        let output = command.stdin(Stdio::null()).output().context("cannot start mount")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mount {option}: {errors}");
        self.server.user().own_alone(self.server.data())
    }

    /// Runs a program of PostgreSQL as the server's user.
    pub(super) fn run(&self, command: &mut Command) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.current_dir(self.server.path()).stdin(Stdio::null());
        self.server.user().run(command);
        let output = command.output().with_context(|| format!("cannot start {name}"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} ended with {}: {errors}", output.status);
        Ok(())
    }
}
