//! `airssys:core/storage`, without generated bindings, so that a value is copied only
//! once: between the guest's memory and the shared bytes of cache and backend.

use wasmtime::component::{ComponentType, Linker, Lower, WasmList, WasmStr};

use super::INTERFACE;
use super::call::{Cost, Functions, Linkage, StateOf, Target};
use super::errors::GuestError;
use crate::component_chain::ComponentUsage;

/// `storage-usage` of the interface.
#[derive(Debug, Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(super) struct GuestUsage {
    #[component(name = "used-bytes")]
    used_bytes: u64,
    #[component(name = "quota-bytes")]
    quota_bytes: u64,
    #[component(name = "key-count")]
    key_count: u64,
}

impl From<ComponentUsage> for GuestUsage {
    fn from(usage: ComponentUsage) -> Self {
        let ComponentUsage { used_bytes, quota_bytes, key_count } = usage;
        Self { used_bytes, quota_bytes, key_count }
    }
}

/// Adds `airssys:core/storage@1.0.0` to a linker.
pub(super) fn add_to_linker<T: 'static, L: Linkage<T>>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    let mut storage = Functions::<T, L, GuestError>::new(linker, INTERFACE, state)?;

    storage.add("get", |caller, (key,): (WasmStr,)| caller.get(Target::Own, &key))?;

    storage.add("set", |caller, (key, value): (WasmStr, WasmList<u8>)| {
        caller.set(Target::Own, &key, &value)
    })?;

    storage.add("delete", |caller, (key,): (WasmStr,)| caller.delete(Target::Own, &key))?;

    storage.add("exists", |caller, (key,): (WasmStr,)| caller.exists(Target::Own, &key))?;

    storage.add("list-keys", |caller, (prefix,): (Option<WasmStr>,)| {
        let prefix = prefix.map(|prefix| caller.key(&prefix)).transpose()?;
        caller.ask(Target::Own, "list-keys", Cost::Long, move |call| {
            let prefix = prefix.as_ref().map(|prefix| prefix.as_str());
            call.convert(prefix, call.storage().list_keys(prefix))
        })
    })?;

    storage.add("usage", |caller, (): ()| {
        caller.ask(Target::Own, "usage", Cost::Long, |call| {
            call.convert(None, call.own.component_usage().map(GuestUsage::from))
        })
    })
}
