//! A server process and its children.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

/// How often the state of a process is read while waiting for a change.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// How long processes may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// A running server.
///
/// Its children are in process groups of their own, so a signal to all goes to each process
/// by its id. Only descendants of the process that was started here receive one.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
}

impl ServerProcess {
    /// Starts a server that the signals of a terminal do not reach.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;

        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn();
        Ok(Self { child: child.with_context(|| format!("cannot start {name}"))? })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal to the server, but not to its children.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        send(self.child.id(), signal)
    }

    /// Waits for it to end; false if it still runs after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<bool> {
        let start = Instant::now();
        while self.ended()?.is_none() {
            if start.elapsed() > limit {
                return Ok(false);
            }
            sleep(POLL);
        }
        Ok(true)
    }

    /// Stops the server and all its children, so that none of them does anything more.
    pub(crate) fn pause(&self) -> Result<()> {
        // First the server, which then starts no other children.
        self.signal(Signal::STOP)?;
        let mut stopped = BTreeSet::new();
        loop {
            let running: Vec<u32> =
                descendants(self.id())?.into_iter().filter(|id| stopped.insert(*id)).collect();
            if running.is_empty() {
                return Ok(());
            }
            running.into_iter().try_for_each(|id| send(id, Signal::STOP))?;
        }
    }

    /// Lets the server and all its children continue.
    pub(crate) fn resume(&self) -> Result<()> {
        descendants(self.id())?.into_iter().try_for_each(|id| send(id, Signal::CONT))?;
        self.signal(Signal::CONT)
    }

    /// Kills the server and all its children, and waits until all are gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.pause()?;
        let children = descendants(self.id())?;
        for id in &children {
            send(*id, Signal::KILL)?;
        }
        self.child.kill()?;
        self.child.wait()?;
        let start = Instant::now();
        while children.iter().any(|id| Stat::read(*id).is_some_and(|stat| !stat.is_zombie())) {
            if start.elapsed() > KILL_LIMIT {
                bail!("a killed server still has processes after {} s", KILL_LIMIT.as_secs());
            }
            sleep(POLL);
        }
        Ok(())
    }
}

/// Sends a signal. A process that has just ended is not an error.
fn send(id: u32, signal: Signal) -> Result<()> {
    let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else {
        bail!("{id} is not the id of a process");
    };
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot send {signal:?} to {id}")),
    }
}

/// What `/proc/ID/stat` says of a process.
struct Stat {
    parent: u32,
    state: char,
}

impl Stat {
    /// `None` if there is no such process.
    fn read(id: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name before may contain spaces and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some(Self { parent: fields.next()?.parse().ok()?, state })
    }

    /// Whether it has ended and only its parent has not noticed yet.
    fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The children of a process, and theirs.
fn descendants(ancestor: u32) -> Result<Vec<u32>> {
    let mut pairs = Vec::new();
    for entry in Path::new("/proc").read_dir().context("cannot list /proc")? {
        if let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some(stat) = Stat::read(id)
        {
            pairs.push((id, stat.parent));
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        let children = pairs.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id);
        found.extend(children.clone());
        parents.extend(children);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell with a child that has a child.
    fn family() -> (ServerProcess, Vec<u32>) {
        let script = "sh -c 'sleep 600 & wait' & wait";
        let server = ServerProcess::start(Command::new("sh").args(["-c", script])).unwrap();
        let start = Instant::now();
        loop {
            let children = descendants(server.id()).unwrap();
            if children.len() == 2 {
                return (server, children);
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{children:?}");
            sleep(POLL);
        }
    }

    fn states(ids: &[u32]) -> Vec<Option<char>> {
        ids.iter().map(|id| Stat::read(*id).map(|stat| stat.state)).collect()
    }

    #[test]
    fn a_server_is_paused_resumed_and_killed_with_its_children() {
        let (server, mut all) = family();
        all.push(server.id());
        server.pause().unwrap();
        let start = Instant::now();
        while states(&all) != [Some('T'); 3] {
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}", states(&all));
        }
        server.resume().unwrap();
        while states(&all).contains(&Some('T')) {
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}", states(&all));
        }
        server.kill().unwrap();
        assert!(all.iter().all(|id| Stat::read(*id).is_none_or(|stat| stat.is_zombie())));
    }
}
