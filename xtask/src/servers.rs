//! PostgreSQL for tests: installed if it is missing, and started for the steps that use it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::packages;
use crate::rocksdb::Variables;
use crate::workspace::cargo;

/// The variable in which tests find the URL of a server.
const URL: &str = "STORAGE_TEST_POSTGRES_URL";

/// The directory with PostgreSQL's programs, if the user chooses one.
const PROGRAMS: &str = "STORAGE_TEST_POSTGRES_BIN";

/// The arguments of cargo for the steps with PostgreSQL. The tests of the host that need a
/// server have its name. The durability suite starts servers of its own.
pub(crate) const STEPS: [&str; 5] = [
    "test --package storage-backends --features postgres --lib postgres",
    "test --package storage-backends --features postgres --test postgres",
    "test --package storage-host --features postgres postgres",
    "clippy --package durability --features postgres --all-targets -- -D warnings",
    "run --package durability --features postgres -- --short --engine postgres",
];

/// Where Debian installs each version of the server.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Settings for the server that Debian's package creates when it is installed first.
const SETTINGS: &str = "/etc/postgresql-common/createcluster.d";

/// Installs PostgreSQL as root on Debian if it is missing. Does not start a server.
///
/// # Errors
/// If it is missing and cannot be installed. The message contains the command to run.
pub(crate) fn install() -> Result<()> {
    let mut versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let found = std::env::var_os(PROGRAMS).is_some()
        || packages::is_installed("initdb")
        || versions.any(|version| version.path().join("bin/initdb").is_file());
    if found {
        return Ok(());
    }
    if !packages::can_install() {
        // Fails with the command to run.
        return packages::install(&["postgresql"]);
    }
    // Tests start their own servers. The directory stays, as a part of the package.
    fs::create_dir_all(SETTINGS)?;
    let settings = Path::new(SETTINGS).join("xtask.conf");
    fs::write(&settings, "create_main_cluster = false\n")?;
    let result = packages::install(&["postgresql"]);
    fs::remove_file(&settings)?;
    result
}

/// A server that runs until this value is dropped, or this program ends.
pub(crate) struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Builds the program that starts a server, and starts one.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start(root: &Path) -> Result<Self> {
        let mut command = cargo(root);
        command.args(["run", "--quiet", "--package", "test-servers"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("the test server has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        match line.trim_end().strip_prefix(URL).and_then(|rest| rest.strip_prefix('=')) {
            Some(url) => Ok(Self { url: url.to_owned(), child }),
            None => bail!("the test server did not start: {}", child.wait()?),
        }
    }

    /// The URL of a database of the server, for a store.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The variables for a step with this server.
    pub(crate) fn variables(&self) -> Variables {
        vec![(URL, self.url.clone())]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server stops at the end of its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The command that repeats a step with a server of its own.
pub(crate) fn repeat(arguments: &str) -> String {
    format!("cargo run --package test-servers -- cargo {arguments}")
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_server_runs_until_it_is_dropped() {
        if let Err(reason) = install() {
            println!("SKIPPED: {reason}");
            return;
        }
        let server = Server::start(&crate::workspace::root().unwrap()).unwrap();
        let (_, address) = server.url.split_once('@').unwrap();
        let address = address.split('/').next().unwrap().to_owned();
        assert!(TcpStream::connect(&address).is_ok());
        drop(server);
        assert!(TcpStream::connect(&address).is_err());
    }
}
