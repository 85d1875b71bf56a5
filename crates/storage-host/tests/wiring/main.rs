//! Every store under every decorator, and the host that makes chains. Without wasmtime.

#![cfg(all(feature = "memory", feature = "file"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stdout, reason = "tests print what they skip")]

mod conformance;
mod grants;
mod host;
mod shutdown;
mod transfer;
