//! `run`: a component with storage of its own.

use std::path::Path;
use std::process::ExitCode;

use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{Component, Linker, ResourceTable};
use storage_host::wasmtime::{self, Engine};
use storage_host::wasmtime_wasi::p2::bindings::sync::CommandPre;
use storage_host::wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView, p2};
use storage_host::{ComponentId, ComponentStorage, Limits, Mode, StorageHost, StoreUrl};

use super::compiled;
use super::failure::Failure;
use super::inspect::open;

/// What a component runs with: its storage, and what WASI lends it.
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

/// Runs a component to its end and gives its own status.
pub(super) fn run(
    store: &StoreUrl,
    id: &ComponentId,
    component: &Path,
    args: &[String],
) -> Result<ExitCode, Failure> {
    // A component that cannot run must not leave a new store behind.
    let engine = compiled::engine()?;
    let command = compiled::load(&engine, component)?;
    let linked = link(&engine, &command, component)?;
    let host = open(store, Mode::ReadWrite)?;

    let ended = call(&engine, &linked, &host, id, component, args);
    // Also after a trap: what was written before it stays.
    host.backend().flush()?;
    ended
}

fn call(
    engine: &Engine,
    command: &CommandPre<State>,
    host: &StorageHost,
    id: &ComponentId,
    component: &Path,
    args: &[String],
) -> Result<ExitCode, Failure> {
    let name = component.file_name().unwrap_or_default().to_string_lossy();
    let state = State {
        storage: ComponentState::new(host.component(id)),
        wasi: WasiCtx::builder()
            .inherit_stdio()
            .arg(name)
            .args(args)
            .allow_blocking_current_thread(true)
            .build(),
        resources: ResourceTable::new(),
    };
    let mut store = guest::new_store(engine, state, |state| &mut state.storage);
    let ended = command
        .instantiate(&mut store)
        .and_then(|command| command.wasi_cli_run().call_run(&mut store));
    match ended {
        Ok(Ok(())) => Ok(ExitCode::SUCCESS),
        // The component says that it failed, and has said why itself.
        Ok(Err(())) => Ok(ExitCode::FAILURE),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(status)) => Ok(ExitCode::from(u8::try_from(*status).unwrap_or(1))),
            None => {
                tracing::debug!("{error:?}");
                let reason = guest::describe_failure(&error, &Limits::default());
                Err(Failure::new("trap", format!("{id} trapped: {reason}")))
            }
        },
    }
}

/// Finds everything that the component imports.
fn link(engine: &Engine, component: &Component, path: &Path) -> Result<CommandPre<State>, Failure> {
    let mut linker = Linker::<State>::new(engine);
    p2::add_to_linker_sync(&mut linker)
        .and_then(|()| {
            guest::add_to_linker_for(component, &mut linker, |state: &mut State| &mut state.storage)
        })
        .map_err(|error| {
            Failure::new("internal", format!("cannot set up the linker: {error:#}"))
        })?;
    let wrong = |message| Failure::new("component", format!("{}{message}", path.display()));
    let linked = linker
        .instantiate_pre(component)
        .map_err(|error| wrong(describe_missing(engine, component, &error)))?;
    CommandPre::new(linked).map_err(|_| {
        wrong(
            " exports no wasi:cli/run: run takes a command, such as a Rust program built for \
             wasm32-wasip2"
                .to_owned(),
        )
    })
}

/// What the interfaces that this host has begin with.
const HERE: [&str; 7] = [
    "airssys:core/storage@1.",
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// Names the import that the linker did not find.
fn describe_missing(engine: &Engine, component: &Component, error: &wasmtime::Error) -> String {
    let here = format!(
        "this host has {} and WASI 0.2 (cli, clocks, filesystem, io, random and sockets)",
        guest::INTERFACE
    );
    let shown = format!("{error:#}");
    let imports = component.component_type();
    let mut names = imports.imports(engine).map(|(name, _)| name);
    match names.find(|name| shown.contains(&format!("`{name}`"))) {
        Some(name) if !HERE.iter().any(|prefix| name.starts_with(prefix)) => {
            format!(" imports {name}, which this host does not have; {here}")
        }
        // The interface is here, but not with all that the component asks of it.
        _ => format!(" asks for something that this host does not have: {shown}; {here}"),
    }
}
