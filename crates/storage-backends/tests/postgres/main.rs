//! What the PostgreSQL store guarantees, on the server that STORAGE_TEST_POSTGRES_URL names.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]
#![allow(clippy::print_stderr, reason = "without a server the tests say that they are skipped")]

mod bytes;
mod contract;
mod errors;
#[path = "../servers/hosts.rs"]
mod hosts;
mod listing;
mod opening;
#[path = "../servers/returned.rs"]
mod returned;
mod revisions;
mod server;
mod verifying;

use std::sync::Arc;
use std::time::{Duration, Instant};

use storage_backends::{Durability, PostgresOptions, PostgresStorage};
use storage_core::{
    Budget, Commit, ComponentStorage, PageRequest, Revision, StorageError, Store, Usage,
};

use server::TestSchema;
