//! A host that is written as the crate `wasmtime-wasi-keyvalue` documents its interface. The
//! test of another crate compiles it against that crate.

use storage_host::wasmtime::component::{Component, Linker, ResourceTable};
use storage_host::wasmtime::{Engine, Error, Result, Store};
use storage_host::wasmtime_wasi::p2::{self, bindings::Command};
use storage_host::wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, runtime::in_tokio};

use crate::wasmtime_wasi_keyvalue::{self, WasiKeyValue, WasiKeyValueCtx, WasiKeyValueCtxBuilder};

struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    keyvalue: WasiKeyValueCtx,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Runs one of the committed commands.
pub(crate) fn run(guest: &str, wasi: WasiCtx, keyvalue: WasiKeyValueCtx) -> Result<()> {
    let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guests");
    let engine = Engine::default();
    let component = Component::from_file(&engine, format!("{guests}/{guest}.wasm"))?;
    let mut linker = Linker::new(&engine);
    p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_keyvalue::add_to_linker(&mut linker, |state: &mut State| {
        WasiKeyValue::new(&state.keyvalue, &mut state.table)
    })?;
    let state = State { table: ResourceTable::new(), wasi, keyvalue };
    in_tokio(async {
        let mut store = Store::new(&engine, state);
        let command = Command::instantiate_async(&mut store, &component, &linker).await?;
        let ended = command.wasi_cli_run().call_run(&mut store).await?;
        ended.map_err(|()| Error::msg("the command failed"))
    })
}

#[test]
fn the_scenario_of_the_crate_passes() {
    // Both ways to a builder, and each type of key and value that the crate takes.
    let keyvalue = WasiKeyValueCtx::builder()
        .in_memory_data(vec![("another".to_owned(), vec![1])])
        .in_memory_data([("atomics_key", "5")])
        .build();
    run("keyvalue-main", WasiCtx::builder().inherit_stderr().build(), keyvalue).unwrap();
    let empty = WasiKeyValueCtxBuilder::new().build();
    let ended = run("keyvalue-main", WasiCtx::builder().build(), empty);
    assert!(ended.is_err(), "the command finds no atomics_key");
}
