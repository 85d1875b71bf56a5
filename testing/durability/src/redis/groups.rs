//! Servers with replicas that take over: a cluster, or a group behind sentinels.

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use test_servers::{Redis, RedisCluster, RedisSentinel};

use super::location::Location;
use super::servers::slot_of;

/// The first slots of the primaries of a cluster.
const FIRST_SLOTS: [u16; 3] = [0, 5461, 10923];

/// The setting by which a primary refuses writes while fewer replicas follow it.
const MIN_REPLICAS: &str = "min-replicas-to-write";

/// How many seconds after its last message a replica still counts as following.
const MAX_LAG: &str = "1";

/// How servers are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroupKind {
    Cluster,
    Sentinel,
}

impl GroupKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Sentinel => "sentinel",
        }
    }
}

/// Servers, each primary with one replica.
pub(super) enum Group {
    Cluster(Box<RedisCluster>),
    Sentinel(RedisSentinel),
}

impl Group {
    /// Starts servers that sync every second, as most do. Primaries need `min_replicas` to
    /// accept writes.
    pub(super) fn start(kind: GroupKind, min_replicas: u32) -> Result<Self> {
        let builder = Redis::builder()
            .setting("appendfsync", "everysec")
            .setting(MIN_REPLICAS, &min_replicas.to_string())
            .setting("min-replicas-max-lag", MAX_LAG);
        Ok(match kind {
            GroupKind::Cluster => Self::Cluster(Box::new(RedisCluster::with(builder)?)),
            GroupKind::Sentinel => Self::Sentinel(RedisSentinel::with(builder, None)?),
        })
    }

    pub(super) fn location(&self) -> Result<Location> {
        match self {
            Self::Cluster(cluster) => Ok(Location::cluster(cluster)),
            Self::Sentinel(group) => Location::sentinel(group),
        }
    }

    pub(super) fn servers(&self) -> &[Redis] {
        match self {
            Self::Cluster(cluster) => cluster.nodes(),
            Self::Sentinel(group) => group.servers(),
        }
    }

    pub(super) fn server_mut(&mut self, number: usize) -> Result<&mut Redis> {
        match self {
            Self::Cluster(cluster) => cluster.node_mut(number),
            Self::Sentinel(group) => group.server_mut(number),
        }
    }

    pub(super) fn wait_until_healthy(&self) -> Result<()> {
        match self {
            Self::Cluster(cluster) => cluster.wait_until_healthy(),
            Self::Sentinel(group) => group.wait_until_healthy(),
        }
    }

    /// Changes how many replicas primaries need to accept writes, until they start again.
    pub(super) fn need_replicas(&self, count: u32) -> Result<()> {
        let count = count.to_string();
        self.servers().iter().try_for_each(|server| {
            server.command(&["config", "set", MIN_REPLICAS, &count]).map(drop)
        })
    }

    /// The primary that a round disturbs. A cluster's take turns, since a node that has just
    /// taken over must wait before the next election.
    pub(super) fn primary(&self, round: u64) -> Result<usize> {
        match self {
            Self::Cluster(cluster) => {
                let mut slots = FIRST_SLOTS.into_iter().cycle();
                let slot = slots.nth(usize::try_from(round)? % FIRST_SLOTS.len());
                cluster.owner(slot.unwrap_or_default())
            }
            Self::Sentinel(group) => group.master(),
        }
    }

    /// The replica of a primary.
    pub(super) fn replica_of(&self, primary: usize) -> Result<usize> {
        let server = self.servers().get(primary).context("there is no such server")?;
        let port = server.address().port().to_string();
        let found = self
            .servers()
            .iter()
            .position(|other| other.info("master_port").is_ok_and(|followed| followed == port));
        found.context("the primary has no replica")
    }

    /// Prefixes of new components whose data a primary has.
    pub(super) fn components(
        &self,
        primary: usize,
        round: u64,
        count: usize,
    ) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for number in 0.. {
            if found.len() == count {
                break;
            }
            let prefix = format!("loss/r{round}/c{number}/");
            let is_there = match self {
                Self::Cluster(cluster) => cluster.owner(slot_of(cluster, &prefix)?)? == primary,
                Self::Sentinel(_) => true,
            };
            if is_there {
                found.push(prefix);
            }
        }
        Ok(found)
    }
}
