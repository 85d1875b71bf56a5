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
#[cfg(feature = "p3")]
pub(super) use {
    atomics::increment,
    batch::{delete_many, present, set_many},
};
pub(super) use error::Error;

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
    store::add::<u64, T, L>(linker, &interface("store", DRAFT), state)?;
    atomics::add_increment::<u64, T, L>(linker, &interface("atomics", DRAFT), state)?;
    batch::add::<T, L>(linker, &interface("batch", DRAFT), Shape::Upstream, state)?;

    store::add::<String, T, L>(linker, &interface("store", DRAFT_2), state)?;
    atomics::add_increment::<i64, T, L>(linker, &interface("atomics", DRAFT_2), state)?;
    atomics::add_swap::<T, L>(linker, &interface("atomics", DRAFT_2), state)?;
    batch::add::<T, L>(linker, &interface("batch", DRAFT_2), shape, state)
}

/// The type of `get-many` of the second draft that a component imports.
pub(super) fn shape_for(component: &Component) -> Shape {
    Shape::imported_by(component, &interface("batch", DRAFT_2))
}

/// Whether an import is one of these interfaces.
pub(super) fn has(import: &str) -> bool {
    let Some((name, version)) =
        import.strip_prefix("wasi:keyvalue/").and_then(|rest| rest.split_once('@'))
    else {
        return false;
    };
    ["store", "atomics", "batch"].contains(&name) && [DRAFT, DRAFT_2].contains(&version)
}

fn interface(name: &str, version: &str) -> String {
    format!("wasi:keyvalue/{name}@{version}")
}
