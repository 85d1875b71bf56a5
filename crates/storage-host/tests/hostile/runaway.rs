//! Guests that do not end, and guests that grow.

use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{Component, Instance, Linker, Val};
use storage_host::wasmtime::{self, Store};
use storage_host::{ComponentStorage, Limits};

use crate::arena::{Arena, EVIL, NEVER, alone, id};
use crate::component::DATA;
use crate::guest::Guest;
use crate::linkage::Linkage;

/// Why a guest ended that ran past its deadline.
pub(crate) const TOO_LONG: &str = "it ran past the deadline that the host had set";

#[test]
fn endless_loops_end_at_the_deadline() {
    alone(|arena| {
        let endless = compile(
            arena,
            "(component
                (core module $endless (func $start (loop $again (br $again))) (start $start))
                (core instance (instantiate $endless)))",
        )
        .unwrap();
        let mut guests: Vec<_> = (0..8).map(|_| arena.guest()).collect();
        let mut forgotten = arena.guest();
        arena.begin(0);
        // More loops than cores: they run until the neighbour has made progress.
        arena.with_epochs_after(
            || arena.let_the_neighbour_call(50),
            || {
                std::thread::scope(|scope| {
                    for guest in &mut guests {
                        guest.set_deadline(20);
                        scope.spawn(|| assert_eq!(guest.trap_in("spin", &[]), TOO_LONG));
                    }
                });
            },
        );
        // The start of a component too.
        let error = arena.with_epochs(|| instantiate(arena, &endless, 20)).unwrap_err();
        assert_eq!(guest::describe_failure(&error, &Limits::default()), TOO_LONG);
        // A guest without a deadline ends at once, so that a forgotten one is noticed.
        forgotten.set_deadline(0);
        assert_eq!(forgotten.trap_in("spin", &[]), TOO_LONG);
    });
}

#[test]
fn an_endless_loop_of_calls_ends() {
    alone(|arena| {
        arena.host.component(&id(EVIL)).set("kkkk", vec![1; 1 << 16].into()).unwrap();
        let mut guest = arena.guest();
        guest.write(DATA, b"kkkk");
        // Each result takes another 64 KiB of the guest's memory.
        arena.begin(512 << 20);
        arena.with_epochs(|| {
            guest.set_deadline(200);
            let reason = guest.trap_in("spin-calls", &[]);
            let full = "wasm `unreachable` instruction executed";
            assert!([TOO_LONG, full].contains(&&*reason), "{reason}");
        });
    });
}

#[test]
fn endless_recursion_ends_the_guest() {
    alone(|arena| {
        let mut guests = [arena.guest(), arena.guest(), arena.guest()];
        for guest in &mut guests {
            guest.set("kkkk", "value").unwrap();
            guest.write(DATA, b"kkkk");
        }
        let [mut plain, mut calling, mut small] = guests;
        arena.begin(0);
        // The last one on a thread with half of the usual stack: the host needs stack too.
        let thread = std::thread::Builder::new().stack_size(1 << 20);
        let ended = thread.spawn(move || small.trap_in("dive-calls", &[])).unwrap();
        for reason in
            [plain.trap_in("dive", &[]), calling.trap_in("dive-calls", &[]), ended.join().unwrap()]
        {
            assert!(reason.contains("call stack exhausted"), "{reason}");
        }
    });
}

#[test]
fn writes_before_a_trap_stay() {
    alone(|arena| {
        let mut guest = arena.guest();
        let mut late = arena.guest();
        arena.begin(0);
        guest.set("before", "written").unwrap();
        let reason = guest.trap_in("boom", &[]);
        assert!(reason.contains("unreachable"), "{reason}");
        // A call to storage in the cleanup after a call.
        let reason = late.trap_in("late", &[]);
        assert!(reason.contains("cannot leave"), "{reason}");
        assert_eq!(arena.guest().get("before").unwrap(), Some(b"written".to_vec()));
    });
}

pub(crate) fn compile(arena: &Arena, text: &str) -> wasmtime::Result<Component> {
    Component::new(&arena.engine, wat::parse_str(text).unwrap())
}

pub(crate) fn instantiate(
    arena: &Arena,
    component: &Component,
    deadline: u64,
) -> wasmtime::Result<(Store<ComponentState>, Instance)> {
    let state = ComponentState::new(arena.host.component(&id(EVIL)));
    let mut store = guest::new_store(&arena.engine, state, |state| state);
    store.set_epoch_deadline(deadline);
    let instance = Linker::new(&arena.engine).instantiate(&mut store, component)?;
    Ok((store, instance))
}

#[test]
fn memories_and_tables_grow_up_to_the_limits() {
    alone(|arena| {
        let mut guests: Vec<_> = (0..4).map(|_| arena.guest()).collect();
        let memories = "(core instance (instantiate $memory))".repeat(4);
        let tables = "(core instance (instantiate $table))".repeat(32);
        let largest = format!(
            "(component
                (core module $memory (memory 8192))
                (core module $table (table 100000 funcref))
                {memories} {tables})"
        );
        let largest = compile(arena, &largest).unwrap();
        arena.begin(0);
        for guest in &mut guests {
            // 512 MiB are 8,192 pages, and 16 of them exist.
            assert!(!guest.grow(8_192 - 16 + 1));
            assert!(guest.grow(8_192 - 16));
            let grow_table = |guest: &mut Guest, by| guest.number("grow-table", &[Val::U32(by)]);
            for (by, result) in [(u32::MAX, -1), (100_000, -1), (99_999, 1), (1, -1)] {
                assert_eq!(grow_table(guest, by), result);
            }
        }
        drop(guests);
        instantiate(arena, &largest, NEVER).unwrap();
    });
}

/// Several memories, shared ones, 64-bit ones, and too many instances.
#[test]
fn a_component_above_the_limits_is_not_instantiated() {
    alone(|arena| {
        let many = |what: &str, count: usize| {
            let all: String = (0..count).map(|n| what.replace('N', &n.to_string())).collect();
            format!("(component {all})")
        };
        let memory = "(core module $mN (memory 1)) (core instance (instantiate $mN))";
        let table = "(core module $mN (table 1 funcref)) (core instance (instantiate $mN))";
        let large = |memory: &str| {
            format!("(component (core module $m {memory}) (core instance (instantiate $m)))")
        };
        let instances = "(core instance (instantiate $m))".repeat(129);
        arena.begin(0);
        for text in [
            many(memory, 5),
            many(table, 33),
            format!("(component (core module $m) {instances})"),
            large("(memory 8193)"),
            large("(memory 65536)"),
            large("(memory i64 1000000)"),
            large("(memory 1 65536 shared)"),
            large("(table 100001 funcref)"),
            large("(table i64 100001 funcref)"),
            large("(table 10000000 externref)"),
        ] {
            let shown = text.chars().take(100).collect::<String>();
            let Ok(component) = compile(arena, &text) else {
                // The engine does not support these. With a pool it refuses all that does not fit.
                let unsupported = shown.contains("shared") || shown.contains("externref");
                assert!(unsupported || arena.linkage == Linkage::Async, "{shown}");
                continue;
            };
            assert!(instantiate(arena, &component, NEVER).is_err(), "{shown}");
        }
    });
}
