//! Reading several shards at the same time: one round trip to each server.
//!
//! A server that hangs must not keep the connections to the others from other calls. So the
//! replies are received as they come. A server whose connections are all in use is asked after
//! the others, when the connections to them are free again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::client::{Client, first_error};
use super::error::{Failure, Problem};
use super::pool::{Lease, Node};
use super::shard::Shard;

/// How long a connection is waited for while others are held.
const FOR_CONNECTION: Duration = Duration::from_millis(200);

/// How long the reply of one server is waited for before looking at those of the others.
const FOR_REPLY: Duration = Duration::from_millis(20);

/// Commands for several shards.
pub(super) type Requests = [(Shard, Vec<Cmd>)];

/// The requests for one server.
struct Group {
    node: Arc<Node>,
    first: Shard,
    /// The positions of the requests.
    indexes: Vec<usize>,
}

impl Group {
    /// Takes a connection within a time, and sends the requests.
    fn send(
        &self,
        client: &Client,
        requests: &Requests,
        within: Instant,
        deadline: Instant,
    ) -> Result<Lease<'_>, Failure> {
        let mut lease = self.node.lease(within, &client.confirm(&self.node, within))?;
        let own = self.indexes.iter().filter_map(|index| requests.get(*index));
        match lease.send(client.reply_deadline(deadline), own.flat_map(|(_, commands)| commands)) {
            Ok(()) => Ok(lease),
            Err(failed) => {
                close(&mut lease, &failed.problem);
                Err(Failure::at(&self.node.address, failed.problem))
            }
        }
    }

    /// Receives the replies. Leaves out those of shards with an error.
    fn receive(
        &self,
        mut lease: Lease<'_>,
        deadline: Instant,
        requests: &Requests,
        replies: &mut [Option<Vec<Value>>],
    ) -> Result<(), Problem> {
        let received = lease.receive(deadline).inspect_err(|problem| close(&mut lease, problem))?;
        let mut received = received.into_iter();
        for index in &self.indexes {
            let Some((_, commands)) = requests.get(*index) else { continue };
            let reply: Vec<Value> = received.by_ref().take(commands.len()).collect();
            if let Some(place) = replies.get_mut(*index)
                && first_error(&reply).is_none()
            {
                *place = Some(reply);
            }
        }
        Ok(())
    }
}

/// Closes the connections to a server that has closed one or does not reply. It may no longer be
/// the primary.
fn close(lease: &mut Lease<'_>, problem: &Problem) {
    if matches!(problem, Problem::Lost(_) | Problem::NoReply(_)) {
        lease.close_older();
    }
}

/// Fills in the replies of the servers that have no problem. If one has, looks for the servers
/// again, so that the next attempt need not find the problem itself.
pub(super) fn read(
    client: &Client,
    deadline: Instant,
    requests: &Requests,
    replies: &mut [Option<Vec<Value>>],
) {
    let groups = groups(client, requests);
    let (mut sent, mut late, mut failed) = (VecDeque::new(), Vec::new(), Vec::new());
    for group in &groups {
        let within = deadline.min(Instant::now() + FOR_CONNECTION);
        match group.send(client, requests, within, deadline) {
            Ok(lease) => sent.push_back((group, lease)),
            Err(_) => late.push(group),
        }
    }
    let reply_deadline = client.reply_deadline(deadline);
    while let Some((group, mut lease)) = sent.pop_front() {
        let is_last = sent.is_empty();
        if !is_last && Instant::now() < reply_deadline && !lease.has_reply_within(FOR_REPLY) {
            sent.push_back((group, lease));
        } else if group.receive(lease, reply_deadline, requests, replies).is_err() {
            failed.push(group);
        }
    }
    for group in late {
        let sent = group.send(client, requests, deadline, deadline).ok();
        let reply_deadline = client.reply_deadline(deadline);
        let received = sent.map(|lease| group.receive(lease, reply_deadline, requests, replies));
        if !matches!(received, Some(Ok(()))) {
            failed.push(group);
        }
    }
    for Group { node, first, .. } in failed {
        // If they are not found, the next attempt says why.
        let _ = client.router().find_again(*first, Some(node), None, deadline);
    }
}

/// Requests by the server that has their shards.
fn groups(client: &Client, requests: &Requests) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, (shard, _)) in requests.iter().enumerate() {
        let Ok(owner) = client.router().owner(*shard) else { continue };
        match groups.iter_mut().find(|group| group.node.address == owner.address) {
            Some(group) => group.indexes.push(index),
            None => groups.push(Group { node: owner, first: *shard, indexes: vec![index] }),
        }
    }
    // Threads that take connections in the same order do not wait for each other.
    groups.sort_by(|a, b| a.node.address.cmp(&b.node.address));
    groups
}
