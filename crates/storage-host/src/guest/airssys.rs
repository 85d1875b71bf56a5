//! `airssys:core/storage`, without generated bindings, so that a value is copied only
//! once: between the guest's memory and the shared bytes of cache and backend.

use std::sync::Arc;

use storage_core::{ComponentStorage, StorageError, StorageValue};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, WasmList, WasmStr};

use super::INTERFACE;
use super::errors::{Call, GuestError};
use super::state::ComponentState;
use crate::host::{ComponentChain, ComponentUsage};

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
pub(super) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    // Cloning the handle releases the borrow of the store, so that keys can be read in the
    // guest's memory.
    let chain_of = move |store: &mut StoreContextMut<'_, T>| {
        state(store.data_mut()).storage_for_call().map(Arc::clone)
    };
    let mut interface = linker.instance(INTERFACE)?;

    interface.func_wrap("get", move |mut store, (key,): (WasmStr,)| {
        let chain = chain_of(&mut store)?;
        let key = key.to_str(&store)?;
        let found = to_guest(&chain, "get", Some(&key), chain.get(&key));
        Ok((found.map(|value| value.map(StorageValue::into_shared)),))
    })?;

    interface.func_wrap("set", move |mut store, (key, value): (WasmStr, WasmList<u8>)| {
        let chain = chain_of(&mut store)?;
        let key = key.to_str(&store)?;
        // Checked before it is copied.
        let result = chain.limits().check_value_len(value.len()).and_then(|()| {
            let value = StorageValue::from(value.as_le_slice(&store));
            chain.set(&key, value)
        });
        Ok((to_guest(&chain, "set", Some(&key), result),))
    })?;

    interface.func_wrap("delete", move |mut store, (key,): (WasmStr,)| {
        let chain = chain_of(&mut store)?;
        let key = key.to_str(&store)?;
        Ok((to_guest(&chain, "delete", Some(&key), chain.delete(&key)),))
    })?;

    interface.func_wrap("exists", move |mut store, (key,): (WasmStr,)| {
        let chain = chain_of(&mut store)?;
        let key = key.to_str(&store)?;
        Ok((to_guest(&chain, "exists", Some(&key), chain.exists(&key)),))
    })?;

    interface.func_wrap("list-keys", move |mut store, (prefix,): (Option<WasmStr>,)| {
        let chain = chain_of(&mut store)?;
        let prefix = prefix.map(|prefix| prefix.to_str(&store)).transpose()?;
        let prefix = prefix.as_deref();
        Ok((to_guest(&chain, "list-keys", prefix, chain.list_keys(prefix)),))
    })?;

    interface.func_wrap("usage", move |mut store, (): ()| {
        let chain = chain_of(&mut store)?;
        let usage = chain.component_usage().map(GuestUsage::from);
        Ok((to_guest(&chain, "usage", None, usage),))
    })?;

    Ok(())
}

fn to_guest<R>(
    chain: &ComponentChain,
    operation: &'static str,
    key: Option<&str>,
    result: Result<R, StorageError>,
) -> Result<R, GuestError> {
    result.map_err(|error| Call { chain, limits: chain.limits(), operation, key }.error(&error))
}
