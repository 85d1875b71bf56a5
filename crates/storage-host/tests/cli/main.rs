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

mod check;
mod compiled;
mod config;
mod copy;
mod data;
#[cfg(feature = "redb")]
mod default_store;
mod demo;
mod doctor;
mod guests;
mod help;
mod json;
mod kill;
mod locks;
mod paths;
mod policy;
#[cfg(unix)]
mod privacy;
mod resources;
mod run;
mod signals;
mod stores;
#[cfg(unix)]
mod streams;
mod support;
#[cfg(target_os = "linux")]
mod terminal;
#[cfg(target_os = "linux")]
mod unreadable;
mod verify;
mod waiting;
