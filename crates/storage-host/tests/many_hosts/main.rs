//! Two hosts with caches over one store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "helpers of tests")]

mod failures;
mod interleavings;
mod polling;
#[cfg(all(unix, feature = "postgres"))]
mod postgres;
mod random;
mod register;
#[cfg(all(unix, feature = "postgres"))]
#[path = "../shared/postgres.rs"]
mod server;
mod settings;
mod support;
