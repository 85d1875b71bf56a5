//! How often a storage call of a guest allocates, compared with a host function that
//! returns a constant. Counting replaces the allocator, so this is a process of its own.

#![cfg(all(feature = "wasmtime", feature = "memory"))]
#![allow(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::sync::Arc;

use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{
    Component, Linker, Resource, ResourceType, Val, WasmList, WasmStr,
};
use storage_host::wasmtime::{self, Engine, Store, StoreContextMut};
use storage_host::{Mode, StorageHost, StoreUrl};

/// The guests of the benchmarks, which make many calls with few instructions.
const MEMORY: &str = include_str!("../../../testing/benches/src/bin/guests/wat/memory.wat");
const CORE: &str = include_str!("../../../testing/benches/src/bin/guests/wat/core.wat");
const DRAFT: &str = include_str!("../../../testing/benches/src/bin/guests/wat/draft.wat");

const CALLS: u32 = 100;

#[test]
fn calls_of_guests_allocate_little() {
    let engine = Engine::new(&guest::engine_config()).unwrap();
    let keys: String = (0..100).map(|number| format!("user/profile/{number:03}")).collect();
    // The allocations of a call beyond those of a constant. A set makes the value. An
    // increment also makes its commit: a check and a write, each with a key, in two lists.
    let of_core = [("get", 0), ("exists", 0), ("set", 1)];
    let of_draft = [("get", 0), ("exists", 0), ("set", 1), ("increment", 5)];
    for (dialect, text, expected) in [("core", CORE, &of_core[..]), ("draft", DRAFT, &of_draft[..])]
    {
        let text = format!("(component {MEMORY}\n{text})").replace("KEYS", &keys);
        let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();

        let mut linker = Linker::new(&engine);
        constants(&mut linker).unwrap();
        let mut floor =
            start(&component, linker, Store::new(&engine, b"a value".as_slice().into()));

        let store: StoreUrl = "memory:".parse().unwrap();
        let host = StorageHost::new(store.open(Mode::ReadWrite).unwrap());
        let mut linker = Linker::new(&engine);
        guest::add_to_linker(&mut linker, |state: &mut ComponentState| state).unwrap();
        let state = ComponentState::new(host.component(&"a/b/1".parse().unwrap()));
        let mut ours = start(&component, linker, guest::new_store(&engine, state, |state| state));

        for (operation, expected) in expected {
            let [floor, ours] = [&mut floor, &mut ours].map(|run| run(operation));
            let each = ours.saturating_sub(floor).div_ceil(u64::from(CALLS));
            assert_eq!(each, *expected, "{dialect}: {operation}");
        }
    }
}

/// A call of an asynchronous linker that is answered at once allocates once more than the same
/// call of a synchronous one: for its future.
#[cfg(all(feature = "async", feature = "file"))]
#[test]
fn calls_of_asynchronous_hosts_allocate_once_more() {
    let directory = tempfile::tempdir().unwrap();
    let file = format!("file:{}", directory.path().join("store").display());
    let engine = Engine::new(&guest::engine_config()).unwrap();
    let keys: String = (0..100).map(|number| format!("user/profile/{number:03}")).collect();
    // A store that never blocks, and one that may, whose values are cached.
    let memory = &["get", "exists", "set", "increment"][..];
    for (store, operations) in [("memory:", memory), (file.as_str(), &["get", "exists"])] {
        let text = format!("(component {MEMORY}\n{DRAFT})").replace("KEYS", &keys);
        let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let store: StoreUrl = store.parse().unwrap();
        let host = StorageHost::new(store.open(Mode::ReadWrite).unwrap());
        let state = || {
            let state = ComponentState::new(host.component(&"a/b/1".parse().unwrap()));
            guest::new_store(&engine, state, |state| state)
        };
        let mut linker = Linker::new(&engine);
        guest::add_to_linker(&mut linker, |state: &mut ComponentState| state).unwrap();
        let mut in_place = start(&component, linker, state());
        let mut linker = Linker::new(&engine);
        guest::add_to_linker_async(&mut linker, |state: &mut ComponentState| state).unwrap();
        let mut asynchronous = start_async(&component, linker, state());
        for operation in operations {
            let [in_place, asynchronous] =
                [&mut in_place, &mut asynchronous].map(|run| run(operation));
            let more = asynchronous.saturating_sub(in_place).div_ceil(u64::from(CALLS));
            assert_eq!(more, 1, "{operation}: {in_place} and {asynchronous}");
        }
    }
}

/// Starts a guest. The result makes [`CALLS`] calls and returns how often they allocated.
fn start<T: 'static>(
    component: &Component,
    mut linker: Linker<T>,
    mut store: Store<T>,
) -> Box<dyn FnMut(&str) -> u64> {
    linker.define_unknown_imports_as_traps(component).unwrap();
    let instance = linker.instantiate(&mut store, component).unwrap();
    let run = instance.get_func(&mut store, "run").unwrap();
    counted(move |arguments, sum| run.call(&mut store, arguments, sum).unwrap())
}

/// The same with an asynchronous linker, on this thread.
#[cfg(all(feature = "async", feature = "file"))]
fn start_async<T: Send + 'static>(
    component: &Component,
    mut linker: Linker<T>,
    mut store: Store<T>,
) -> Box<dyn FnMut(&str) -> u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    linker.define_unknown_imports_as_traps(component).unwrap();
    let instance = runtime.block_on(linker.instantiate_async(&mut store, component)).unwrap();
    let run = instance.get_func(&mut store, "run").unwrap();
    counted(move |arguments, sum| {
        runtime.block_on(run.call_async(&mut store, arguments, sum)).unwrap();
    })
}

/// Prepares a guest with `call`, which calls its function. The result makes [`CALLS`] calls
/// and returns how often they allocated.
fn counted(mut call: impl FnMut(&[Val], &mut [Val]) + 'static) -> Box<dyn FnMut(&str) -> u64> {
    let mut run = move |operation: &str, times| {
        let arguments = [
            Val::Enum("core".to_owned()),
            Val::Enum(operation.to_owned()),
            Val::U32(times),
            Val::U32(100),
        ];
        let mut sum = [Val::U64(0)];
        let counted = allocation_counter::measure(|| call(&arguments, &mut sum));
        assert_ne!(sum, [Val::U64(u64::MAX)], "{operation} failed");
        counted.count_total
    };
    run("prepare", 1);
    Box::new(move |operation| {
        // The first calls set up what every call needs.
        run(operation, CALLS);
        let other = run(operation, 0);
        run(operation, CALLS) - other
    })
}

/// Adds functions that return a constant: the data of the store.
fn constants(linker: &mut Linker<Arc<[u8]>>) -> wasmtime::Result<()> {
    type Context<'a> = StoreContextMut<'a, Arc<[u8]>>;
    type Handle = Resource<()>;
    let mut core = linker.instance("airssys:core/storage@1.0.0")?;
    core.func_wrap("get", |store: Context<'_>, (_,): (WasmStr,)| {
        Ok((Ok::<_, CoreError>(Some(Arc::clone(store.data()))),))
    })?;
    core.func_wrap("exists", |_: Context<'_>, (_,): (WasmStr,)| Ok((Ok::<_, CoreError>(true),)))?;
    core.func_wrap("set", |_: Context<'_>, (_, _): (WasmStr, WasmList<u8>)| {
        Ok((Ok::<_, CoreError>(()),))
    })?;

    let mut draft = linker.instance("wasi:keyvalue/store@0.2.0-draft")?;
    draft.resource("bucket", ResourceType::host::<()>(), |_, _| Ok(()))?;
    draft.func_wrap("open", |_: Context<'_>, (_,): (WasmStr,)| {
        Ok((Ok::<_, DraftError>(Handle::new_own(0)),))
    })?;
    draft.func_wrap("[method]bucket.get", |store: Context<'_>, (_, _): (Handle, WasmStr)| {
        Ok((Ok::<_, DraftError>(Some(Arc::clone(store.data()))),))
    })?;
    draft.func_wrap("[method]bucket.exists", |_: Context<'_>, (_, _): (Handle, WasmStr)| {
        Ok((Ok::<_, DraftError>(true),))
    })?;
    draft.func_wrap(
        "[method]bucket.set",
        |_: Context<'_>, (_, _, _): (Handle, WasmStr, WasmList<u8>)| Ok((Ok::<_, DraftError>(()),)),
    )?;
    linker
        .instance("wasi:keyvalue/atomics@0.2.0-draft")?
        .func_wrap("increment", |_: Context<'_>, (_, _, delta): (Handle, WasmStr, u64)| {
            Ok((Ok::<_, DraftError>(delta),))
        })
}

#[derive(wasmtime::component::ComponentType, wasmtime::component::Lower)]
#[component(variant)]
#[expect(dead_code, reason = "the constants contain no error")]
enum CoreError {
    #[component(name = "not-found")]
    NotFound(String),
    #[component(name = "already-exists")]
    AlreadyExists(String),
    #[component(name = "quota-exceeded")]
    QuotaExceeded,
    #[component(name = "invalid-key")]
    InvalidKey(String),
    #[component(name = "io-error")]
    IoError(String),
}

#[derive(wasmtime::component::ComponentType, wasmtime::component::Lower)]
#[component(variant)]
#[expect(dead_code, reason = "the constants contain no error")]
enum DraftError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}
