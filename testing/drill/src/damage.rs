//! Archives with a wrong byte, and truncated ones.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::command::{Ran, StorageHost};

/// Tries to import `count` archives with one wrong byte and `count` truncated ones into a store
/// that does not exist. Each must be refused with the number of a line, and create nothing.
pub(crate) fn try_all(command: &StorageHost, archive: &Path, count: u64) -> Result<u64> {
    let bytes = fs::read(archive)?;
    ensure!(!bytes.is_empty(), "the archive is empty");
    let damaged = command.directory.join("damaged.ndjson");
    let store = command.directory.join("never.redb");
    let url = format!("redb:{}", store.display());
    let mut random = fastrand::Rng::with_seed(7);
    let mut peak = 0;
    for number in 0..2 * count {
        // Spread over the whole archive.
        let part = bytes.len() as u64 * (number / 2) / count.max(1);
        let width = (bytes.len() as u64 / count.max(1)).max(1);
        let position = (part + random.u64(0..width)).min(bytes.len() as u64 - 1) as usize;
        let mut wrong = bytes.clone();
        if number % 2 == 0 {
            if let Some(byte) = wrong.get_mut(position) {
                *byte ^= random.u8(1..=255);
            }
        } else {
            wrong.truncate(position);
        }
        fs::write(&damaged, &wrong)?;
        let path = damaged.display().to_string();
        let Ran { status, stderr, peak: own, .. } =
            command.run(&["--store", &url, "import", &path])?;
        let what = if number % 2 == 0 { "a wrong byte" } else { "truncation" };
        ensure!(status.code() == Some(1), "{what} at {position}: ended with {status}: {stderr}");
        ensure!(names_line(&stderr), "{what} at {position}: no line number: {stderr}");
        ensure!(!store.exists(), "{what} at {position}: a store was created");
        peak = peak.max(own);
    }
    Ok(peak)
}

fn names_line(message: &str) -> bool {
    message
        .split("line ")
        .skip(1)
        .any(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}
