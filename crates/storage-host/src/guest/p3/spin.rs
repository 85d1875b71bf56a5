//! `spin:key-value@3.0.0`.

use wasmtime::component::{Linker, Resource, WasmStr};

use super::linkage::Overlapping;
use super::listing;
use crate::guest::bucket::Bucket;
use crate::guest::call::{Functions, StateOf};
use crate::guest::spin::Error;

pub(super) const NAME: &str = "spin:key-value/key-value@3.0.0";

/// Adds the interface to a linker.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    let mut store = Functions::<T, Overlapping, Error>::new(linker, NAME, state)?;

    store.add_resource::<Bucket>("store")?;

    store.add_ready("[static]store.open", |caller, (label,): (WasmStr,)| caller.open(&label))?;

    store.add_verbs("store")?;

    store.add_ready("[method]store.get-keys", |caller, (handle,): (Resource<Bucket>,)| {
        listing::start(caller, &handle)
    })
}
