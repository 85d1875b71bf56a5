//! Database servers that tests start, stop, kill and cut off.
//!
//! [`Postgres`] is a PostgreSQL server. [`Redis`] is a Redis or Valkey server, [`RedisCluster`]
//! and [`RedisSentinel`] are several of them. [`Proxy`] stands between a client and a server.
//! All listen on loopback alone.
//!
//! A server and its files are gone when the test process ends, even if that is killed: a
//! process of its own waits for that. As root, a server runs as an unprivileged user.
//!
//! The program `test-servers` runs a command with the URLs of servers:
//!
//! ```text
//! cargo run --package test-servers -- cargo test --package storage-backends
//! cargo run --package test-servers -- --redis --redis-cluster cargo test
//! ```
//!
//! Linux only: the processes of a server are found in `/proc`.
#![cfg(unix)]
#![forbid(unsafe_code)]

mod certificate;
mod directory;
mod ports;
mod postgres;
mod process;
mod programs;
mod proxy;
mod redis;
mod server;
mod user;

pub use postgres::{Postgres, PostgresBuilder, Tls};
pub use proxy::{Direction, Proxy, Traffic};
pub use redis::{Redis, RedisBuilder, RedisCluster, RedisSentinel, SlotMove};
