//! The memory that the host allocates for components. It is counted per process, so this
//! is one test, alone in its process.

#![cfg(feature = "wasmtime")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test reports by panicking")]

use std::sync::Arc;

use peak_alloc::PeakAlloc;
use storage_core::conformance::ReferenceStorage;
use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{Component, Linker};
use storage_host::wasmtime::{Engine, Store};
use storage_host::{CacheConfig, ComponentStorage, StorageHost};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The maximum that a refused call may allocate: the text of its error, and what
/// wasmtime needs for any call.
const REFUSED: usize = 64 << 10;

/// What a component may cost, its id included, that is open and has not cached
/// anything.
const OPEN: usize = 600;

#[test]
fn memory_follows_the_limits_and_not_the_guests_wishes() {
    calls_over_a_limit_are_not_copied();
    let cache = CacheConfig::default();
    let builder = || StorageHost::builder(Arc::new(ReferenceStorage::new()));
    components_cost_little_and_leave_nothing(&builder().cache(cache.clone()).build());
    components_cost_little_and_leave_nothing(&builder().shared_cache(cache).build());
}

fn calls_over_a_limit_are_not_copied() {
    const DATA: u32 = 0x1_0000;
    const LEN: u32 = 10 << 20;

    let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
    let engine = Engine::new(&guest::engine_config()).unwrap();
    let text = include_str!("guest/raw.wat");
    let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let mut linker = Linker::new(&engine);
    guest::add_to_linker(&mut linker, |state: &mut ComponentState| state).unwrap();
    let state = ComponentState::new(host.component(&"a/b/1".parse().unwrap()));
    let mut store: Store<ComponentState> = guest::new_store(&engine, state, |state| state);
    let instance = linker.instantiate(&mut store, &component).unwrap();

    let grow = instance.get_typed_func::<(u32,), (i32,)>(&mut store, "grow").unwrap();
    grow.call(&mut store, (200,)).unwrap();
    let fill = instance.get_typed_func::<(u32, u32, u32), ()>(&mut store, "fill").unwrap();
    fill.call(&mut store, (DATA, u32::from(b'k'), LEN)).unwrap();
    let get = instance.get_typed_func::<(u32, u32), (u32,)>(&mut store, "get").unwrap();
    let list = instance.get_typed_func::<(u32, u32), (u32,)>(&mut store, "list").unwrap();
    let set = instance.get_typed_func::<(u32, u32, u32, u32), (u32,)>(&mut store, "set").unwrap();
    // The first calls set up what every call needs.
    get.call(&mut store, (DATA, 4)).unwrap();
    set.call(&mut store, (DATA, 4, DATA, 4)).unwrap();
    list.call(&mut store, (DATA, 4)).unwrap();

    let mut peak_of = |what: &str, call: &mut dyn FnMut(&mut Store<ComponentState>) -> u32| {
        let before = ALLOCATED.current_usage();
        ALLOCATED.reset_peak_usage();
        let answer = call(&mut store);
        let taken = ALLOCATED.peak_usage().saturating_sub(before);
        assert!(taken < REFUSED, "{what} took {taken} bytes");
        answer & 0xff
    };
    let value = &mut |store: &mut Store<_>| set.call(store, (DATA, 4, DATA, LEN)).unwrap().0;
    assert_eq!(peak_of("a value", value), 1);
    let key = &mut |store: &mut Store<_>| get.call(store, (DATA, LEN)).unwrap().0;
    assert_eq!(peak_of("a key", key), 1);
    let prefix = &mut |store: &mut Store<_>| list.call(store, (DATA, LEN)).unwrap().0;
    assert_eq!(peak_of("a prefix", prefix), 0);
}

fn components_cost_little_and_leave_nothing(host: &StorageHost) {
    const COMPONENTS: usize = 100_000;

    // What threads and tables set up once is not a component's.
    host.component(&"app/first/one".parse().unwrap()).get("key").unwrap();
    let before = ALLOCATED.current_usage();
    let resident_before = resident();
    for n in 0..1_000_000 {
        drop(host.component(&format!("app/many/{n}").parse().unwrap()));
    }
    let left = ALLOCATED.current_usage().saturating_sub(before);
    assert!(left < REFUSED, "components that came and went left {left} bytes behind");
    match (resident_before, resident()) {
        (Some(before), Some(after)) => {
            assert!(after <= before + before / 10, "{before} bytes were resident, now {after}");
            println!("resident before a million components {before} bytes, after {after}");
        }
        _ => println!("SKIPPED resident memory: there is no /proc to read it from"),
    }

    let chains: Vec<_> = (0..COMPONENTS)
        .map(|n| host.component(&format!("app/many/{n}").parse().unwrap()))
        .collect();
    let each = ALLOCATED.current_usage().saturating_sub(before) / COMPONENTS;
    assert!(each < OPEN, "an open component costs {each} bytes");
    println!("an open component costs {each} bytes");

    drop(chains);
    let left = ALLOCATED.current_usage().saturating_sub(before);
    assert!(left < REFUSED, "{COMPONENTS} components left {left} bytes behind");
}

/// The bytes of this process that are in memory.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}
