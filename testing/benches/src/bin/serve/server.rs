//! The servers, each a process of its own on a free port of the loopback interface.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often the output of a server that starts is read.
const LOOK: Duration = Duration::from_millis(20);

/// How long a server may compile its component.
const START: Duration = Duration::from_secs(60);

/// A running server. It is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server, and waits until it prints its address. Its output is a file in
    /// `directory`.
    pub(crate) fn start(mut command: Command, directory: &Path) -> Result<Self> {
        let output = directory.join(format!("output-{}", fastrand::u64(..)));
        let file = File::create(&output)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().display().to_string();
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        // Dropped, and so killed, if it does not start.
        let mut server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let begun = Instant::now();
        loop {
            let printed = fs::read_to_string(&output)?;
            if let Some(address) = address_in(&printed) {
                server.address = address;
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!("{program} ended with {status}: {}", printed.trim_end());
            }
            if begun.elapsed() > START {
                bail!("{program} does not listen after {} s", START.as_secs());
            }
            thread::sleep(LOOK);
        }
    }

    /// The processor time that it has used. Its resolution is a clock tick, usually 10 ms.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let ticks =
            ticks_in(&stat).with_context(|| format!("unexpected /proc/PID/stat: {stat}"))?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// Its resident memory, now and at most, in MiB.
    pub(crate) fn memory(&self) -> Result<[u64; 2]> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        match (of("VmRSS:"), of("VmHWM:")) {
            (Some(now), Some(most)) => Ok([now >> 10, most >> 10]),
            _ => bail!("/proc/PID/status has no VmRSS"),
        }
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no process id")?, Signal::TERM)?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a line that ends in `http://ADDRESS` or `http://ADDRESS/`.
fn address_in(printed: &str) -> Option<SocketAddr> {
    // The last line may be incomplete.
    let mut lines = printed.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.find_map(|line| {
        let (_, address) = line.trim_end().split_once("http://")?;
        address.trim_end_matches('/').parse().ok()
    })
}

/// The fields `utime` and `stime` of a line of `/proc/PID/stat`.
fn ticks_in(stat: &str) -> Option<u64> {
    // The second field, a name in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_a_complete_line() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 4_711)));
        assert_eq!(address_in("serving http://127.0.0.1:4711\n  / a/b/c\n"), address);
        assert_eq!(address_in("note\nServing HTTP on http://127.0.0.1:4711/\n"), address);
        assert_eq!(address_in("serving http://127.0.0.1:47"), None);
    }

    #[test]
    fn user_and_system_time_are_added() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0";
        assert_eq!(ticks_in(stat), Some(42));
    }
}
