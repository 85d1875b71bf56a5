//! The dialects whose functions are `async`: calls of one instance may overlap.
//!
//! A call reads all its arguments from the guest's memory before it waits for anything,
//! because the guest may use that memory again as soon as the call has begun. What then
//! runs contains nothing of the guest: one that drops a call, or ends, leaves the old
//! value or the new one.

mod calls;
mod cas;
mod linkage;
mod listing;
mod spin;
mod wasmcloud;

use wasmtime::component::Linker;

use super::call::StateOf;

pub use calls::CONCURRENT_CALLS;
pub(super) use calls::Calls;
pub(super) use linkage::Size;

/// Adds all interfaces to a linker, if its engine can run calls concurrently.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    if !linker.engine().get_concurrency_support() {
        return Ok(());
    }
    spin::add_to_linker(linker, state)?;
    wasmcloud::add_to_linker(linker, state)
}

/// Whether an import is one of these interfaces.
pub(super) fn has(import: &str) -> bool {
    import == spin::NAME || wasmcloud::has(import)
}
