//! Database servers that tests start, stop, kill and cut off.
//!
//! [`Postgres`] is a PostgreSQL server, and [`Proxy`] stands between a client and a server.
//! Both listen on loopback alone.
//!
//! A server and its files are gone when the test process ends, even if that is killed: a
//! process of its own waits for that. As root, a server runs as an unprivileged user.
//!
//! The program `test-servers` runs a command with the URL of a server:
//!
//! ```text
//! cargo run --package test-servers -- cargo test --package storage-backends
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
