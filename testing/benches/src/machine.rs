//! The machine on which the figures were measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};

/// The machine, in one line.
pub fn describe() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let unknown = || "unknown".to_owned();
    let cpu = value_in("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let memory = value_in("/proc/meminfo", "MemTotal").unwrap_or_else(unknown);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| unknown());
    format!(
        "{cores} cores of {cpu} ({}), {memory} of memory, {} {}",
        std::env::consts::ARCH,
        std::env::consts::OS,
        kernel.trim()
    )
}

/// The load average of the last minute, which includes the measurement.
pub fn load() -> String {
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    loads.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn value_in(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system of a directory.
pub fn file_system(directory: &Path) -> Result<String> {
    let directory = directory
        .canonicalize()
        .with_context(|| format!("cannot find the directory {}", directory.display()))?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_line = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        directory.starts_with(&point).then_some((point.len(), kind))
    };
    // A later mount hides an earlier one.
    let nearest = mounts.lines().filter_map(of_line).max_by_key(|(len, _)| *len);
    Ok(nearest.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind))
}

/// Writes everything to the disk, so that a later sync does not wait for it.
pub fn settle() {
    // Without this command the figures are only noisier.
    let _ = Command::new("sync").status();
}

/// The bytes on disk of a file, or of a directory with its contents.
pub fn bytes_on_disk(path: &Path) -> Result<u64> {
    let metadata = path.symlink_metadata()?;
    #[cfg(unix)]
    let mut total = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    #[cfg(not(unix))]
    let mut total = metadata.len();
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            total += bytes_on_disk(&entry?.path())?;
        }
    }
    Ok(total)
}
