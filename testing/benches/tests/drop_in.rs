//! The host of storage-host's test `drop_in`, with the crate that it was written for:
//! `cargo test -p storage-host -p benches --features benches/peer --test drop_in`.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../../../crates/storage-host/tests/drop_in/host.rs"]
mod host;

#[expect(clippy::single_component_path_imports, reason = "the host finds it in its crate")]
use wasmtime_wasi_keyvalue;
