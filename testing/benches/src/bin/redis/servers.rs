//! The servers, and stores on them.

use std::net::SocketAddr;

use anyhow::Result;
use storage_backends::{Deployment, RedisAddress, RedisOptions, RedisStorage};
use test_servers::{Redis, RedisCluster};

/// Starts a server that syncs once a second.
pub(crate) fn start_relaxed() -> Result<Redis> {
    Redis::builder().setting("appendfsync", "everysec").start()
}

pub(crate) fn open(server: &Redis) -> Result<RedisStorage> {
    Ok(RedisStorage::open(&options(server))?)
}

pub(crate) fn options(server: &Redis) -> RedisOptions {
    RedisOptions::new(Deployment::Single(address(server.address())))
}

pub(crate) fn open_cluster(cluster: &RedisCluster) -> Result<RedisStorage> {
    let nodes = cluster.nodes().iter().map(|node| address(node.address())).collect();
    Ok(RedisStorage::open(&RedisOptions::new(Deployment::Cluster(nodes)))?)
}

fn address(address: SocketAddr) -> RedisAddress {
    RedisAddress::new(address.ip().to_string(), address.port())
}
