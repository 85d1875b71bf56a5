//! Scripts that the servers run.

use std::sync::OnceLock;

use redis::{Cmd, ServerErrorKind, Value};

use super::client::Client;
use super::error::Failure;
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

    /// Gives the script to the server of a shard, so that the first run need not.
    pub(super) fn prepare(&self, client: &Client, shard: Shard) -> Result<(), Failure> {
        self.load(client, shard).map(drop)
    }

    /// Runs the script. `add_arguments` adds the number of keys, the keys and the arguments.
    /// One round trip, unless the server does not have the script yet.
    pub(super) fn run(
        &self,
        client: &Client,
        shard: Shard,
        add_arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, Failure> {
        let hash = match self.hash.get() {
            Some(hash) => hash,
            None => self.load(client, shard)?,
        };
        let mut command = redis::cmd("EVALSHA");
        command.arg(hash);
        add_arguments(&mut command);
        let reply = client.write(shard, &command)?;
        if !is_unknown_script(&reply) {
            return Ok(reply);
        }
        // The server has run nothing.
        self.load(client, shard)?;
        let reply = client.write(shard, &command)?;
        match &reply {
            Value::ServerError(error) => Err(client.failure(shard, error)),
            _ => Ok(reply),
        }
    }

    /// Gives the script to the server of a shard. Returns its hash.
    fn load(&self, client: &Client, shard: Shard) -> Result<&str, Failure> {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(self.text);
        let mut replies = client.read(shard, &[load])?;
        match replies.pop() {
            Some(Value::BulkString(hash)) => {
                let hash = String::from_utf8_lossy(&hash).into_owned();
                Ok(self.hash.get_or_init(|| hash))
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
