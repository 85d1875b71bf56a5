//! Reading several keys or counters, in one round trip to each node.

use std::collections::{BTreeMap, BTreeSet};

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

/// What is asked to find out whether components have changed.
enum Question<'p> {
    /// The revision of the last commit to this component.
    Component(&'p str),
    /// Whether a shard has the store. A server that was emptied would answer that nothing was
    /// ever written.
    Store(Shard),
}

/// The revisions of the last commits to components, in their order.
pub(super) fn revisions(
    database: &Database,
    prefixes: &[&str],
) -> Result<Vec<Option<Revision>>, StorageError> {
    let shards: BTreeSet<Shard> = prefixes.iter().map(|one| database.shard(one)).collect();
    let components = prefixes.iter().map(|component| Question::Component(component));
    let questions: Vec<Question<'_>> =
        components.chain(shards.into_iter().map(Question::Store)).collect();
    let shard = |question: &Question<'_>| match question {
        Question::Component(component) => database.shard(component),
        Question::Store(shard) => *shard,
    };
    let read = |question: &Question<'_>| match question {
        Question::Component(component) => {
            let name = database.keys.counter(database.shard(component), component);
            command("HGET", [name.as_str(), "revision"])
        }
        Question::Store(shard) => store_id(database, *shard),
    };
    let replies = database.read_each(&questions, shard, read)?.into_iter();
    let mut texts = replies.map(replies::text).collect::<Result<Vec<_>, _>>()?;
    let store_ids = texts.split_off(prefixes.len().min(texts.len()));
    if store_ids.iter().any(|found| *found != database.store_id) {
        return Err(database.replaced());
    }
    Ok(texts.iter().map(|text| replies::revision(text)).collect())
}

fn store_id(database: &Database, shard: Shard) -> Cmd {
    command("HGET", [&*database.keys.store(shard), "store_id"])
}

/// Looks for the store in one shard of each server: a server loses all of its shards together.
///
/// # Errors
/// If a server does not have it. From then on reads fail, too.
pub(super) fn check_identity(database: &Database) -> Result<(), StorageError> {
    let router = database.client.router();
    let owners = router.owners();
    let first = owners.iter().filter_map(|node| router.shards_of(node).first().copied());
    let requests: Vec<(Shard, Vec<Cmd>)> =
        first.map(|shard| (shard, vec![store_id(database, shard)])).collect();
    for reply in database.read_shards(&requests)?.into_iter().flatten() {
        if replies::text(reply)? != database.store_id {
            return Err(database.replaced());
        }
    }
    Ok(())
}
