//! `serve`: a server in a process of its own, and clients that behave well and badly.

mod admin;
mod client;
mod ending;
mod guestbook;
mod hostile;
mod limits;
mod load;
mod outgoing;
#[cfg(feature = "redis")]
mod redis;
mod requests;
mod secrets;
mod watching;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use self::client::{Answer, ask};
use crate::support::TestDir;

/// A running server.
struct Server {
    child: Child,
    address: SocketAddr,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts `serve` with these arguments on a free port.
    fn start(dir: &TestDir, args: &[&str]) -> Self {
        Self::of(dir.command(&[&["--quiet", "serve", "--listen", "127.0.0.1:0"], args].concat()))
    }

    /// Serves the components of a manifest over a store in `data.redb`.
    fn of_manifest(dir: &TestDir, manifest: &str) -> Self {
        dir.file("storage.toml", format!("store = 'redb:data.redb'\n{manifest}").as_bytes());
        Self::start(dir, &["--config", "storage.toml"])
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(address) = line.trim_end().strip_prefix("serving http://") else {
            panic!(
                "{line:?} {}",
                String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr)
            );
        };
        Self { child, address: address.parse().unwrap(), stdout }
    }

    fn get(&self, path: &str) -> Answer {
        ask(self.address, "GET", path, &[], b"")
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        ask(self.address, "POST", path, &[], body)
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Ends it, and returns what it wrote to standard error.
    fn stop(self) -> String {
        self.signal("TERM");
        self.ended(143)
    }

    /// Waits until it has ended with this exit code.
    #[track_caller]
    fn ended(mut self, code: i32) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        // One that a signal ended has no exit code.
        assert_eq!(output.status.code().unwrap_or(-1), code, "{} {said}", output.status);
        said
    }
}

/// A component of a manifest, with a route to a path.
fn component(id: &str, guest: &str, path: &str) -> String {
    let wasm = crate::support::guest(guest);
    format!("[[component]]\nid = '{id}'\nwasm = '{wasm}'\nroutes = [{{ path = '{path}' }}]\n")
}

/// The responder, with a route to all paths and these settings.
fn responder(http: &str) -> String {
    format!("[http]\n{http}\n{}", component("a/responder/1", "responder", "/"))
}
