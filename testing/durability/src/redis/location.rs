//! Where a store on Redis servers is, and how long its calls may take.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use storage_backends::{Deployment, RedisAddress, RedisOptions, SentinelDeployment};
use storage_core::StorageError;
use test_servers::{Redis, RedisCluster, RedisSentinel};

/// The longest time from a request to its reply. Short, so that a hung server costs a round
/// little.
const REPLY: Duration = Duration::from_secs(3);

/// A store, as the path of its engine names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Location {
    kind: Kind,
    addresses: Vec<SocketAddr>,
    /// The replicas that must confirm a write.
    wait: u32,
    reply_millis: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Kind {
    Single,
    Cluster,
    /// With the name of the primary.
    Sentinel(String),
}

impl Location {
    /// A store on the server with this address.
    pub(crate) fn single(address: SocketAddr) -> Self {
        Self::new(Kind::Single, vec![address])
    }

    /// A store on a cluster.
    pub(crate) fn cluster(cluster: &RedisCluster) -> Self {
        Self::new(Kind::Cluster, cluster.nodes().iter().map(Redis::address).collect())
    }

    /// A store behind sentinels.
    pub(crate) fn sentinel(group: &RedisSentinel) -> Result<Self> {
        let url = group.url();
        let (_, name) = url.rsplit_once('/').context("the URL names no primary")?;
        let addresses = group.sentinels().iter().map(Redis::address).collect();
        Ok(Self::new(Kind::Sentinel(name.to_owned()), addresses))
    }

    fn new(kind: Kind, addresses: Vec<SocketAddr>) -> Self {
        let reply_millis = u64::try_from(REPLY.as_millis()).unwrap_or(u64::MAX);
        Self { kind, addresses, wait: 0, reply_millis }
    }

    /// The same store, whose writes wait for replicas.
    pub(crate) fn with_wait(self, wait: u32) -> Self {
        Self { wait, ..self }
    }

    /// The same store, with another limit for replies.
    pub(crate) fn with_reply_limit(self, limit: Duration) -> Self {
        Self { reply_millis: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), ..self }
    }

    /// The path that [`of`](Self::of) reads.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        Ok(serde_json::to_string(self)?.into())
    }

    pub(crate) fn of(path: &Path) -> Result<Self, StorageError> {
        let read = path.to_str().and_then(|text| serde_json::from_str(text).ok());
        read.ok_or_else(|| StorageError::Unsupported("not a location of a store".to_owned()))
    }

    pub(crate) fn options(&self) -> RedisOptions {
        let address =
            |address: &SocketAddr| RedisAddress::new(address.ip().to_string(), address.port());
        let mut addresses: Vec<RedisAddress> = self.addresses.iter().map(address).collect();
        let deployment = match &self.kind {
            Kind::Single => Deployment::Single(addresses.remove(0)),
            Kind::Cluster => Deployment::Cluster(addresses),
            Kind::Sentinel(name) => Deployment::Sentinel(SentinelDeployment::new(addresses, name)),
        };
        let mut options = RedisOptions::new(deployment)
            .with_reply_timeout(Duration::from_millis(self.reply_millis));
        options.wait = self.wait;
        options
    }
}
