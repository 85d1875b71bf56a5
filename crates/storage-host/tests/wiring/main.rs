//! Every store under every decorator, and the host that makes chains. Without wasmtime.

#![cfg(all(feature = "memory", feature = "file"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::print_stdout, reason = "tests print what they skip")]

#[cfg(all(feature = "admin", unix))]
mod admin;
#[cfg(feature = "archive")]
mod archive;
mod conformance;
mod contents;
mod grants;
mod host;
#[cfg(feature = "metrics")]
mod metrics;
mod rates;
mod settings;
mod shutdown;
mod transfer;
