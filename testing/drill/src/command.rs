//! Runs the `storage-host` command, and watches its memory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// How often the memory of a process is read.
const LOOK: Duration = Duration::from_millis(20);

/// The command under test.
#[derive(Debug, Clone)]
pub(crate) struct StorageHost {
    pub(crate) program: PathBuf,
    pub(crate) directory: PathBuf,
}

/// What a run of the command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    /// The most resident memory, in KiB.
    pub(crate) peak: u64,
}

impl StorageHost {
    /// Starts it, with its output in files. Standard input is empty.
    pub(crate) fn start(&self, arguments: &[&str]) -> Result<Running> {
        let name = format!("output-{}", fastrand::u64(..));
        let (out, err) = (self.directory.join(&name), self.directory.join(name + "-errors"));
        let child = Command::new(&self.program)
            .args(arguments)
            .env_remove("STORAGE_HOST_STORE")
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let arguments = arguments.iter().map(OsString::from).collect();
        Ok(Running { child, out, err, arguments, start: Instant::now(), peak: 0 })
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Ran> {
        self.start(arguments)?.wait()
    }

    /// Runs it, and fails unless it succeeds.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> Result<Ran> {
        let ran = self.run(arguments)?;
        ensure!(ran.status.success(), "{arguments:?} failed with {}: {}", ran.status, ran.stderr);
        Ok(ran)
    }
}

/// A running command. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    arguments: Vec<OsString>,
    start: Instant,
    peak: u64,
}

impl Running {
    /// What it has printed so far.
    pub(crate) fn printed(&self) -> Result<String> {
        text(&self.out)
    }

    /// Notes its memory. Returns how it ended, if it has.
    pub(crate) fn look(&mut self) -> Result<Option<ExitStatus>> {
        self.peak = self.peak.max(peak(self.child.id()));
        Ok(self.child.try_wait()?)
    }

    /// Waits until `is_done` of its output.
    pub(crate) fn wait_until(&mut self, is_done: impl Fn(&str) -> bool) -> Result<String> {
        loop {
            let printed = self.printed()?;
            if is_done(&printed) {
                return Ok(printed);
            }
            if let Some(status) = self.look()? {
                bail!("{:?} ended with {status}: {}", self.arguments, text(&self.err)?);
            }
            thread::sleep(LOOK);
        }
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, as `kill` does.
    pub(crate) fn terminate(&self) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).context("no process id")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Result<Ran> {
        let status = loop {
            if let Some(status) = self.look()? {
                break status;
            }
            // Short commands are awaited more closely.
            thread::sleep(LOOK.min(self.start.elapsed() / 8));
        };
        let took = self.start.elapsed();
        let (stdout, stderr) = (text(&self.out)?, text(&self.err)?);
        fs::remove_file(&self.out)?;
        fs::remove_file(&self.err)?;
        Ok(Ran { status, stdout, stderr, took, peak: self.peak })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> Result<String> {
    let mut text = Vec::new();
    // Errors can be long; their beginning suffices.
    File::open(path)?.take(1 << 20).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The most resident memory of a process so far in KiB; 0 if it has ended.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
