//! `wasi:keyvalue` for guests that were built for other hosts: the drafts `0.2.0-draft` and
//! `0.2.0-draft2`, on the same data as `airssys:core/storage`.
//!
//! The drafts differ in the types of cursors and increments, and the second adds
//! compare-and-swap. `store`, `atomics` and `batch` implement both.

mod atomics;
mod batch;
mod error;
mod store;

pub(super) use batch::Shape;
pub(super) use error::Error;
#[cfg(feature = "p3")]
pub(super) use {
    atomics::increment,
    batch::{delete_many, present, set_many},
};

use wasmtime::component::{Component, Linker};

use super::call::{Linkage, StateOf};

const DRAFT: &str = "0.2.0-draft";
const DRAFT_2: &str = "0.2.0-draft2";

/// Adds all interfaces of both drafts to a linker.
pub(super) fn add_to_linker<T: 'static, L: Linkage<T>>(
    linker: &mut Linker<T>,
    shape: Shape,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    add_first_draft::<T, L>(linker, state)?;

    store::add::<String, T, L>(linker, &interface("store", DRAFT_2), state)?;
    atomics::add_increment::<i64, T, L>(linker, &interface("atomics", DRAFT_2), state)?;
    atomics::add_swap::<T, L>(linker, &interface("atomics", DRAFT_2), state)?;
    batch::add::<T, L>(linker, &interface("batch", DRAFT_2), shape, state)
}

/// The type of `get-many` of the second draft that a component imports.
pub(super) fn shape_for(component: &Component) -> Shape {
    Shape::imported_by(component, &interface("batch", DRAFT_2))
}

/// Adds the interfaces of the first draft to a linker.
pub(super) fn add_first_draft<T: 'static, L: Linkage<T>>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    store::add::<u64, T, L>(linker, &interface("store", DRAFT), state)?;
    atomics::add_increment::<u64, T, L>(linker, &interface("atomics", DRAFT), state)?;
    batch::add::<T, L>(linker, &interface("batch", DRAFT), Shape::Upstream, state)
}

/// The names of all these interfaces.
pub(super) fn interfaces() -> impl Iterator<Item = String> {
    let of_draft = |draft| ["store", "atomics", "batch"].map(|name| interface(name, draft));
    [DRAFT, DRAFT_2].into_iter().flat_map(of_draft)
}

fn interface(name: &str, version: &str) -> String {
    format!("wasi:keyvalue/{name}@{version}")
}
