//! The machine that the figures belong to.

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

/// How many threads wanted to run in the last minute, on average; the measuring
/// counts too.
pub fn load() -> String {
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    loads.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn value_in(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system that a folder lies in.
pub fn file_system(folder: &Path) -> Result<String> {
    let folder = folder
        .canonicalize()
        .with_context(|| format!("cannot find the folder {}", folder.display()))?;
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_line = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        folder.starts_with(&point).then_some((point.len(), kind))
    };
    // The last of equals hides those before it.
    let nearest = mounts.lines().filter_map(of_line).max_by_key(|(len, _)| *len);
    Ok(nearest.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind))
}

/// Waits until what was written before is on the disk, so that the next to sync
/// does not wait for it.
pub fn settle() {
    // Where there is no such command the figures are only noisier.
    let _ = Command::new("sync").status();
}

/// What a file, or a folder with all that is in it, takes up on the disk, in
/// bytes.
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
