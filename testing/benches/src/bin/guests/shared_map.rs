//! The core interface over the least that instances on several threads can share: one map
//! behind one lock.
//!
//! It has no components, no rules for keys, no limits, quotas, revisions, order, metrics or
//! shutdown. What it takes above the floor is what any shared store in memory takes.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::RandomState;
use wasmtime::component::{Linker, WasmList, WasmStr};
use wasmtime::{Engine, Store, StoreContextMut};

use crate::floor::{self, Constants, CoreError};

type Map = Arc<RwLock<HashMap<Box<str>, Arc<[u8]>, RandomState>>>;

/// A host whose functions for single keys use a map. The others return a constant.
pub(crate) fn host(engine: &Engine) -> wasmtime::Result<(Linker<Constants>, Store<Constants>)> {
    let (mut linker, store) = floor::host(engine)?;
    linker.allow_shadowing(true);
    let mut interface = linker.instance(floor::CORE)?;
    let map = Map::default();
    let shared = Arc::clone(&map);
    interface.func_wrap("get", move |store: StoreContextMut<'_, _>, (key,): (WasmStr,)| {
        let map = shared.read().unwrap_or_else(PoisonError::into_inner);
        Ok((Ok::<_, CoreError>(map.get(&*key.to_str(&store)?).cloned()),))
    })?;
    let shared = Arc::clone(&map);
    interface.func_wrap("exists", move |store: StoreContextMut<'_, _>, (key,): (WasmStr,)| {
        let map = shared.read().unwrap_or_else(PoisonError::into_inner);
        Ok((Ok::<_, CoreError>(map.contains_key(&*key.to_str(&store)?)),))
    })?;
    interface.func_wrap(
        "set",
        move |store: StoreContextMut<'_, _>, (key, value): (WasmStr, WasmList<u8>)| {
            let value: Arc<[u8]> = value.as_le_slice(&store).into();
            let key = key.to_str(&store)?;
            let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
            match map.get_mut(&*key) {
                Some(found) => *found = value,
                None => drop(map.insert(key.into(), value)),
            }
            Ok((Ok::<_, CoreError>(()),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok((linker, store))
}
