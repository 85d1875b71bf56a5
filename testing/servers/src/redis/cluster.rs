//! A Redis cluster: its creation, and what becomes of its nodes.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::members::Member;
use super::{Redis, RedisBuilder, Role};
use crate::server::wait_until;

/// The masters of a new cluster. Each has one replica.
const MASTERS: u32 = 3;

/// The slots of every cluster.
const SLOTS: u32 = 16_384;

/// How long a node remembers its election. If it takes over again before, Redis 7.0 counts the
/// old votes, so the node wins without a new epoch, and the others never accept it.
const ELECTION: Duration = Duration::from_secs(8);

/// A Redis cluster on loopback. It starts with three masters that have a third of the slots
/// each, the nodes 0 to 2, and their replicas in the same order, the nodes 3 to 5. The replica
/// of a master that does not answer for two seconds takes over. The nodes are killed, and their
/// files are removed, when the cluster is dropped or this process ends.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// let mut cluster = test_servers::RedisCluster::start()?;
/// let master = cluster.owner(0)?;
/// cluster.node_mut(master)?.kill()?;
/// cluster.wait_until_healthy()?;
/// assert_ne!(cluster.owner(0)?, master);
/// cluster.node_mut(master)?.restart()?;
/// cluster.wait_until_healthy()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    /// The name of each node in the cluster.
    ids: Vec<String>,
    /// The options of the next node.
    options: RedisBuilder,
    masters: Mutex<Masters>,
}

/// The masters that were seen last.
#[derive(Debug, Default)]
struct Masters {
    ids: BTreeSet<String>,
    /// Since when, unless they are the first.
    since: Option<Instant>,
}

impl RedisCluster {
    /// Starts a cluster with the default settings.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub fn start() -> Result<Self> {
        Self::with(Redis::builder())
    }

    /// Starts a cluster whose nodes have these options, and waits until it is healthy.
    ///
    /// # Errors
    /// If Redis is not installed ([`Redis::missing`]) or a node does not start.
    pub fn with(mut options: RedisBuilder) -> Result<Self> {
        options.create_certificate()?;
        let mut cluster =
            Self { nodes: Vec::new(), ids: Vec::new(), options, masters: Mutex::default() };
        for number in 0..2 * MASTERS {
            let node = cluster.start_node()?;
            if number < MASTERS {
                let slots = SLOTS * number / MASTERS..SLOTS * (number + 1) / MASTERS;
                let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
                node.command(
                    &[&["cluster".to_owned(), "addslots".to_owned()], &slots[..]].concat(),
                )?;
            }
            // Nodes with the same epoch would first have to agree on new ones.
            node.command(&["cluster", "set-config-epoch", &(number + 1).to_string()])?;
        }
        for number in 1..cluster.nodes.len() {
            cluster.meet(number)?;
        }
        let masters = usize::try_from(MASTERS)?;
        for (number, replica) in cluster.nodes.iter().enumerate().skip(masters) {
            let id = cluster.id(number - masters)?;
            // A node accepts a master once it has heard of it.
            wait_until(|| Ok(replica.command(&["cluster", "replicate", id]).is_ok()))?;
        }
        cluster.wait_until_healthy()?;
        Ok(cluster)
    }

    /// The URL of the cluster with the addresses of all nodes, and the user, the password and
    /// the certificate if it has them.
    pub fn url(&self) -> String {
        let addresses = self.nodes.iter().map(|node| node.address().to_string());
        let addresses = addresses.collect::<Vec<_>>().join(",");
        let tls = self.nodes.first().map(Redis::tls_settings).unwrap_or_default();
        format!("redis+cluster://{}{addresses}{tls}", self.options.log_in())
    }

    /// All nodes, whether they run or not.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// A node, to stop and start it.
    ///
    /// # Errors
    /// If there is none with this number.
    pub fn node_mut(&mut self, number: usize) -> Result<&mut Redis> {
        self.nodes.get_mut(number).with_context(|| format!("there is no node {number}"))
    }

    pub(super) fn node(&self, number: usize) -> Result<&Redis> {
        self.nodes.get(number).with_context(|| format!("there is no node {number}"))
    }

    /// The number of the node that owns a slot, as the first node that answers knows it.
    ///
    /// # Errors
    /// If no node answers or none owns the slot.
    pub fn owner(&self, slot: u16) -> Result<usize> {
        let node = self.answering().next().context("no node of the cluster answers")?;
        let members = members(node)?;
        let owner = members.iter().find(|member| member.owns(slot));
        self.number(&owner.with_context(|| format!("no node owns slot {slot}"))?.id)
    }

    /// The slot of a key.
    ///
    /// # Errors
    /// If no node answers.
    pub fn slot(&self, key: &str) -> Result<u16> {
        let node = self.answering().next().context("no node of the cluster answers")?;
        Ok(node.command(&["cluster", "keyslot", key])?.parse()?)
    }

    /// Adds a master without slots. Returns its number.
    ///
    /// # Errors
    /// If it does not start.
    pub fn add_node(&mut self) -> Result<usize> {
        self.start_node()?;
        let number = self.nodes.len() - 1;
        self.meet(number)?;
        self.wait_until_healthy()?;
        Ok(number)
    }

    /// Lets the replica of a master take over while both run. Returns the replica's number.
    ///
    /// # Errors
    /// If it has no replica that answers.
    pub fn fail_over(&self, master: usize) -> Result<usize> {
        let id = self.id(master)?;
        let members = members(self.node(master)?)?;
        let replica = members.iter().find(|member| member.master.as_deref() == Some(id));
        let replica = replica.with_context(|| format!("node {master} has no replica"))?;
        let number = self.number(&replica.id)?;
        if let Some(elected) = self.masters().since {
            sleep(ELECTION.saturating_sub(elected.elapsed()));
        }
        self.node(number)?.command(&["cluster", "failover"])?;
        wait_until(|| Ok(self.node(number)?.info("role")? == "master"))
            .with_context(|| format!("node {number} did not take over"))?;
        self.wait_until_healthy()?;
        Ok(number)
    }

    /// Waits until all nodes that run have the same view of the cluster, can reach each other
    /// and own all slots, and their replicas are connected. After a master was killed or
    /// paused, this waits until its replica has taken over.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn wait_until_healthy(&self) -> Result<()> {
        let mut reason = String::new();
        wait_until(|| {
            // A server that loads its data refuses most commands.
            let ailment = self.ailment().unwrap_or_else(|error| Some(format!("{error:#}")));
            reason = ailment.unwrap_or_default();
            Ok(reason.is_empty())
        })
        .with_context(|| format!("the cluster is not healthy: {reason}"))?;
        self.notice_failovers()
    }

    /// Notices whether there are other masters than before.
    fn notice_failovers(&self) -> Result<()> {
        let node = self.answering().next().context("no node of the cluster answers")?;
        let owners = members(node)?.into_iter().filter(|member| !member.slots.is_empty());
        let ids: BTreeSet<String> = owners.map(|member| member.id).collect();
        let mut masters = self.masters();
        if masters.ids != ids {
            let since = (!masters.ids.is_empty()).then(Instant::now);
            *masters = Masters { ids, since };
        }
        Ok(())
    }

    fn masters(&self) -> MutexGuard<'_, Masters> {
        self.masters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the cluster is not healthy.
    fn ailment(&self) -> Result<Option<String>> {
        let all = self.nodes.iter().zip(&self.ids);
        let running: Vec<&String> =
            all.filter(|(node, _)| node.server.answers()).map(|(_, id)| id).collect();
        let mut first = None;
        for node in self.answering() {
            let name = node.address();
            let members = members(node)?;
            let known: Vec<&Member> =
                members.iter().filter(|member| running.contains(&&member.id)).collect();
            if known.len() < running.len() || !known.iter().all(|member| member.is_reachable) {
                return Ok(Some(format!("{name} does not reach every node: {members:?}")));
            }
            let slots: usize =
                known.iter().flat_map(|member| &member.slots).map(|slots| slots.len()).sum();
            if slots != usize::try_from(SLOTS)? {
                return Ok(Some(format!("nodes that run own {slots} slots for {name}")));
            }
            let state = node.command(&["cluster", "info"])?;
            if !state.contains("cluster_state:ok") {
                return Ok(Some(format!("{name} is not ready")));
            }
            let is_replica = node.info("role")? == "slave";
            if is_replica && node.info("master_link_status")? != "up" {
                return Ok(Some(format!("the replica {name} is not connected")));
            }
            let mut view: Vec<_> = known
                .into_iter()
                .map(|member| (member.id.clone(), member.master.clone(), member.slots.clone()))
                .collect();
            view.sort_by(|(one, ..), (other, ..)| one.cmp(other));
            if *first.get_or_insert_with(|| view.clone()) != view {
                return Ok(Some(format!("{name} has another view than the first node")));
            }
        }
        Ok(None)
    }

    /// The nodes that run and are not paused.
    pub(super) fn answering(&self) -> impl Iterator<Item = &Redis> {
        self.nodes.iter().filter(|node| node.server.answers())
    }

    /// The name of a node in the cluster.
    pub(super) fn id(&self, number: usize) -> Result<&str> {
        let id = self.ids.get(number).map(String::as_str);
        id.with_context(|| format!("there is no node {number}"))
    }

    fn number(&self, id: &str) -> Result<usize> {
        let found = self.ids.iter().position(|known| known == id);
        found.with_context(|| format!("{id} is not a node of the cluster"))
    }

    fn start_node(&mut self) -> Result<&Redis> {
        let node = self.options.clone().start_as(Role::Node, "")?;
        self.ids.push(node.command(&["cluster", "myid"])?);
        self.nodes.push(node);
        self.nodes.last().context("a node was added")
    }

    /// Lets the first node that answers know a new node.
    fn meet(&self, number: usize) -> Result<()> {
        let known = self.answering().next().context("no node of the cluster answers")?;
        let address = self.node(number)?.address();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        known.command(&["cluster", "meet", &host, &port]).map(drop)
    }
}

/// The cluster as a node knows it.
fn members(node: &Redis) -> Result<Vec<Member>> {
    Member::read_all(&node.command(&["cluster", "nodes"])?)
}
