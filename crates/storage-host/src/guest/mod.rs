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
//! # What a guest learns
//!
//! The errors of the interface, with a key of its own or a short reason; never a
//! path, another component's key or a backend's own words. Where the reason says
//! `(incident 0000002a)`, a [`tracing`] event of level `ERROR` with the field
//! `incident="0000002a"` holds the rest: the component, the operation, the key
//! and the whole error.

mod airssys;
mod errors;
mod state;
mod trap;

pub use airssys::add_to_linker;
pub use state::{ComponentState, SandboxLimits, engine_config, new_store};
pub use trap::describe_failure;

/// The interface that [`add_to_linker`] provides, as guests import it.
pub const INTERFACE: &str = "airssys:core/storage@1.0.0";
