//! Finds the programs of a server.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The directory with the programs of PostgreSQL, instead of the newest installed version.
const POSTGRES_BIN: &str = "STORAGE_TEST_POSTGRES_BIN";

/// The directory with the programs of Redis or Valkey, instead of those in `PATH`.
const REDIS_BIN: &str = "STORAGE_TEST_REDIS_BIN";

/// The names of the server, which is a sentinel too.
const REDIS: [&str; 2] = ["redis-server", "valkey-server"];

/// Where Debian installs each version of PostgreSQL, in `VERSION/bin`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The directory with the programs of PostgreSQL.
///
/// # Errors
/// If there is none. The message says what to install.
pub(crate) fn postgres() -> Result<PathBuf> {
    let has_server = |directory: &Path| {
        ["initdb", "postgres", "psql"].iter().all(|program| directory.join(program).is_file())
    };
    if let Some(chosen) = std::env::var_os(POSTGRES_BIN) {
        let chosen = PathBuf::from(chosen);
        if !has_server(&chosen) {
            bail!("{POSTGRES_BIN}: {} does not contain PostgreSQL's programs", chosen.display());
        }
        return Ok(chosen);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = newest_first(Path::new(DEBIAN)).into_iter().chain(split(&path));
    match candidates.find(|directory| has_server(directory)) {
        Some(found) => Ok(found),
        None => bail!(
            "PostgreSQL is not installed: install the package postgresql, or set {POSTGRES_BIN}"
        ),
    }
}

/// The server of Redis or Valkey.
///
/// # Errors
/// If there is none. The message says what to install.
pub(crate) fn redis() -> Result<PathBuf> {
    let server = |directory: &Path| {
        REDIS.iter().map(|name| directory.join(name)).find(|program| program.is_file())
    };
    if let Some(chosen) = std::env::var_os(REDIS_BIN) {
        let chosen = PathBuf::from(chosen);
        return match server(&chosen) {
            // The server starts in a directory of its own.
            Some(program) => Ok(std::path::absolute(program)?),
            None => {
                bail!("{REDIS_BIN}: {} contains neither {}", chosen.display(), REDIS.join(" nor "))
            }
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    match split(&path).iter().find_map(|directory| server(directory)) {
        Some(program) => Ok(program),
        None => {
            bail!("Redis is not installed: install the package redis-server, or set {REDIS_BIN}")
        }
    }
}

fn split(path: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(path).collect()
}

/// The directories of programs of all installed versions.
fn newest_first(root: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, directory)| directory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_first() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9", "15", "17", "common"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let found = newest_first(root.path());
        let expected = ["17/bin", "15/bin", "9/bin"].map(|path| root.path().join(path));
        assert_eq!(found, expected);
    }
}
