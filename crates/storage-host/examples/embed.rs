//! A wasmtime host that gives each of two components its own storage.
//!
//! `cargo run -p storage-host --example embed`

#![expect(clippy::print_stdout, reason = "an example that prints its result")]

use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{Component, Linker, ResourceTable};
use storage_host::wasmtime::{Engine, error::Context};
use storage_host::wasmtime_wasi::p2::{self, bindings::sync::Command};
use storage_host::wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};
use storage_host::{Mode, StorageHost, StoreUrl};

/// The data of a wasmtime store: the guest's storage and WASI.
struct State {
    storage: ComponentState,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Once: create the store, the engine, the linker and the component.
    let store_url: StoreUrl = "memory:".parse()?; // or redb:./data.redb
    let host = StorageHost::new(store_url.open(Mode::ReadWrite)?);
    let engine = Engine::new(&guest::engine_config())?;
    let mut linker = Linker::<State>::new(&engine);
    p2::add_to_linker_sync(&mut linker)?;
    guest::add_to_linker(&mut linker, |state| &mut state.storage)?;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guests/counter.wasm");
    let counter = Component::from_file(&engine, file).context("cannot load the guest")?;

    // For each call: create a wasmtime store with the state of the called component.
    for id in ["app/counter/left", "app/counter/right", "app/counter/left"] {
        let state = State {
            storage: ComponentState::new(host.component(&id.parse()?)),
            wasi: WasiCtx::builder().inherit_stdout().build(),
            resources: ResourceTable::new(),
        };
        let mut store = guest::new_store(&engine, state, |state| &mut state.storage);
        print!("{id}: ");
        let command = Command::instantiate(&mut store, &counter, &linker)?;
        let ended = command.wasi_cli_run().call_run(&mut store);
        // A command that calls exit ends with this error.
        if let Err(error) = ended
            && !matches!(error.downcast_ref(), Some(I32Exit(0)))
        {
            return Err(error.into());
        }
    }
    Ok(())
}
