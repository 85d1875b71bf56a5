//! A server: its process, its files and its port.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::directory::ServerDirectory;
use crate::process::{POLL, ServerProcess};
use crate::user::User;

/// How long a server may take to start, which includes its recovery, and to stop.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// How long a server may take to stop at the end of a test.
const QUICK: Duration = Duration::from_secs(5);

/// A server on loopback. Its process is killed, and its files are removed, when it is dropped
/// or this process ends.
#[derive(Debug)]
pub(crate) struct Server {
    // Before the directory, so that it is dropped first.
    process: Option<ServerProcess>,
    paused: bool,
    /// The id of the shared memory that the server has, or left when it was killed.
    memory: Option<String>,
    directory: ServerDirectory,
    user: User,
    port: u16,
}

/// A server that accepts connections.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// The id of its shared memory, which stays when it is killed.
    pub(crate) memory: Option<String>,
}

impl Server {
    /// A server without files, which does not run. Its data is below `parent` if there is one.
    pub(crate) fn create(prefix: &str, parent: Option<&Path>) -> Result<Self> {
        let user = User::unprivileged()?;
        let directory = ServerDirectory::create(prefix, user, parent)?;
        let server = Self { process: None, paused: false, memory: None, directory, user, port: 0 };
        server.create_data()?;
        Ok(server)
    }

    /// Creates the empty directory for data.
    pub(crate) fn create_data(&self) -> Result<()> {
        let data = self.data();
        fs::create_dir(data).with_context(|| format!("cannot create {}", data.display()))?;
        self.user.own_alone(data)
    }

    /// The address of the server.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    /// The user whom the server runs as.
    pub(crate) fn user(&self) -> User {
        self.user
    }

    /// The directory of its files, which contains that of its data.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The directory with its data.
    pub(crate) fn data(&self) -> &Path {
        self.directory.data()
    }

    /// Whether it runs and is not paused.
    pub(crate) fn answers(&self) -> bool {
        self.process.is_some() && !self.paused
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.path().join("log")
    }

    fn open_log(&self) -> Result<File> {
        Ok(OpenOptions::new().create(true).append(true).open(self.log_path())?)
    }

    /// Starts the server and waits until `ready`, which gets the id of the process, says
    /// that it accepts connections.
    pub(crate) fn launch(
        &mut self,
        mut command: Command,
        ready: impl Fn(u32) -> Option<Ready>,
    ) -> Result<()> {
        let log = self.open_log()?;
        command.current_dir(self.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
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
            if let Some(Ready { memory }) = ready(id) {
                self.memory = memory;
                return self.directory.guard(Some(id), self.memory.as_deref());
            }
            ensure!(start.elapsed() < LIMIT, "the server did not start:\n{}", self.log());
            sleep(POLL);
        }
    }

    /// Stops the server with a signal. Does nothing if it does not run.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<()> {
        self.resume()?;
        let Some(process) = &mut self.process else { return Ok(()) };
        process.signal(signal)?;
        ensure!(process.wait(LIMIT)?, "the server did not stop:\n{}", self.log());
        self.process = None;
        self.memory = None;
        self.directory.guard(None, None)
    }

    /// Stops the server with a signal, or kills it, because its data is not needed again.
    pub(crate) fn discard(&mut self, signal: Signal) {
        let _ = self.resume();
        let Some(mut process) = self.process.take() else { return };
        let ended = process.signal(signal).and_then(|()| process.wait(QUICK));
        if !matches!(ended, Ok(true)) {
            let _ = process.kill();
        }
        // A server that failed may have left its memory.
        let _ = self.directory.guard(None, self.memory.as_deref());
    }

    /// Kills the server and all its children. Does nothing if it does not run.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.paused = false;
        let Some(process) = self.process.take() else { return Ok(()) };
        process.kill()?;
        // The shared memory of a killed server stays until it starts again.
        self.directory.guard(None, self.memory.as_deref())
    }

    /// Stops all processes of the server, so that clients wait.
    pub(crate) fn pause(&mut self) -> Result<()> {
        let process = self.process.as_ref().context("the server does not run")?;
        self.paused = true;
        process.pause()
    }

    /// Lets a paused server continue.
    pub(crate) fn resume(&mut self) -> Result<()> {
        match &self.process {
            Some(process) if std::mem::take(&mut self.paused) => process.resume(),
            _ => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Waits until a check succeeds.
///
/// # Errors
/// If the check fails, or is false for too long.
pub(crate) fn wait_until(mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !check()? {
        ensure!(start.elapsed() < LIMIT, "it took longer than {} s", LIMIT.as_secs());
        sleep(POLL);
    }
    Ok(())
}
