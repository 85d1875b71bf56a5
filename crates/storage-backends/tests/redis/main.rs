//! What the Redis store guarantees, on the servers that STORAGE_TEST_REDIS_URL and
//! STORAGE_TEST_REDIS_CLUSTER_URL name.
#![cfg(all(unix, feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]
#![allow(clippy::print_stderr, reason = "without a server the tests say that they are skipped")]

mod bytes;
mod connections;
mod contract;
mod errors;
#[path = "../servers/hosts.rs"]
mod hosts;
mod listing;
mod memory;
mod opening;
mod raw;
#[path = "../servers/returned.rs"]
mod returned;
mod revisions;
mod round_trips;
mod runs;
mod server;
mod snapshots;
mod verifying;

use std::sync::Arc;
use std::time::{Duration, Instant};

use storage_backends::{Durability, RedisOptions, RedisStorage};
use storage_core::{
    Budget, Commit, ComponentStorage, PageRequest, Revision, StorageError, Store, Usage,
};

use server::{OwnServer, TestStore};
