//! The built command, as a shell calls it.

#![cfg(all(feature = "cli", feature = "serve", feature = "memory", feature = "file"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and what is skipped is said"
)]

mod beside;
mod check;
mod compiled;
mod copy;
mod data;
mod dialects;
mod doctor;
mod guests;
mod json;
mod kill;
mod locks;
#[cfg(all(feature = "redis", unix))]
mod redis;
mod resources;
mod run;
#[cfg(all(feature = "redb", unix))]
mod serve;
#[cfg(any(feature = "postgres", feature = "redis"))]
#[path = "../shared/server.rs"]
mod server;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod servers;
mod signals;
mod stores;
mod support;
mod transcripts;
#[cfg(target_os = "linux")]
mod unreadable;
mod waiting;
