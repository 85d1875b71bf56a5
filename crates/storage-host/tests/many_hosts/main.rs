//! Two hosts with caches over one store.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "helpers of tests")]

mod failures;
mod interleavings;
mod polling;
mod random;
mod register;
mod settings;
mod support;
