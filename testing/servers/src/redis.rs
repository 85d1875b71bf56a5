//! A Redis or Valkey server.

mod builder;
mod client;
mod cluster;
mod members;
mod sentinel;
mod slots;

pub use builder::RedisBuilder;
pub use cluster::RedisCluster;
pub use sentinel::RedisSentinel;
pub use slots::SlotMove;

use std::fs;
use std::io::BufReader;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::server::{Ready, Server};
use crate::user::User;
use crate::{certificate, programs};

/// The user of the tests' own commands, of replicas and of sentinels. It may do everything,
/// whatever the other users may do.
const ADMIN: &str = "test-servers";

/// How long the reply to a command may take.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// The configuration, in the server's directory.
const CONFIGURATION: &str = "redis.conf";

/// A socket without TLS, which only the server's user and root can reach.
const SOCKET: &str = "socket";

/// A Redis or Valkey server on loopback. It is killed, and its files are removed, when it is
/// dropped or this process ends.
///
/// Unless the options say otherwise it appends every write to a file before it answers, so
/// an acknowledged write survives [`kill`](Self::kill) and a restart.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// let mut server = test_servers::Redis::start()?;
/// server.command(&["set", "key", "value"])?;
/// server.kill()?;
/// server.restart()?;
/// assert_eq!(server.command(&["get", "key"])?, "value");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Redis {
    server: Server,
    program: PathBuf,
    role: Role,
    options: RedisBuilder,
}

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Single,
    /// It is a node of a cluster.
    Node,
    /// It watches other servers and has no data.
    Sentinel,
}

impl Redis {
    /// Why this machine cannot start a server, if it cannot.
    pub fn missing() -> Option<String> {
        let found = programs::redis().and_then(|_| User::unprivileged());
        found.err().map(|error| error.to_string())
    }

    /// Starts a server with the default settings.
    ///
    /// # Errors
    /// As [`RedisBuilder::start`].
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// The options of a server.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// The address of the server. It stays the same after a restart.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL of the server, with the user, the password and the certificate if it has them.
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// The URL of the server through a [`Proxy`](crate::Proxy) with this address.
    pub fn url_at(&self, address: SocketAddr) -> String {
        let scheme = if self.options.has_tls() { "rediss" } else { "redis" };
        let certificate = match self.options.has_tls() {
            true => format!("?sslrootcert={}", self.certificate().display()),
            false => String::new(),
        };
        format!("{scheme}://{}{address}{certificate}", self.options.log_in())
    }

    /// The settings of a URL of several servers with TLS.
    fn tls_settings(&self) -> String {
        match self.options.has_tls() {
            true => format!("?sslmode=verify-full&sslrootcert={}", self.certificate().display()),
            false => String::new(),
        }
    }

    /// The certificate that clients trust, in PEM, if the server has TLS.
    pub fn certificate(&self) -> PathBuf {
        self.server.path().join(certificate::CERTIFICATE)
    }

    /// The directory with the server's data.
    pub fn data(&self) -> &Path {
        self.server.data()
    }

    /// The last lines of the server's log.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Sends a command, as a user who may do everything, past any limits and TLS. Returns the
    /// values of the reply, one a line; a missing value is an empty line.
    ///
    /// # Errors
    /// If the server refuses it, or does not answer within a minute.
    pub fn command(&self, arguments: &[impl AsRef<[u8]>]) -> Result<String> {
        self.values(arguments).map(|values| lines(&values))
    }

    /// As [`command`](Self::command), with the bytes of each value.
    fn values(&self, arguments: &[impl AsRef<[u8]>]) -> Result<Vec<Vec<u8>>> {
        let socket = self.server.path().join(SOCKET);
        let admin = self.options.admin_password();
        send(&socket, admin, arguments).with_context(|| describe(arguments))
    }

    /// Sends a command as clients do, through a [`Proxy`](crate::Proxy) with this address.
    /// The server must not have TLS.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub fn command_at(
        &self,
        address: SocketAddr,
        arguments: &[impl AsRef<[u8]>],
    ) -> Result<String> {
        let stream = TcpStream::connect(address).context("the server cannot be reached")?;
        stream.set_read_timeout(Some(REPLY_LIMIT))?;
        let mut stream = BufReader::new(stream);
        if let Some((user, password)) = self.options.credentials() {
            let user = if user.is_empty() { "default" } else { user };
            client::call(&mut stream, &["auth", user, password])?;
        }
        let values = client::call(&mut stream, arguments);
        values.map(|values| lines(&values)).with_context(|| describe(arguments))
    }

    /// A field of the server's `INFO`, such as `role`.
    ///
    /// # Errors
    /// If there is no such field, or the server cannot be reached.
    pub fn info(&self, field: &str) -> Result<String> {
        let text = self.command(&["info", "everything"])?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        let value = fields.filter(|(name, _)| *name == field).map(|(_, value)| value).next();
        value.map(str::to_owned).with_context(|| format!("INFO has no field {field}"))
    }

    /// Changes a setting until the server starts again.
    ///
    /// # Errors
    /// If the server refuses it.
    pub fn set(&self, setting: &str, value: &str) -> Result<()> {
        self.command(&["config", "set", setting, value]).map(drop)
    }

    /// Stops the server and starts it. Starts it if it was stopped or killed.
    ///
    /// # Errors
    /// If it does not stop or start. The message has the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.launch()
    }

    /// Starts the server without the data that it had. It stays a member of its cluster.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub fn restart_empty(&mut self) -> Result<()> {
        self.kill()?;
        fs::remove_dir_all(self.server.data())?;
        self.server.create_data()?;
        self.launch()
    }

    /// Stops the server as its service would, which writes what is not yet on disk. Does
    /// nothing if it does not run.
    ///
    /// # Errors
    /// If it does not stop.
    pub fn stop(&mut self) -> Result<()> {
        self.server.stop(Signal::TERM)
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

    /// Starts the server and waits until it has read its data and answers.
    fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg(self.server.path().join(CONFIGURATION));
        if self.role == Role::Sentinel {
            command.arg("--sentinel");
        }
        let socket = self.server.path().join(SOCKET);
        let admin = self.options.admin_password().to_owned();
        self.server
            .launch(command, |_| send(&socket, &admin, &["ping"]).ok().map(|_| Ready::default()))
    }
}

/// Sends a command as the user of the tests.
fn send(socket: &Path, admin: &str, arguments: &[impl AsRef<[u8]>]) -> Result<Vec<Vec<u8>>> {
    let stream = UnixStream::connect(socket).context("the server cannot be reached")?;
    stream.set_read_timeout(Some(REPLY_LIMIT))?;
    let mut stream = BufReader::new(stream);
    client::call(&mut stream, &["auth", ADMIN, admin])?;
    client::call(&mut stream, arguments)
}

fn lines(values: &[Vec<u8>]) -> String {
    let lines = values.iter().map(|value| String::from_utf8_lossy(value));
    lines.collect::<Vec<_>>().join("\n")
}

/// Names a command in an error, without its values.
fn describe(arguments: &[impl AsRef<[u8]>]) -> String {
    let names = arguments.iter().take(2).map(|name| String::from_utf8_lossy(name.as_ref()));
    names.collect::<Vec<_>>().join(" ")
}
