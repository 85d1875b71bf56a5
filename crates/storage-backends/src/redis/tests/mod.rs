//! What the client guarantees, with servers that are stopped, replaced and cut off.
#![allow(clippy::print_stderr, reason = "without a server the tests say that they are skipped")]

mod cluster;
mod frozen;
mod notices;
mod sentinel;
mod sharing;
mod single;
mod tls;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};
use test_servers::Redis;

use super::client::Client;
use super::deployment::{Deployment, RedisAddress};
use super::error::Failure;
use super::keys::{Keys, StoreCheck};
use super::options::RedisOptions;
use super::shard::Shard;

/// Far more than any call may take.
const LONG: Duration = Duration::from_secs(60);

/// Whether the tests are skipped, which is reported.
fn is_skipped() -> bool {
    let missing = Redis::missing();
    if let Some(why) = &missing {
        eprintln!("SKIPPED: {why}");
    }
    missing.is_some()
}

fn address(address: SocketAddr) -> RedisAddress {
    RedisAddress::new(address.ip().to_string(), address.port())
}

fn single(server: SocketAddr) -> RedisOptions {
    RedisOptions::new(Deployment::Single(address(server)))
}

/// A key of a shard.
fn key(shard: Shard, name: &str) -> String {
    format!("{{{}}}{name}", Keys::new(RedisOptions::DEFAULT_PREFIX).tag(shard))
}

fn set(shard: Shard, name: &str, value: &str) -> Cmd {
    cmd("SET").arg(key(shard, name)).arg(value).take()
}

fn get(shard: Shard, name: &str) -> Cmd {
    cmd("GET").arg(key(shard, name)).take()
}

/// Reads a key of a shard.
#[track_caller]
fn read(client: &Client, shard: Shard, name: &str) -> Option<String> {
    match client.read(shard, &[get(shard, name)]).map(|mut replies| replies.remove(0)) {
        Ok(Value::BulkString(bytes)) => Some(String::from_utf8(bytes).unwrap()),
        Ok(Value::Nil) => None,
        other => panic!("{other:?}"),
    }
}

fn write(client: &Client, shard: Shard, name: &str, value: &str) -> Result<(), String> {
    match client.write(shard, &set(shard, name, value)) {
        Ok(Value::Okay) => Ok(()),
        Ok(other) => panic!("{other:?}"),
        Err(failure) => Err(failure.into_write_error().to_string()),
    }
}

/// The message of an opening that must fail.
#[track_caller]
fn refused(options: &RedisOptions) -> String {
    let began = Instant::now();
    let failure = Client::open(options, false).unwrap_err();
    assert!(began.elapsed() < LONG);
    failure.into_storage_error().to_string()
}

/// The message of a read that must fail.
#[track_caller]
fn failed(result: Result<impl std::fmt::Debug, Failure>) -> String {
    result.unwrap_err().into_storage_error().to_string()
}

#[track_caller]
fn has(message: &str, part: &str) {
    assert!(message.contains(part), "{message:?} has no {part:?}");
}

/// Tries again until it is true, for at most a minute.
#[track_caller]
fn eventually(mut is_true: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < LONG, "it did not become true");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Writes the ids of stores as a store does, and expects the given one.
fn expect_store(client: &Client, store_id: &str) {
    let keys = Keys::new(RedisOptions::DEFAULT_PREFIX);
    for shard in Shard::all(client.shards()) {
        let mark = cmd("HSET").arg(keys.store(shard)).arg("store_id").arg(store_id).take();
        client.write(shard, &mark).unwrap();
    }
    client.expect_store(StoreCheck { keys, store_id: store_id.to_owned() });
}
