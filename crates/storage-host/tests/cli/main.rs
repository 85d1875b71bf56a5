//! The built command, as a shell calls it.

#![cfg(all(feature = "cli", feature = "memory", feature = "file"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do, and what is skipped is said"
)]

mod config;
mod copy;
mod data;
mod demo;
mod doctor;
mod help;
mod json;
mod kill;
mod paths;
mod policy;
mod run;
mod stores;
#[cfg(unix)]
mod streams;
mod support;
#[cfg(target_os = "linux")]
mod terminal;
mod verify;
mod waiting;
