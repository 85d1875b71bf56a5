//! Scripts that the servers run.

use std::sync::{Arc, OnceLock};

use redis::{Cmd, ServerErrorKind, Value};

use super::client::Client;
use super::error::Failure;
use super::part::Part;
use super::shard::Shard;

/// A script. A server keeps it until it restarts, and is asked to run it by its hash.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    /// As a server computed it.
    hash: OnceLock<String>,
}

impl Script {
    pub(super) const fn new(text: &'static str) -> Self {
        Self { text, hash: OnceLock::new() }
    }

    /// The hash, or `""` before a server has the script.
    pub(super) fn hash(&self) -> &str {
        self.hash.get().map_or("", String::as_str)
    }

    /// Runs the script. `add_arguments` adds the number of keys, the keys and the arguments.
    /// One round trip, unless the server does not have the script yet.
    pub(super) fn run(
        &self,
        client: &Client,
        shard: Shard,
        add_arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, Failure> {
        if self.hash.get().is_none() {
            self.load(client, shard)?;
        }
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.hash());
        add_arguments(&mut command);
        self.run_again_if_unknown(client, shard, || client.write(shard, &command))
    }

    /// Runs the script for a part, and for those of other callers that wait. One round trip,
    /// unless the server does not have the script yet.
    pub(super) fn run_part(
        &self,
        client: &Client,
        shard: Shard,
        part: &Arc<Part>,
    ) -> Result<Value, Failure> {
        self.run_again_if_unknown(client, shard, || client.write_part(shard, part))
    }

    fn run_again_if_unknown(
        &self,
        client: &Client,
        shard: Shard,
        run: impl Fn() -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let reply = run()?;
        if !is_unknown_script(&reply) {
            return Ok(reply);
        }
        // The server has run nothing.
        self.load(client, shard)?;
        let reply = run()?;
        match &reply {
            Value::ServerError(error) => Err(client.failure(shard, error)),
            _ => Ok(reply),
        }
    }

    /// Gives the script to the server of a shard, which replies with its hash.
    pub(super) fn load(&self, client: &Client, shard: Shard) -> Result<(), Failure> {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(self.text);
        let mut replies = client.read(shard, &[load])?;
        match replies.pop() {
            Some(Value::BulkString(hash)) => {
                self.hash.get_or_init(|| String::from_utf8_lossy(&hash).into_owned());
                Ok(())
            }
            _ => Err(super::replies::unexpected("no hash of a script").into()),
        }
    }
}

fn is_unknown_script(reply: &Value) -> bool {
    matches!(
        reply,
        Value::ServerError(error) if error.kind() == Some(ServerErrorKind::NoScript)
    )
}
