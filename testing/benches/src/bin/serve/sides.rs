//! What is measured: servers, and requests to them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::load::{Asked, Mix};
use crate::server::Server;

/// The component of the guestbook, and of the responder.
const ID: &str = "bench/serve/1";

/// A server with a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `storage-host serve` with the responder.
    Ours,
    /// `wasmtime serve` with the responder.
    Wasmtime,
    /// `storage-host serve` with the guestbook over redb, whose writes wait for the disk.
    Book,
    /// The same, but the last 100 ms of writes can be lost.
    Relaxed,
}

/// Requests to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) mix: Mix,
}

/// Every side, in the order of the turns.
pub(crate) const SIDES: [Side; 6] = [
    Side { name: "no storage calls", kind: Kind::Ours, mix: |_| Asked::Target },
    Side {
        name: "no storage calls, `wasmtime serve`",
        kind: Kind::Wasmtime,
        mix: |_| Asked::Target,
    },
    Side { name: "a page of 20 entries", kind: Kind::Book, mix: |_| Asked::Page },
    Side { name: "a new entry, redb", kind: Kind::Book, mix: |_| Asked::Entry },
    Side { name: "a new entry, redb relaxed", kind: Kind::Relaxed, mix: |_| Asked::Entry },
    Side { name: "80 % pages, 20 % new entries, redb", kind: Kind::Book, mix: mixed },
];

fn mixed(number: usize) -> Asked {
    if number.is_multiple_of(5) { Asked::Entry } else { Asked::Page }
}

/// Where the programs and components are.
pub(crate) struct Programs<'a> {
    pub(crate) storage_host: &'a Path,
    pub(crate) wasmtime: &'a Path,
    pub(crate) guests: &'a Path,
}

impl Programs<'_> {
    /// Starts a server, with its store in `directory`.
    pub(crate) fn start(&self, kind: Kind, directory: &Path) -> Result<Server> {
        let command = match kind {
            Kind::Ours => self.serve("memory:", "responder.wasm"),
            Kind::Book => self.serve(&redb(directory, "book", ""), "guestbook.wasm"),
            Kind::Relaxed => {
                self.serve(&redb(directory, "relaxed", "?durability=relaxed"), "guestbook.wasm")
            }
            Kind::Wasmtime => {
                let mut command = Command::new(self.wasmtime);
                // The interfaces that the component imports.
                command.args(["serve", "--addr", "127.0.0.1:0", "-S", "cli,keyvalue"]);
                command.arg(self.guest("responder.wasm"));
                command
            }
        };
        Server::start(command, directory)
    }

    fn serve(&self, store: &str, guest: &str) -> Command {
        let mut command = Command::new(self.storage_host);
        command.env_remove("STORAGE_HOST_STORE").env_remove("STORAGE_HOST_LOG");
        command.args(["--store", store, "serve", "--listen", "127.0.0.1:0", "--id", ID]);
        command.arg(self.guest(guest));
        command
    }

    fn guest(&self, name: &str) -> PathBuf {
        self.guests.join(name)
    }

    /// The version of `wasmtime`.
    ///
    /// # Errors
    /// If there is no such program.
    pub(crate) fn wasmtime_version(&self) -> Result<String> {
        let program = self.wasmtime.display();
        let output = Command::new(self.wasmtime).arg("--version").output();
        let output = output.with_context(|| format!("cannot start {program}"))?;
        if !output.status.success() {
            bail!("{program} --version ended with {}", output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn redb(directory: &Path, name: &str, options: &str) -> String {
    format!("redb:{}{options}", directory.join(name).with_extension("redb").display())
}
