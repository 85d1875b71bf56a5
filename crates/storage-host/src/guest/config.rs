//! `wasi:config`: the configuration that the operator gives a component.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Linker, Lower, WasmStr};

use super::call::StateOf;

/// The names under which components import the interface. `wasi:config/runtime` is the
/// older name; all have the same functions.
pub(super) const INTERFACES: [&str; 4] = [
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/store@0.2.0-draft",
    // In Spin.
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/runtime@0.2.0-draft",
];

/// `error` of the interface. The configuration is in memory, so a call cannot fail.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "part of the functions' type")]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

/// Adds the interface under each of its names.
pub(super) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    for name in INTERFACES {
        let mut interface = linker.instance(name)?;
        interface.func_wrap("get", move |mut store, (name,): (WasmStr,)| {
            let config = state.find(store.data_mut()).storage().config().clone();
            let value = config.find(&name.to_str(&store)?).map(Arc::clone);
            Ok((Ok::<_, Error>(value),))
        })?;
        interface.func_wrap("get-all", move |mut store, (): ()| {
            let entries = Arc::clone(state.find(store.data_mut()).storage().config().entries());
            Ok((Ok::<_, Error>(entries),))
        })?;
    }
    Ok(())
}
