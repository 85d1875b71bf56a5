//! What guests see of the storage, and what no guest can do to the host.

#![cfg(feature = "wasmtime")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests fail and report as tests do"
)]

#[cfg(feature = "async")]
mod asynchronous;
mod boundary;
mod commands;
mod config_and_log;
#[cfg(all(feature = "async", feature = "redb"))]
mod dropped_writes;
mod errors;
mod granted;
mod instances;
mod interfaces;
mod library;
mod log;
mod observed;
#[cfg(feature = "p3")]
mod overlapping;
mod raw;
mod runner;
#[cfg(any(feature = "postgres", feature = "redis"))]
#[path = "../shared/server.rs"]
mod server;
mod spin;
