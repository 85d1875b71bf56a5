//! Storage for the guests of a wasmtime host.
//!
//! Five lines give every component of a host storage of its own; see
//! `examples/embed.rs` for the whole of it:
//!
//! ```no_run
//! use storage_host::guest::{self, ComponentState};
//! use storage_host::wasmtime::{Engine, Store, component::Linker};
//! use storage_host::{Mode, StorageHost, StoreUrl};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = Engine::new(&guest::engine_config())?;
//! let host = StorageHost::new("file:./data".parse::<StoreUrl>()?.open(Mode::ReadWrite)?);
//! let mut linker = Linker::<ComponentState>::new(&engine);
//! guest::add_to_linker(&mut linker, |state| state)?;
//! let state = ComponentState::new(host.component(&"app/notes/home".parse()?));
//! let mut store = guest::new_store(&engine, state, |state| state);
//! # Ok(())
//! # }
//! ```
//!
//! Calls are synchronous: a guest that waits for the store holds its thread. A
//! store in which functions of `wasmtime_wasi`'s async linker stand too works,
//! but storage blocks it.
//!
//! # A guest that does not end
//!
//! What a guest may take of memory is bounded by [`new_store`]; how long it may
//! run is the embedder's to say, with wasmtime's epochs:
//!
//! ```
//! use std::time::Duration;
//! use storage_host::guest::{self, ComponentState};
//! # use std::sync::Arc;
//! # use storage_core::conformance::ReferenceStorage;
//! # use storage_host::StorageHost;
//! # use storage_host::wasmtime::{Engine, Store, component::{Component, Linker}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = guest::engine_config();
//! config.epoch_interruption(true);
//! let engine = Engine::new(&config)?;
//! guest::start_clock(&engine)?;
//!
//! # let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
//! # let state = ComponentState::new(host.component(&"app/notes/home".parse()?));
//! let mut store = guest::new_store(&engine, state, |state| state);
//! // Before each call into the guest, its instantiation included.
//! guest::set_timeout(&mut store, Duration::from_millis(50));
//! # let endless = "(component
//! #     (core module $m (func $start (loop $l (br $l))) (start $start))
//! #     (core instance (instantiate $m)))";
//! # let component = Component::new(&engine, wat::parse_str(endless)?)?;
//! # let linker = Linker::<ComponentState>::new(&engine);
//! let ended = linker.instantiate(&mut store, &component);
//! # let limits = storage_host::Limits::default();
//! let reason = guest::describe_failure(&ended.unwrap_err(), &limits);
//! assert_eq!(reason, "it ran past the deadline that the host had set");
//! # Ok(())
//! # }
//! ```
//!
//! A store without a deadline ends its guest at once. A call to storage is not
//! interrupted: it is as long as its limits let it be. Nor is one to WASI, where a
//! guest can wait for input or for a time of its own choice: who lends that to
//! guests bounds it too.
//!
//! # What a guest learns
//!
//! The errors of the interface, with a key of its own or a short reason; never a
//! path, another component's key or a backend's own words. Where the reason says
//! `(incident 0000002a)`, a [`tracing`] event of level `ERROR` with the field
//! `incident="0000002a"` holds the rest: the component, the operation, the key
//! and the whole error.

mod airssys;
mod batch;
mod bucket;
mod deadline;
mod errors;
mod extended;
mod keyvalue;
mod state;
mod trap;

use wasmtime::component::{Component, Linker};

pub use deadline::{EPOCH, set_timeout, start_clock};
pub use state::{ComponentState, SandboxLimits, engine_config, new_store};
pub use trap::describe_failure;

/// The interface for single keys, as guests import it.
pub const INTERFACE: &str = "airssys:core/storage@1.0.0";

/// The interface for more than single keys.
pub const EXTENDED: &str = "airssys:storage/extended@0.1.0";

/// Gives the guests of a linker every interface of storage: each sees the storage
/// in its own store's [`ComponentState`], which `state` finds.
///
/// - [`airssys:core/storage@1.0.0`](INTERFACE);
/// - [`airssys:storage/extended@0.1.0`](EXTENDED);
/// - `wasi:keyvalue` `store`, `atomics` and `batch`, in the drafts `0.2.0-draft`
///   and `0.2.0-draft2`.
///
/// `get-many` of the second draft is as the specification has it. Components that
/// were built for Spin expect another type of it: for them there is
/// [`add_to_linker_for`].
///
/// # Errors
/// If the linker has one of the interfaces already.
pub fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    airssys::add_to_linker(linker, state)?;
    extended::add_to_linker(linker, state)?;
    keyvalue::add_to_linker(linker, keyvalue::Shape::Upstream, state)
}

/// The same for one component, whose imports tell which shape of an interface it
/// was built for where there are two of one name.
///
/// # Errors
/// As [`add_to_linker`].
pub fn add_to_linker_for<T: 'static>(
    component: &Component,
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    airssys::add_to_linker(linker, state)?;
    extended::add_to_linker(linker, state)?;
    keyvalue::add_to_linker(linker, keyvalue::shape_for(component), state)
}

/// Whether an import of a component is one of the interfaces of storage.
pub fn provides(import: &str) -> bool {
    import == INTERFACE || import == EXTENDED || keyvalue::has(import)
}
