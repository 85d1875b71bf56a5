//! Finding the nodes of a cluster, and which shards they have.

use std::sync::Arc;
use std::time::Instant;

use redis::{Value, cmd};

use super::connector::Connector;
use super::deployment::RedisAddress;
use super::error::{Failure, Problem};
use super::inquiry::{Answer, Kind, ask_all, text};
use super::keys::Keys;
use super::shard::{CLUSTER_SHARDS, Shard, crc16};

/// The number of slots of every cluster.
const SLOTS: u16 = 16384;

/// What one node knows of the cluster.
pub(super) struct View {
    /// The master of each shard, by its number.
    pub(super) owners: Vec<Option<RedisAddress>>,
    /// All nodes that have slots, and their replicas.
    pub(super) nodes: Vec<RedisAddress>,
    /// Whether the node takes part in the cluster.
    is_ok: bool,
    /// Grows with each failover.
    epoch: u64,
}

/// Asks nodes which masters have the shards. Believes the first one that takes part in the
/// cluster, or else the one that knows the latest failover.
///
/// # Errors
/// Those of all nodes, if none replies.
pub(super) fn find(
    connector: &Arc<Connector>,
    nodes: &[RedisAddress],
    keys: &Keys,
    deadline: Instant,
) -> Result<View, Failure> {
    let commands = [cmd("CLUSTER").arg("INFO").take(), cmd("CLUSTER").arg("SLOTS").take()];
    let answers = ask_all(connector, Kind::Server, nodes, &commands, deadline);
    let mut best: Option<View> = None;
    let mut failures = Vec::new();
    for Answer { address, replies } in answers {
        match replies.and_then(|replies| view(&address, &replies, keys)) {
            Ok(view) => {
                let is_ok = view.is_ok;
                if best.as_ref().is_none_or(|best| view.epoch >= best.epoch) {
                    best = Some(view);
                }
                if is_ok {
                    break;
                }
            }
            Err(failure) => failures.push(failure),
        }
    }
    best.ok_or_else(|| Failure::of_many(failures, "no node of the cluster replied"))
}

pub(super) fn view(
    address: &RedisAddress,
    replies: &[Value],
    keys: &Keys,
) -> Result<View, Failure> {
    let [info, slots] = replies else {
        return Err(Failure::at(address, Problem::Unexpected("CLUSTER")));
    };
    for reply in [info, slots] {
        if let Value::ServerError(error) = reply {
            return Err(Failure::reply(address, error));
        }
    }
    let (Some(info), Value::Array(ranges)) = (text(info), slots) else {
        return Err(Failure::at(address, Problem::Unexpected("CLUSTER SLOTS")));
    };
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let ranges: Vec<_> = ranges.iter().filter_map(|range| Range::parse(range, address)).collect();
    let owner = |shard| {
        let slot = i64::from(crc16(keys.tag(shard).as_bytes()) % SLOTS);
        let range = ranges.iter().find(|range| (range.first..=range.last).contains(&slot))?;
        range.nodes.first().cloned()
    };
    Ok(View {
        owners: Shard::all(CLUSTER_SHARDS).map(owner).collect(),
        nodes: ranges.iter().flat_map(|range| &range.nodes).cloned().collect(),
        is_ok: field("cluster_state") == Some("ok"),
        epoch: field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
    })
}

/// Slots that one master has.
struct Range {
    first: i64,
    last: i64,
    /// The master, and its replicas.
    nodes: Vec<RedisAddress>,
}

impl Range {
    /// Reads a range of CLUSTER SLOTS: its first and last slot, and its nodes.
    fn parse(range: &Value, asked: &RedisAddress) -> Option<Self> {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), nodes @ ..] = range.as_slice() else {
            return None;
        };
        let node = |value: &Value| {
            let Value::Array(value) = value else { return None };
            let [host, Value::Int(port), ..] = value.as_slice() else { return None };
            Some(node(text(host), u16::try_from(*port).ok()?, asked))
        };
        let nodes = nodes.iter().map(node).collect::<Option<_>>()?;
        Some(Self { first: *first, last: *last, nodes })
    }
}

/// The address of a node as another one names it. A node that does not know its own address is
/// where it was asked.
fn node(host: Option<&str>, port: u16, asked: &RedisAddress) -> RedisAddress {
    match host {
        Some(host) if !host.is_empty() && host != "?" => RedisAddress::new(host, port),
        _ => RedisAddress::new(asked.host.clone(), port),
    }
}

/// Reads where a redirection leads: `SLOT HOST:PORT`.
pub(super) fn redirection(details: &str, asked: &RedisAddress) -> Option<RedisAddress> {
    let (_, address) = details.split_once(' ')?;
    let (host, port) = address.trim().rsplit_once(':')?;
    Some(node(Some(host), port.parse().ok()?, asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), bulk("id"), Value::Array(Vec::new())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node.clone(), node])
    }

    #[test]
    fn shards_belong_to_the_masters_of_their_slots() {
        let asked = RedisAddress::new("seed", 1);
        let info = bulk("cluster_state:ok\r\ncluster_current_epoch:7\r\n");
        let slots = Value::Array(vec![
            range(0, 8191, bulk("a"), 10),
            range(8192, 16000, Value::Nil, 11),
            Value::Nil,
        ]);
        let keys = Keys::new("apps");
        let view = view(&asked, &[info, slots], &keys).unwrap();
        assert!(view.is_ok);
        assert_eq!((view.epoch, view.owners.len()), (7, 256));
        for (shard, owner) in Shard::all(256).zip(&view.owners) {
            let expected = match crc16(keys.tag(shard).as_bytes()) % SLOTS {
                0..=8191 => Some(RedisAddress::new("a", 10)),
                8192..=16000 => Some(RedisAddress::new("seed", 11)),
                _ => None,
            };
            assert_eq!(*owner, expected, "{shard}");
        }
    }

    #[test]
    fn redirections_lead_to_nodes() {
        let asked = RedisAddress::new("asked", 1);
        for (details, host, port) in [
            ("3999 127.0.0.1:6381", "127.0.0.1", 6381),
            ("3999 ::1:6381", "::1", 6381),
            ("3999 :6381", "asked", 6381),
            ("3999 ?:6381", "asked", 6381),
            ("3999 node.example:6381", "node.example", 6381),
        ] {
            let found = redirection(details, &asked);
            assert_eq!(found, Some(RedisAddress::new(host, port)), "{details}");
        }
        for details in ["", "3999", "3999 a", "3999 a:b", "3999 a:70000"] {
            assert_eq!(redirection(details, &asked), None, "{details}");
        }
    }
}
