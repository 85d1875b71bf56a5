//! The keys of one store on its servers: who is asked, and failures as errors of storage.

use std::sync::Arc;

use redis::{Cmd, Value};
use storage_core::{StorageError, split_full_key};

use super::client::Client;
use super::error::{Failure, Problem};
use super::keys::{Keys, StoreCheck};
use super::replies;
use super::script::Script;
use super::shard::Shard;

/// The servers and the keys of a store.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) client: Arc<Client>,
    pub(super) keys: Keys,
    pub(super) store_id: String,
    pub(super) read_only: bool,
}

/// A command.
pub(super) fn command<A: redis::ToRedisArgs>(
    name: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Cmd {
    let mut command = redis::cmd(name);
    for argument in arguments {
        command.arg(argument);
    }
    command
}

/// Whether a key has another type than the command needs.
pub(super) fn is_wrong_type(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Server { problem: Problem::Reply(error), .. }
            // An error in a script has it in the middle.
            if error.to_string().contains("WRONGTYPE")
    )
}

/// The error of a request that wrote nothing.
pub(super) fn failed(failure: Failure) -> StorageError {
    if is_wrong_type(&failure) {
        return StorageError::Corrupt {
            key: None,
            detail: "a key of the store has another type than the store gave it; verify the store"
                .to_owned(),
        };
    }
    failure.into_storage_error()
}

impl Database {
    /// What every connection must find.
    pub(super) fn check(&self) -> StoreCheck {
        StoreCheck { keys: self.keys.clone(), store_id: self.store_id.clone() }
    }

    pub(super) fn shard(&self, component_prefix: &str) -> Shard {
        Shard::of(component_prefix, self.client.shards())
    }

    /// The shard of the component of a full key.
    pub(super) fn shard_of_key(&self, key: &str) -> Shard {
        self.shard(split_full_key(key).0)
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = Shard> {
        Shard::all(self.client.shards())
    }

    /// Whether the store has several shards, which have no common point in time.
    pub(super) fn is_cluster(&self) -> bool {
        self.client.shards() > 1
    }

    /// Sends one command that reads.
    pub(super) fn read(&self, shard: Shard, command: Cmd) -> Result<Value, StorageError> {
        replies::next(&mut self.read_all(shard, &[command])?.into_iter())
    }

    /// Sends commands that read, in one round trip.
    pub(super) fn read_all(
        &self,
        shard: Shard,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, StorageError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.client.read(shard, commands).map_err(failed)
    }

    /// Sends commands that read to several shards, in one round trip to each node. Returns the
    /// replies in the order of the requests.
    pub(super) fn read_shards(
        &self,
        requests: &[(Shard, Vec<Cmd>)],
    ) -> Result<Vec<Vec<Value>>, StorageError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        self.client.read_shards(requests).map_err(failed)
    }

    /// Sends commands that read, one for each item, to the shards of the items, in one round
    /// trip to each node. Returns the replies in the order of the items.
    pub(super) fn read_each<T>(
        &self,
        items: &[T],
        shard_of: impl Fn(&T) -> Shard,
        command_of: impl Fn(&T) -> Cmd,
    ) -> Result<Vec<Value>, StorageError> {
        let mut order: Vec<(Shard, usize)> = items.iter().map(shard_of).zip(0..).collect();
        order.sort_unstable();
        let mut requests: Vec<(Shard, Vec<Cmd>)> = Vec::new();
        for (shard, at) in &order {
            let Some(item) = items.get(*at) else { continue };
            match requests.last_mut() {
                Some((last, commands)) if last == shard => commands.push(command_of(item)),
                _ => requests.push((*shard, vec![command_of(item)])),
            }
        }
        let mut replies: Vec<(usize, Value)> = order
            .iter()
            .map(|(_, at)| *at)
            .zip(self.read_shards(&requests)?.into_iter().flatten())
            .collect();
        if replies.len() != items.len() {
            return Err(replies::unexpected("too few replies"));
        }
        replies.sort_unstable_by_key(|(at, _)| *at);
        Ok(replies.into_iter().map(|(_, reply)| reply).collect())
    }

    /// Runs a script that changes only what the store itself needs, so a lost reply is no
    /// matter for callers. Returns the texts of its reply.
    pub(super) fn run(
        &self,
        shard: Shard,
        script: &Script,
        keys: &[String],
        arguments: &[&str],
    ) -> Result<Vec<String>, StorageError> {
        let reply = script.run(&self.client, shard, |command| {
            command.arg(keys.len()).arg(keys).arg(arguments);
        });
        let reply = match reply {
            Err(failure) => match failure.unconfirmed_reply() {
                // Replicas need not have what ends with the call.
                Some(reply) => Ok(reply.clone()),
                None => Err(failure),
            },
            reply => reply,
        };
        replies::texts(reply.map_err(failed)?)
    }

    /// The error when a shard does not have the marker of this store. From now on reads fail, too:
    /// they use new connections, which look for the store.
    pub(super) fn replaced(&self) -> StorageError {
        self.client.close_all();
        StorageError::Unavailable {
            key: None,
            detail: "the Redis server does not hold the store that was opened, because it was \
                     emptied or replaced; restore its data, or open the store again"
                .to_owned(),
        }
    }
}
