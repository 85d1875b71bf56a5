//! Runs the workload with a fault injected into a system call, or into all later ones too.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

use crate::scratch::missing;
use crate::workload::{BEGIN_MARK, WorkArguments, command};

/// What is injected into a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Injection {
    /// SIGKILL before the call.
    Kill,
    /// EIO instead of the call.
    Io,
    /// ENOSPC instead of the call.
    Full,
}

impl Injection {
    pub(crate) const ALL: [Self; 3] = [Self::Kill, Self::Io, Self::Full];

    /// The calls into which it is injected.
    pub(crate) fn calls(self) -> impl Iterator<Item = &'static str> {
        CALLS
            .iter()
            .filter(move |(_, injections)| injections.contains(&self))
            .map(|(call, _)| *call)
    }
}

/// The calls that change a disk or read from it, and what is injected into them. Between
/// two calls with `Kill` nothing changes on a disk.
const CALLS: [(&str, &[Injection]); 14] = {
    use Injection::{Full, Io, Kill};
    [
        ("openat", &[Kill, Io, Full]),
        ("write", &[Kill, Io, Full]),
        ("pwrite64", &[Kill, Io, Full]),
        ("fsync", &[Kill, Io, Full]),
        ("fdatasync", &[Kill, Io, Full]),
        ("rename", &[Kill, Io, Full]),
        ("unlink", &[Kill, Io]),
        ("mkdir", &[Kill, Io, Full]),
        ("ftruncate", &[Kill, Io, Full]),
        ("fallocate", &[Kill, Io, Full]),
        ("flock", &[Kill]),
        ("fcntl", &[Kill]),
        ("read", &[Io]),
        ("pread64", &[Io]),
    ]
};

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "SIGKILL",
            Self::Io => "EIO",
            Self::Full => "ENOSPC",
        })
    }
}

/// One fault in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) injection: Injection,
    pub(crate) call: &'static str,
    /// The number of the call among those of its name and thread.
    pub(crate) number: usize,
    /// Whether all later calls fail too.
    pub(crate) and_later: bool,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let onwards = if self.and_later { " and all later ones" } else { "" };
        write!(f, "{} at {} {}{onwards}", self.injection, self.call, self.number)
    }
}

/// Why this machine cannot trace, if it cannot.
pub(crate) fn cannot() -> Option<String> {
    missing(&["strace"]).or_else(|| {
        let traces = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
        let works = traces.is_ok_and(|output| output.status.success());
        (!works).then(|| "strace is not allowed to trace".to_owned())
    })
}

/// The numbers of the first and last call of each kind in any thread, from the opening of
/// the store on.
pub(crate) fn count(
    arguments: &WorkArguments,
    trace: &Path,
) -> Result<BTreeMap<&'static str, (usize, usize)>> {
    let names = CALLS.map(|(call, _)| call);
    let filter = format!("trace={},statx", names.join(","));
    let status =
        run(arguments, &["-o".as_ref(), trace.as_os_str(), "-e".as_ref(), filter.as_ref()])?;
    anyhow::ensure!(status.success(), "the workload ended with {status} without an injected fault");
    let text = std::fs::read_to_string(trace)?;
    let mut counts: BTreeMap<(&str, &'static str), usize> = BTreeMap::new();
    let mut ranges: BTreeMap<&'static str, (usize, usize)> = BTreeMap::new();
    let mut begun = false;
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        begun |= call == "statx" && rest.contains(BEGIN_MARK);
        let Some(name) = names.iter().find(|name| **name == call) else { continue };
        let count = counts.entry((thread, *name)).or_default();
        *count += 1;
        if begun {
            let range = ranges.entry(*name).or_insert((*count, *count));
            *range = (range.0.min(*count), range.1.max(*count));
        }
    }
    anyhow::ensure!(begun, "the trace does not show where the work begins");
    Ok(ranges)
}

/// Runs the workload with one injected fault.
pub(crate) fn inject(arguments: &WorkArguments, point: &Point) -> Result<ExitStatus> {
    let what = match point.injection {
        Injection::Kill => "signal=SIGKILL",
        Injection::Io => "error=EIO",
        Injection::Full => "error=ENOSPC",
    };
    let onwards = if point.and_later { "+" } else { "" };
    let inject = format!("inject={}:{what}:when={}{onwards}", point.call, point.number);
    let filter = format!("trace={}", point.call);
    let mut options = vec!["-o", "/dev/null", "-e", filter.as_str(), "-e", inject.as_str()];
    if point.injection != Injection::Kill {
        // Faster, but it cannot send signals.
        options.push("--seccomp-bpf");
    }
    let options: Vec<&OsStr> = options.into_iter().map(OsStr::new).collect();
    run(arguments, &options)
}

fn run(arguments: &WorkArguments, options: &[&OsStr]) -> Result<ExitStatus> {
    let work = command("work", arguments)?;
    Command::new("strace")
        .args(["-f", "-qq"])
        .args(options)
        .arg(work.get_program())
        .args(work.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot start strace")
}
