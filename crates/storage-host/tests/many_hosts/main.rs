//! Two hosts with caches over one store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "helpers of tests")]

mod failures;
mod interleavings;
mod polling;
mod random;
mod register;
#[cfg(all(unix, any(feature = "postgres", feature = "redis")))]
#[path = "../shared/server.rs"]
mod server;
#[cfg(all(unix, any(feature = "postgres", feature = "redis")))]
mod servers;
mod settings;
mod support;
