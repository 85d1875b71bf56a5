//! The committed guests in an embedding host: commands that run to their end, and a library
//! that is called repeatedly.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use storage_core::conformance::ReferenceStorage;
use storage_host::guest::{self, ComponentState, describe_failure};
use storage_host::wasmtime::component::{Component, Linker, ResourceTable, TypedFunc};
use storage_host::wasmtime::{self, Store};
#[cfg(feature = "async")]
use storage_host::wasmtime_wasi::p2::bindings::Command;
use storage_host::wasmtime_wasi::p2::{self, bindings::sync, pipe::MemoryOutputPipe};
use storage_host::wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};
use storage_host::{Limits, Mode, StorageHost, StoreUrl};

use crate::raw::ENGINE;
#[cfg(any(feature = "postgres", feature = "redis"))]
use crate::server::Engine;

/// What a guest runs with.
pub(crate) struct State {
    pub(crate) storage: ComponentState,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl State {
    pub(crate) fn new(host: &StorageHost, id: &str, wasi: WasiCtx) -> Self {
        let storage = ComponentState::new(host.component(&id.parse().unwrap()));
        Self { storage, wasi, resources: ResourceTable::new() }
    }
}

/// A committed guest, compiled once.
pub(crate) fn load(guest: &str) -> Component {
    static COMPILED: LazyLock<Mutex<HashMap<String, Component>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap();
    let component = compiled
        .entry(guest.to_owned())
        .or_insert_with(|| Component::from_file(&ENGINE, guest_file(guest)).unwrap());
    component.clone()
}

/// The path of a committed guest.
pub(crate) fn guest_file(guest: &str) -> String {
    format!("{}/../../examples/guests/{guest}.wasm", env!("CARGO_MANIFEST_DIR"))
}

/// The linker that a guest runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linkage {
    Sync,
    #[cfg(feature = "async")]
    Async,
}

/// A linker with all that a component may import.
pub(crate) fn linker_for(component: &Component, linkage: Linkage) -> Linker<State> {
    let mut linker = Linker::new(&ENGINE);
    let storage: fn(&mut State) -> &mut ComponentState = |state| &mut state.storage;
    match linkage {
        Linkage::Sync => {
            p2::add_to_linker_sync(&mut linker).unwrap();
            guest::add_to_linker_for(component, &mut linker, storage).unwrap();
        }
        #[cfg(feature = "async")]
        Linkage::Async => {
            p2::add_to_linker_async(&mut linker).unwrap();
            guest::add_to_linker_async_for(component, &mut linker, storage).unwrap();
        }
    }
    linker
}

/// A host with one of the committed commands.
pub(crate) struct Runner {
    host: StorageHost,
    linkage: Linkage,
    linker: Linker<State>,
    component: Component,
}

/// How a guest ended: its status, or why it trapped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: Result<i32, String>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Runner {
    pub(crate) fn new(host: StorageHost, guest: &str) -> Self {
        Self::with(Linkage::Sync, host, guest)
    }

    pub(crate) fn with(linkage: Linkage, host: StorageHost, guest: &str) -> Self {
        let component = load(guest);
        Self { host, linkage, linker: linker_for(&component, linkage), component }
    }

    pub(crate) fn run(&self, id: &str, args: &[&str]) -> Ended {
        let (stdout, stderr) = (MemoryOutputPipe::new(1 << 20), MemoryOutputPipe::new(1 << 20));
        let mut wasi = WasiCtx::builder();
        wasi.stdout(stdout.clone()).stderr(stderr.clone()).arg("guest").args(args);
        let state = State::new(&self.host, id, wasi.build());
        let mut store: Store<State> = guest::new_store(&ENGINE, state, |state| &mut state.storage);
        let status = match self.call_run(&mut store) {
            Ok(Ok(())) => Ok(0),
            Ok(Err(())) => Ok(1),
            Err(error) => match error.downcast_ref() {
                Some(I32Exit(status)) => Ok(*status),
                None => Err(describe_failure(&error, &Limits::default())),
            },
        };
        let text = |pipe: &MemoryOutputPipe| String::from_utf8(pipe.contents().to_vec()).unwrap();
        Ended { status, stdout: text(&stdout), stderr: text(&stderr) }
    }

    fn call_run(&self, store: &mut Store<State>) -> wasmtime::Result<Result<(), ()>> {
        match self.linkage {
            Linkage::Sync => sync::Command::instantiate(&mut *store, &self.component, &self.linker)
                .unwrap()
                .wasi_cli_run()
                .call_run(store),
            #[cfg(feature = "async")]
            Linkage::Async => crate::asynchronous::RUNTIME.block_on(async {
                let command =
                    Command::instantiate_async(&mut *store, &self.component, &self.linker).await;
                command.unwrap().wasi_cli_run().call_run(store).await
            }),
        }
    }

    /// What a run that ends well prints.
    pub(crate) fn printed(&self, id: &str, args: &[&str]) -> String {
        let ended = self.run(id, args);
        assert_eq!((ended.status, ended.stderr.as_str()), (Ok(0), ""));
        ended.stdout
    }
}

/// An instance of the guest `session`, which keeps its handles between calls.
pub(crate) struct Session {
    store: Store<State>,
    call: TypedFunc<(Vec<String>,), (String,)>,
}

impl Session {
    pub(crate) fn new(host: &StorageHost, id: &str) -> Self {
        let component = load("session");
        let state = State::new(host, id, WasiCtx::builder().build());
        let mut store: Store<State> = guest::new_store(&ENGINE, state, |state| &mut state.storage);
        let linker = linker_for(&component, Linkage::Sync);
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let call = instance.get_typed_func(&mut store, "call").unwrap();
        Self { store, call }
    }

    /// The same with handles of both drafts and of the extended interface on a
    /// store.
    pub(crate) fn with_open(host: &StorageHost, id: &str, name: &str) -> Self {
        let mut session = Self::new(host, id);
        for interface in ["draft", "draft2", "extended"] {
            assert_eq!(session.call(&[interface, "open", name]), "ok", "{interface}");
        }
        session
    }

    pub(crate) fn call(&mut self, words: &[&str]) -> String {
        let words = words.iter().map(ToString::to_string).collect();
        self.call.call(&mut self.store, (words,)).unwrap().0
    }

    /// Calls with the words of a text, which has spaces between them.
    pub(crate) fn say(&mut self, text: &str) -> String {
        self.call(&text.split(' ').collect::<Vec<_>>())
    }
}

pub(crate) fn memory() -> StorageHost {
    StorageHost::new(Arc::new(ReferenceStorage::new()))
}

/// A host on a store of this kind in a directory; `None` if it is not compiled in, or without
/// a server.
/// What a guest sees does not depend on durability, and the weakest is fastest.
pub(crate) fn host_on(kind: &str, directory: &Path) -> Option<StorageHost> {
    let features = [
        ("memory", cfg!(feature = "memory")),
        ("file", cfg!(feature = "file")),
        ("redb", cfg!(feature = "redb")),
        ("rocksdb", cfg!(feature = "rocksdb")),
        ("postgres", cfg!(feature = "postgres")),
        ("redis", cfg!(feature = "redis")),
        ("redis_cluster", cfg!(feature = "redis")),
    ];
    if !features.contains(&(kind, true)) {
        println!("SKIPPED {kind}: built without the feature");
        return None;
    }
    let path = directory.join(kind);
    let url = match kind {
        "memory" => "memory:".to_owned(),
        "redb" => format!("redb:{}?durability=relaxed", path.display()),
        #[cfg(feature = "postgres")]
        "postgres" => Engine::Postgres.relaxed(&Engine::Postgres.url("guest")?),
        #[cfg(feature = "redis")]
        "redis" => Engine::Redis.url("guest")?,
        #[cfg(feature = "redis")]
        "redis_cluster" => Engine::RedisCluster.url("guest")?,
        _ => format!("{kind}:{}?durability=os", path.display()),
    };
    let url: StoreUrl = url.parse().unwrap();
    Some(StorageHost::new(url.open(Mode::ReadWrite).unwrap()))
}
