//! A wasmtime host on tokio, with an instance and a time limit for each request.
//!
//! `cargo run -p storage-host --example embed_async`

#![expect(clippy::print_stdout, reason = "an example that prints its result")]

use std::sync::Arc;
use std::time::Duration;

use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::Engine;
use storage_host::wasmtime::component::{Component, Linker, ResourceTable};
use storage_host::wasmtime_wasi::p2::{self, bindings::CommandPre, pipe::MemoryOutputPipe};
use storage_host::wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};
use storage_host::{ComponentChain, Mode, StorageHost, StoreUrl};

type Error = Box<dyn std::error::Error + Send + Sync>;

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

/// Runs a component for one request and returns what it prints.
async fn handle(
    storage: &Arc<ComponentChain>,
    counter: &CommandPre<State>,
) -> Result<String, Error> {
    let output = MemoryOutputPipe::new(1 << 16);
    let state = State {
        storage: ComponentState::new(Arc::clone(storage)),
        wasi: WasiCtx::builder().stdout(output.clone()).build(),
        resources: ResourceTable::new(),
    };
    let mut store = guest::new_async_store(counter.engine(), state, |state| &mut state.storage);
    let run = async {
        let command = counter.instantiate_async(&mut store).await?;
        command.wasi_cli_run().call_run(&mut store).await
    };
    // Whatever the guest does, computing or waiting for storage, it ends.
    let ended = tokio::time::timeout(Duration::from_secs(10), run).await?;
    // A command that calls exit ends with this error.
    if let Err(error) = ended
        && !matches!(error.downcast_ref(), Some(I32Exit(0)))
    {
        return Err(error.into());
    }
    Ok(String::from_utf8_lossy(&output.contents()).into_owned())
}

async fn serve(store_url: &str) -> Result<(), Error> {
    // Once: create the store, the engine, the linker and the component.
    let host = StorageHost::new(store_url.parse::<StoreUrl>()?.open(Mode::ReadWrite)?);
    let engine = Engine::new(&guest::async_engine_config())?;
    guest::start_clock(&engine)?;
    let mut linker = Linker::<State>::new(&engine);
    p2::add_to_linker_async(&mut linker)?;
    guest::add_to_linker_async(&mut linker, |state| &mut state.storage)?;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guests/counter.wasm");
    let counter = Component::from_file(&engine, file)?;
    let counter = CommandPre::new(linker.instantiate_pre(&counter)?)?;
    // Once for each component: its storage, whose cache lasts as long as this handle.
    let left = host.component(&"app/counter/left".parse()?);
    let right = host.component(&"app/counter/right".parse()?);
    // For each request; a server spawns a task for each.
    for storage in [&left, &right, &left] {
        print!("{}: {}", storage.id(), handle(storage, &counter).await?);
    }
    Ok(host.drain(Duration::from_secs(10)).await?)
}

fn main() -> Result<(), Error> {
    let directory = tempfile::tempdir()?;
    let store_url = format!("redb:{}/data.redb", directory.path().display());
    tokio::runtime::Runtime::new()?.block_on(serve(&store_url))
}
