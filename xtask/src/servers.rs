//! Database servers for tests: installed if they are missing, and started for the steps that
//! use them.

mod postgres;
mod redis;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::rocksdb::Variables;
use crate::workspace::cargo;

pub(crate) use postgres::POSTGRES;
pub(crate) use redis::REDIS;

/// A kind of server.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// The feature of the store, which is also what mutants need.
    pub(crate) feature: &'static str,
    /// What the program `test-servers` is to start.
    options: &'static [&'static str],
    /// The variables in which tests find the URLs, in the order in which the program prints
    /// them.
    variables: &'static [&'static str],
    /// The arguments of cargo for the steps that use the servers.
    pub(crate) steps: &'static [&'static str],
    install: fn() -> Result<()>,
}

/// Every kind of server, in the order of their steps.
pub(crate) const ENGINES: [&Engine; 2] = [&POSTGRES, &REDIS];

impl Engine {
    /// Installs the server as root on Debian if it is missing. Starts none.
    ///
    /// # Errors
    /// If it is missing and cannot be installed. The message contains the command to run.
    pub(crate) fn install(&self) -> Result<()> {
        (self.install)()
    }

    /// Builds the program that starts the servers, and starts them.
    ///
    /// # Errors
    /// If they do not start.
    pub(crate) fn start(&self, root: &Path) -> Result<Servers> {
        let mut command = cargo(root);
        command.args(["run", "--quiet", "--package", "test-servers", "--"]).args(self.options);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("the test servers have no output")?;
        // From here on the servers stop if this fails.
        let mut servers = Servers { child, variables: Variables::new() };
        let mut lines = BufReader::new(output).lines();
        for name in self.variables {
            let line = lines.next().transpose()?.unwrap_or_default();
            match line.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                Some(url) => servers.variables.push((name, url.to_owned())),
                None => bail!("{} did not start", self.name),
            }
        }
        Ok(servers)
    }

    /// The command that repeats a step with servers of its own.
    pub(crate) fn repeat(&self, arguments: &str) -> String {
        let options = self.options.join(" ");
        format!("cargo run --package test-servers -- {options} cargo {arguments}")
    }
}

/// Servers that run until this value is dropped, or this program ends.
pub(crate) struct Servers {
    child: Child,
    variables: Variables,
}

impl Servers {
    /// The URL of the first server, for a store.
    pub(crate) fn url(&self) -> &str {
        self.variables.first().map(|(_, url)| url.as_str()).unwrap_or_default()
    }

    /// The variables for a step with these servers.
    pub(crate) fn variables(&self) -> Variables {
        self.variables.clone()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The servers stop at the end of the program's input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn servers_run_until_they_are_dropped() {
        for engine in ENGINES {
            if let Err(reason) = engine.install() {
                println!("SKIPPED: {reason}");
                continue;
            }
            let servers = engine.start(&crate::workspace::root().unwrap()).unwrap();
            let variables = servers.variables();
            assert_eq!(variables.len(), engine.variables.len());
            let first_address = |url: &str| {
                let (_, rest) = url.split_once("://").unwrap();
                let rest = rest.rsplit('@').next().unwrap();
                rest.split(['/', ',', '?']).next().unwrap().to_owned()
            };
            let addresses: Vec<String> =
                variables.iter().map(|(_, url)| first_address(url)).collect();
            assert!(addresses.iter().all(|address| TcpStream::connect(address).is_ok()));
            drop(servers);
            assert!(addresses.iter().all(|address| TcpStream::connect(address).is_err()));
        }
    }
}
