//! Guests that do not end, and guests that grow.

use storage_host::ComponentStorage;
use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{Component, Linker, Val};

use crate::arena::{EVIL, NEVER, alone, id};
use crate::component::DATA;

/// Why a guest ended that ran past its deadline.
pub(crate) const TOO_LONG: &str = "it ran past the deadline that the host had set";

#[test]
fn a_loop_without_end() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        arena.with_epochs(|| {
            guest.set_deadline(20);
            assert_eq!(guest.trap_in("spin", &[]), TOO_LONG);
        });
    });
}

/// More loops than the machine has cores; the neighbour still makes progress.
#[test]
fn loops_without_end_on_every_core() {
    alone(|arena| {
        let mut guests: Vec<_> = (0..8).map(|_| arena.guest()).collect();
        arena.begin(0);
        // They run until the neighbour has been answered so often.
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
    });
}

#[test]
fn a_loop_of_calls_without_end() {
    alone(|arena| {
        arena.host.component(&id(EVIL)).set("kkkk", vec![1; 1 << 16].into()).unwrap();
        let mut guest = arena.guest();
        guest.write(DATA, b"kkkk");
        // Each answer is another 64 KiB of the guest's memory.
        arena.begin(512 << 20);
        arena.with_epochs(|| {
            guest.set_deadline(200);
            let reason = guest.trap_in("spin-calls", &[]);
            // Whichever comes first.
            assert!(
                [TOO_LONG, "wasm `unreachable` instruction executed"].contains(&&*reason),
                "{reason}"
            );
        });
    });
}

#[test]
fn a_start_without_end() {
    alone(|arena| {
        let text = "(component
            (core module $endless (func $start (loop $for-ever (br $for-ever))) (start $start))
            (core instance (instantiate $endless)))";
        let component = Component::new(&arena.engine, wat::parse_str(text).unwrap()).unwrap();
        let linker = Linker::<ComponentState>::new(&arena.engine);
        let state = ComponentState::new(arena.host.component(&id(EVIL)));
        let mut store = guest::new_store(&arena.engine, state, |state| state);
        arena.begin(0);
        arena.with_epochs(|| {
            store.set_epoch_deadline(20);
            let error = linker.instantiate(&mut store, &component).unwrap_err();
            assert_eq!(guest::describe_failure(&error, &storage_host::Limits::default()), TOO_LONG);
        });
    });
}

/// An engine with epochs lets a guest run for no time at all unless the embedder
/// says for how long: what is forgotten is noticed.
#[test]
fn a_deadline_that_was_forgotten() {
    alone(|arena| {
        let mut guest = arena.guest();
        guest.set_deadline(0);
        arena.begin(0);
        assert_eq!(guest.trap_in("spin", &[]), TOO_LONG);
        let mut guest = arena.guest();
        guest.set_deadline(NEVER);
        guest.set("key", "value").unwrap();
    });
}

#[test]
fn recursion_without_end() {
    alone(|arena| {
        let mut guests = [arena.guest(), arena.guest()];
        guests[1].set("kkkk", "value").unwrap();
        guests[1].write(DATA, b"kkkk");
        arena.begin(0);
        let reason = guests[0].trap_in("dive", &[]);
        assert!(reason.contains("call stack exhausted"), "{reason}");
        // With a call to storage at each depth, up to the last.
        let reason = guests[1].trap_in("dive-calls", &[]);
        assert!(reason.contains("call stack exhausted"), "{reason}");
    });
}

/// The same on a thread whose stack is half of what Rust gives one: what the host
/// needs below a guest that has used up its own stack.
#[test]
fn recursion_without_end_on_a_small_stack() {
    alone(|arena| {
        let mut guest = arena.guest();
        guest.set("kkkk", "value").unwrap();
        guest.write(DATA, b"kkkk");
        arena.begin(0);
        let thread = std::thread::Builder::new().stack_size(1 << 20);
        let ended = thread.spawn(move || guest.trap_in("dive-calls", &[])).unwrap();
        let reason = ended.join().unwrap();
        assert!(reason.contains("call stack exhausted"), "{reason}");
    });
}

#[test]
fn a_trap_of_its_own() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        guest.set("before", "written").unwrap();
        let reason = guest.trap_in("boom", &[]);
        assert!(reason.contains("unreachable"), "{reason}");
        // Its writes stay, and another instance continues.
        assert_eq!(arena.guest().get("before").unwrap(), Some(b"written".to_vec()));
    });
}

/// A guest may not call the host in the cleanup after a call.
#[test]
fn a_clean_up_that_calls_storage() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        let reason = guest.trap_in("late", &[]);
        assert!(reason.contains("cannot leave"), "{reason}");
    });
}

#[test]
fn a_guest_that_takes_all_it_can() {
    alone(|arena| {
        let mut guests: Vec<_> = (0..4).map(|_| arena.guest()).collect();
        arena.begin(0);
        for guest in &mut guests {
            while guest.grow(1_000) {}
            while guest.grow(1) {}
            let grow_table =
                |guest: &mut crate::guest::Guest, by| guest.number("grow-table", &[Val::U32(by)]);
            assert_eq!(grow_table(guest, u32::MAX), -1);
            assert_eq!(grow_table(guest, 100_000), -1);
            assert_eq!(grow_table(guest, 99_999), 1);
            assert_eq!(grow_table(guest, 1), -1);
        }
    });
}

/// As many memories and tables as are allowed, as large as they may be. Tables are
/// the host's memory.
#[test]
fn a_component_that_takes_all_that_is_allowed() {
    alone(|arena| {
        let memories = "(core instance (instantiate $memory))".repeat(4);
        let tables = "(core instance (instantiate $table))".repeat(32);
        let text = format!(
            "(component
                (core module $memory (memory 8192))
                (core module $table (table 100000 funcref))
                {memories} {tables})"
        );
        let component = Component::new(&arena.engine, wat::parse_str(text).unwrap()).unwrap();
        let linker = Linker::<ComponentState>::new(&arena.engine);
        let state = ComponentState::new(arena.host.component(&id(EVIL)));
        let mut store = guest::new_store(&arena.engine, state, |state| state);
        store.set_epoch_deadline(NEVER);
        arena.begin(0);
        linker.instantiate(&mut store, &component).unwrap();
    });
}

/// Ways around the limit of a memory: several, shared, of 64 bits, and more
/// instances than any component has.
#[test]
fn a_component_that_asks_for_too_much() {
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
        let instances = format!(
            "(component (core module $m) {})",
            "(core instance (instantiate $m))".repeat(129)
        );
        arena.begin(0);
        for text in [
            many(memory, 5),
            many(table, 33),
            instances,
            large("(memory 8193)"),
            large("(memory 65536)"),
            large("(memory i64 1000000)"),
            large("(memory 1 65536 shared)"),
            large("(table 100001 funcref)"),
            large("(table i64 100001 funcref)"),
            large("(table 10000000 externref)"),
        ] {
            let shown = text.chars().take(100).collect::<String>();
            let bytes = wat::parse_str(&text).unwrap();
            // The engine refuses features that it does not support.
            let Ok(component) = Component::new(&arena.engine, bytes) else {
                assert!(shown.contains("shared") || shown.contains("externref"), "{shown}");
                continue;
            };
            let linker = Linker::<ComponentState>::new(&arena.engine);
            let state = ComponentState::new(arena.host.component(&id(EVIL)));
            let mut store = guest::new_store(&arena.engine, state, |state| state);
            store.set_epoch_deadline(NEVER);
            let instantiated = linker.instantiate(&mut store, &component);
            assert!(instantiated.is_err(), "{shown}");
        }
    });
}
