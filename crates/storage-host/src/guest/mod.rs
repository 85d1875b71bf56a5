//! Storage for the guests of a wasmtime host.
//!
//! Five lines give every component of a host its own storage. `examples/embed.rs` is the
//! whole program:
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
//! With this linker a guest that waits for the store blocks its thread, also if the linker has
//! functions of `wasmtime_wasi`'s asynchronous linker. Hosts on tokio use
//! `add_to_linker_async` (feature `async`, `examples/embed_async.rs`).
//!
//! # Guests that do not end
//!
//! [`new_store`] bounds the memory of a guest. The embedder bounds its run time with
//! wasmtime's epochs:
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
//! With `epoch_interruption`, a store without a deadline ends its guest at once. Calls to
//! the host are not interrupted. The limits bound calls to storage, but a guest can wait
//! in WASI for input or a time of its choice: an embedder who provides WASI must bound
//! this too.
//!
//! # Errors
//!
//! A guest gets the errors of the interface, with its key or a short reason: never a path,
//! a key of another component, or the text of a backend. If the reason contains
//! `(incident 0000002a)`, a [`tracing`] event of level `ERROR` with the field
//! `incident="0000002a"` has the component, the operation, the key and the whole error.
//!
//! # The log of a component
//!
//! A line that a component logs through `wasi:logging` is a [`tracing`] event with the
//! target [`LOG_TARGET`], the message `guest log` and these fields:
//!
//! | field | content |
//! |---|---|
//! | `component` | the component's id |
//! | `context` | the context, unless it is empty; at most 256 bytes |
//! | `text` | the message; at most 4,096 bytes |
//! | `critical` | `true` for the level `critical`, which is logged as `ERROR` |
//!
//! Control characters, line separators and characters that change the direction of text
//! are escaped, as in `\n` and `\u{202e}`. A longer text ends in `... (truncated from 9000
//! bytes)`. A component, with all its instances, logs at most 100 lines per second. The
//! others are counted: an event of the level `ERROR` with the same target and the fields
//! `component` and `suppressed` reports them before the component's next line, or when its
//! chain is dropped. Lines of levels that no subscriber wants do not count.

mod airssys;
#[cfg(feature = "async")]
mod asynchronous;
mod batch;
mod bucket;
mod call;
mod config;
mod deadline;
mod errors;
mod extended;
#[cfg(feature = "memory")]
pub(crate) mod in_table;
pub(crate) mod incident;
mod key;
mod keyvalue;
pub(crate) mod logging;
#[cfg(feature = "p3")]
mod p3;
mod spin;
mod state;
mod trap;
mod verbs;

use wasmtime::component::{Component, Linker};

#[cfg(feature = "async")]
use asynchronous::Offloading;
use call::{InPlace, Linkage, StateOf};

#[cfg(feature = "memory")]
use in_table::WasiKeyValue;

pub use deadline::{EPOCH, set_timeout, start_clock};
#[cfg(feature = "p3")]
pub use p3::CONCURRENT_CALLS;
pub use state::{ComponentState, SandboxLimits, engine_config, new_store};
#[cfg(feature = "async")]
pub use state::{async_engine_config, new_async_store};
pub use trap::describe_failure;

pub use crate::log_budget::LOG_TARGET;

/// The interface for single keys, as guests import it.
pub const INTERFACE: &str = "airssys:core/storage@1.0.0";

/// The interface for pages, several keys and conditional writes.
pub const EXTENDED: &str = "airssys:storage/extended@0.1.0";

/// The stores of Spin.
pub const SPIN: &str = "fermyon:spin/key-value@2.0.0";

/// Adds every interface of this host to a linker. `state` finds the [`ComponentState`] in
/// the data of the guest's store.
///
/// - [`airssys:core/storage@1.0.0`](INTERFACE);
/// - [`airssys:storage/extended@0.1.0`](EXTENDED);
/// - `wasi:keyvalue` `store`, `atomics` and `batch`, in the drafts `0.2.0-draft`
///   and `0.2.0-draft2`;
/// - [`fermyon:spin/key-value@2.0.0`](SPIN);
/// - `wasi:config/store` in `0.2.0-draft`, `0.2.0-draft-2024-09-27` and `0.2.0-rc.1`, and
///   under its older name `wasi:config/runtime@0.2.0-draft`: the component's
///   [configuration](crate::ComponentConfig);
/// - `wasi:logging/logging` in `0.1.0-draft` and without a version:
///   [the log](self#the-log-of-a-component).
///
/// `get-many` of the second draft has the type of the specification. Components built
/// for Spin expect another type, which [`add_to_linker_for`] provides.
///
/// # Errors
/// If the linker already has one of the interfaces.
pub fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    add_all::<T, InPlace>(linker, keyvalue::Shape::Upstream, StateOf::Field(state))
}

/// Like [`add_to_linker`], for one component. If an interface exists with different types
/// under one name, the component's imports select them.
///
/// # Errors
/// As [`add_to_linker`].
pub fn add_to_linker_for<T: 'static>(
    component: &Component,
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    add_all::<T, InPlace>(linker, keyvalue::shape_for(component), StateOf::Field(state))
}

/// Like [`add_to_linker`], for an asynchronous linker: a guest that waits for storage does not
/// block its executor ([`Offload`](crate::Offload)).
///
/// The same functions, with the same answers and errors; a call that finds no free thread in
/// time fails as `io-error` and has changed nothing. wasmtime then requires the asynchronous
/// methods of a store, such as `instantiate_async` and `call_async`. Poll their futures in a
/// tokio runtime with timers.
///
/// A future may be dropped at any time. A write that storage has begun then completes, and
/// any other never happens.
///
/// With the feature `p3`, and in an engine with concurrency support, also:
///
/// - `spin:key-value/key-value@3.0.0`;
/// - `wasmcloud:keyvalue@0.2.0`: `types`, `store`, `atomics`, `cas` and `batch`.
///
/// Their functions are `async`: a guest can have up to `CONCURRENT_CALLS` calls in progress.
///
/// # Errors
/// As [`add_to_linker`].
///
/// # Panics
/// The guest's calls, not this one: in a runtime without timers, and inside a
/// `tokio::task::LocalSet` unless [`BriefReads::Offload`](crate::BriefReads) is set.
#[cfg(feature = "async")]
pub fn add_to_linker_async<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    add_all_async(linker, keyvalue::Shape::Upstream, StateOf::Field(state))
}

/// Like [`add_to_linker_async`], for one component, as [`add_to_linker_for`].
///
/// # Errors
/// As [`add_to_linker`].
#[cfg(feature = "async")]
pub fn add_to_linker_async_for<T: Send + 'static>(
    component: &Component,
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    add_all_async(linker, keyvalue::shape_for(component), StateOf::Field(state))
}

#[cfg(feature = "async")]
fn add_all_async<T: Send + 'static>(
    linker: &mut Linker<T>,
    shape: keyvalue::Shape,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    #[cfg(feature = "p3")]
    p3::add_to_linker(linker, state)?;
    add_all::<T, Offloading>(linker, shape, state)
}

fn add_all<T: 'static, L: Linkage<T>>(
    linker: &mut Linker<T>,
    shape: keyvalue::Shape,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    airssys::add_to_linker::<T, L>(linker, state)?;
    extended::add_to_linker::<T, L>(linker, state)?;
    keyvalue::add_to_linker::<T, L>(linker, shape, state)?;
    spin::add_to_linker::<T, L>(linker, state)?;
    config::add_to_linker(linker, state)?;
    logging::add_to_linker(linker, state)
}

/// The interfaces that [`add_to_linker`] adds, as components import them.
pub fn interfaces() -> impl Iterator<Item = String> {
    let named = [INTERFACE, EXTENDED, SPIN].into_iter();
    let named = named.chain(config::INTERFACES).chain(logging::INTERFACES).map(str::to_owned);
    named.chain(keyvalue::interfaces())
}

/// Whether an import of a component is one of the interfaces that [`add_to_linker`] adds.
pub fn provides(import: &str) -> bool {
    interfaces().any(|name| name == import)
}

/// Whether an import of a component is one of the interfaces that
/// [`add_to_linker_async`] adds, in an engine with [`async_engine_config`].
#[cfg(feature = "async")]
pub fn provides_async(import: &str) -> bool {
    #[cfg(feature = "p3")]
    if p3::has(import) {
        return true;
    }
    provides(import)
}

/// Adds the first draft of `wasi:keyvalue`, for guests whose state is in a table.
#[cfg(feature = "memory")]
pub(crate) fn add_first_draft<T: 'static>(
    linker: &mut Linker<T>,
    table: fn(&mut T) -> WasiKeyValue<'_>,
) -> wasmtime::Result<()> {
    keyvalue::add_first_draft::<T, InPlace>(linker, StateOf::InTable(table))
}

/// The same for an asynchronous linker.
#[cfg(all(feature = "memory", feature = "async"))]
pub(crate) fn add_first_draft_async<T: Send + 'static>(
    linker: &mut Linker<T>,
    table: fn(&mut T) -> WasiKeyValue<'_>,
) -> wasmtime::Result<()> {
    keyvalue::add_first_draft::<T, Offloading>(linker, StateOf::InTable(table))
}
