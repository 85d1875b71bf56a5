//! The Redis store: one store for many hosts, in the memory of Redis or Valkey servers.

mod batch;
mod client;
mod cluster;
mod commits;
mod connector;
mod database;
mod deployment;
mod error;
mod flush;
mod inquiry;
mod inspection;
#[cfg(feature = "internals")]
pub mod internals;
mod keys;
mod listing;
mod notices;
mod opening;
mod options;
mod part;
mod patience;
mod pool;
mod reads;
mod replies;
mod router;
mod script;
mod sentinel;
mod shard;
mod snapshot;
mod store;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod together;
mod transport;
mod turn;
mod values;
mod verify;
mod wait;

pub use deployment::{Deployment, RedisAddress, SentinelDeployment};
pub use inspection::{RedisReport, RedisWarning};
pub use options::RedisOptions;
pub use store::RedisStorage;
