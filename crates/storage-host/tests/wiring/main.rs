//! The wiring: every implementation under every layer, and the host that hands
//! them out. Without wasmtime.

#![cfg(all(feature = "memory", feature = "file"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stdout, reason = "what is skipped is said")]

mod conformance;
mod grants;
mod host;
mod shutdown;
mod transfer;
