//! The only unsafe code of this project.

use storage_host::wasmtime::component::Component;
use storage_host::wasmtime::{self, Engine};

use super::entry::VerifiedCode;

/// Loads a component from verified machine code. Fails if wasmtime refuses it, for instance
/// because it is for another processor.
#[expect(unsafe_code, reason = "wasmtime cannot check machine code, so `verify` does")]
pub(super) fn component_of(engine: &Engine, code: &VerifiedCode) -> wasmtime::Result<Component> {
    // SAFETY: deserialize needs bytes that `Component::serialize` wrote, unchanged. Only
    // `entry::verify` creates a `VerifiedCode`. It compares the SHA-256 of these bytes with
    // the one stored with them, and the keys with this component and this engine.
    // `Store::read` reads only regular files that this user owns and no other user can
    // write, in a directory with the same properties, up to the root. The bytes are a
    // private copy in memory, so they cannot change after the check.
    unsafe { Component::deserialize(engine, code.bytes()) }
}
