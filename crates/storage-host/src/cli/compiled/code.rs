//! The one call of unsafe code in this project.

use storage_host::wasmtime::component::Component;
use storage_host::wasmtime::{self, Engine};

use super::entry::VerifiedCode;

/// Makes a component of machine code that this command kept earlier.
///
/// # Errors
/// If wasmtime does not take it, for instance because it is for another processor.
#[expect(unsafe_code, reason = "wasmtime cannot check machine code, so its owner must")]
pub(super) fn component_of(engine: &Engine, code: &VerifiedCode) -> wasmtime::Result<Component> {
    // SAFETY: deserialize needs bytes that `Component::serialize` wrote, unchanged. Only
    // `entry::verify` makes a `VerifiedCode`. It has compared the SHA-256 of these bytes
    // with the one that was written beside them, and the keys with this component and
    // this engine. `Store::read` takes bytes only from a regular file that this user
    // owns and nobody else may write, in a directory for which the same holds, up to
    // the root. They are in memory of our own, so nobody changes them after the check.
    unsafe { Component::deserialize(engine, code.bytes()) }
}
