//! Reading several keys or counters, in one round trip to each node.

use std::collections::BTreeMap;

use redis::Cmd;
use storage_core::{Revision, StorageError, StorageValue};

use super::database::{Database, command};
use super::shard::Shard;
use super::{replies, values};

/// The values of keys, in their order.
pub(super) fn values(
    database: &Database,
    keys: &[&str],
) -> Result<Vec<Option<StorageValue>>, StorageError> {
    let mut positions: BTreeMap<Shard, Vec<usize>> = BTreeMap::new();
    for (at, key) in keys.iter().enumerate() {
        positions.entry(database.shard_of_key(key)).or_default().push(at);
    }
    let read = |(shard, positions): (&Shard, &Vec<usize>)| -> (Shard, Vec<Cmd>) {
        let keys = positions.iter().filter_map(|at| keys.get(*at));
        let names = keys.map(|key| database.keys.value(*shard, key));
        (*shard, vec![command("MGET", names)])
    };
    let requests: Vec<(Shard, Vec<Cmd>)> = positions.iter().map(read).collect();
    let mut found = vec![None; keys.len()];
    let replies = database.read_shards(&requests)?.into_iter().flatten();
    for (positions, reply) in positions.into_values().zip(replies) {
        for (at, stored) in positions.into_iter().zip(replies::all_bytes(reply)?) {
            if let (Some(place), Some(key)) = (found.get_mut(at), keys.get(at)) {
                *place = stored.map(|stored| values::decode(key, &stored)).transpose()?;
            }
        }
    }
    Ok(found.into_iter().map(|one| one.map(|found| found.value)).collect())
}

/// The revisions of the last commits to components, in their order.
pub(super) fn revisions(
    database: &Database,
    prefixes: &[&str],
) -> Result<Vec<Option<Revision>>, StorageError> {
    let read = |component: &&str| {
        let name = database.keys.counter(database.shard(component), component);
        command("HGET", [name.as_str(), "revision"])
    };
    let replies = database.read_each(prefixes, |component| database.shard(component), read)?;
    replies.into_iter().map(|reply| Ok(replies::revision(&replies::text(reply)?))).collect()
}
