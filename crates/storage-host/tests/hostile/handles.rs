//! Handles that do not exist, that were dropped, and too many of them.

use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{Component, Linker};
use storage_host::{Access, ComponentStorage, Grant};

use crate::arena::{Arena, EVIL, NEVER, alone, id};
use crate::component::{DATA, Kind};
use crate::guest::Guest;

/// What each interface calls its handles, and a method of them.
const INTERFACES: [(&str, &str); 3] =
    [("extended", "extended.get-versioned"), ("draft", "draft.get"), ("draft2", "draft2.get")];

#[test]
fn ten_thousand_stores_held_open() {
    alone(|arena| {
        let mut guests = INTERFACES.map(|(interface, _)| (arena.guest(), interface));
        arena.begin(0);
        for (guest, interface) in &mut guests {
            let [at, len] = guest.string("");
            let name = format!("{interface}.open");
            let opened: Vec<_> = (0..10_000).map(|_| guest.call(&name, &[at, len])).collect();
            assert_eq!(opened.iter().filter(|told| told.is_ok()).count(), 1_000);
            let text = opened.last().unwrap().as_ref().unwrap_err();
            assert!(text.ends_with("handles are over the limit of 1000"), "{text}");
            // What is given back can be had again.
            let handle = opened[0].as_ref().unwrap().word(4);
            guest.call(&format!("{interface}.drop"), &[handle.into()]).unwrap();
            guest.call(&name, &[at, len]).unwrap();
            guest.call(&name, &[at, len]).unwrap_err();
            // Storage works all the same.
            guest.set("key", "value").unwrap();
        }
    });
}

#[test]
fn ten_thousand_swaps_under_way() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        let store = guest.open("draft2", "").unwrap();
        let longest = "k".repeat(1_024);
        let [at, len] = guest.string(&longest);
        let made: Vec<_> =
            (0..10_000).map(|_| guest.call("draft2.cas", &[store, at, len])).collect();
        assert_eq!(made.iter().filter(|told| told.is_ok()).count(), 999);
        assert!(made.last().unwrap().as_ref().unwrap_err().contains("limit of 1000"));
        // A swap that fails gives a new handle, and has room for it.
        let first = made[0].as_ref().unwrap().word(4);
        guest.set(&longest, "changed").unwrap();
        let told = guest.call("draft2.swap", &[first.into(), DATA.into(), 4]).unwrap_err();
        assert!(told.starts_with("cas-failed "), "{told}");
    });
}

/// A handle holds its key, so an invalid key must not get one, not even in the store of
/// another component.
#[test]
fn swaps_of_endless_keys_of_somebody_else() {
    alone(|arena| {
        const OWNER: &str = "good/shared/1";
        let grant = Grant { owner: id(OWNER), prefix: "in/".to_owned(), access: Access::ReadWrite };
        arena.host.grant(&id(EVIL), grant);
        let mut guest = arena.guest();
        const AT: u32 = 1 << 20;
        const LEN: u32 = 16 << 20;
        assert!(guest.grow(512));
        guest.fill(AT, b'k', LEN);
        arena.begin(0);
        let store = guest.open("draft2", OWNER).unwrap();
        for _ in 0..200 {
            let told = guest.call("draft2.cas", &[store, AT.into(), LEN.into()]).unwrap_err();
            assert!(told.contains("a key has at most 1024 bytes"), "{told}");
        }
    });
}

/// A handle represents a revision of a key. A host that kept the value too would hold a
/// gibibyte.
#[test]
fn a_thousand_swaps_of_a_mebibyte_under_way() {
    alone(|arena| {
        let chain = arena.host.component(&id(EVIL));
        chain.set("key", vec![7; 1 << 20].into()).unwrap();
        let mut guest = arena.guest();
        assert!(guest.grow(64));
        arena.begin(0);
        let store = guest.open("draft2", "").unwrap();
        let [at, len] = guest.string("key");
        let mut handles = Vec::new();
        for n in 0..999 {
            let made = guest.call("draft2.cas", &[store, at, len]).unwrap();
            handles.push(made.word(4));
            // Many of them on a separate value.
            if n < 200 {
                chain.set("key", vec![n as u8; 1 << 20].into()).unwrap();
            }
        }
        // All but the last come too late.
        let value = guest.put(b"swapped");
        for handle in handles.into_iter().rev().skip(990) {
            let told = guest.call("draft2.swap", &[handle.into(), value, 7]).unwrap_err();
            assert!(told.starts_with("cas-failed "), "{told}");
        }
        drop(chain);
    });
}

/// Instances that end with all their handles leave nothing behind.
#[test]
fn handles_that_are_never_dropped() {
    alone(|arena| {
        arena.linked(Kind::PLAIN);
        drop(arena.guest());
        arena.begin(0);
        for _ in 0..100 {
            let mut guest = arena.guest();
            let store = guest.open("draft2", "").unwrap();
            let [key, len] = guest.string("key");
            for _ in 0..499 {
                guest.open("extended", "").unwrap();
                guest.call("draft2.cas", &[store, key, len]).unwrap();
            }
        }
        // The chain has no handles left: a new one has a new cache.
        assert_eq!(arena.host.cache_stats(&id(EVIL)), storage_host::CacheStats::default());
    });
}

/// Handles on things of the guest's own are in the host's memory too.
#[test]
fn handles_on_things_of_its_own_without_end() {
    alone(|arena| {
        let text = "(component
            (type $thing (resource (rep i32)))
            (core func $new (canon resource.new $thing))
            (core module $m
                (import \"\" \"new\" (func $new (param i32) (result i32)))
                (func (export \"run\")
                    (loop $for-ever (drop (call $new (i32.const 0))) (br $for-ever))))
            (core instance $i (instantiate $m (with \"\" (instance (export \"new\" (func $new))))))
            (func (export \"run\") (canon lift (core func $i \"run\"))))";
        let component = Component::new(&arena.engine, wat::parse_str(text).unwrap()).unwrap();
        let linker = Linker::<ComponentState>::new(&arena.engine);
        let state = ComponentState::new(arena.host.component(&id(EVIL)));
        let mut store = guest::new_store(&arena.engine, state, |state| state);
        store.set_epoch_deadline(NEVER);
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        arena.begin(0);
        let reason = run.call(&mut store, ()).unwrap_err().root_cause().to_string();
        assert!(reason.contains("handle limit"), "{reason}");
    });
}

fn guests(arena: &Arena, count: usize) -> Vec<Guest> {
    (0..count).map(|_| arena.guest()).collect()
}

#[test]
fn handles_that_do_not_exist() {
    alone(|arena| {
        let made_up = [0, 1, 2, 77, 1 << 28, (1 << 30) - 1, 1 << 30, 1 << 31, (1 << 32) - 1];
        let mut guests = guests(arena, made_up.len() * 9).into_iter();
        arena.begin(0);
        for handle in made_up {
            for (interface, method) in INTERFACES {
                let mut guest = guests.next().unwrap();
                // A table that is empty, and one in which there is one handle, 1.
                if handle != 1 {
                    guest.open(interface, "").unwrap();
                }
                let reason = guest.trap(method, &[handle, DATA.into(), 4]);
                assert!(reason.contains("handle"), "{method}: {reason}");
                let mut guest = guests.next().unwrap();
                let reason = guest.trap(&format!("{interface}.drop"), &[handle]);
                assert!(reason.contains("handle"), "{interface}: {reason}");
            }
            for name in ["draft2.current", "draft2.drop-cas", "draft2.swap"] {
                let mut guest = guests.next().unwrap();
                let arguments =
                    if name == "draft2.swap" { vec![handle, DATA.into(), 4] } else { vec![handle] };
                let reason = guest.trap(name, &arguments);
                assert!(reason.contains("handle"), "{name}: {reason}");
            }
        }
    });
}

#[test]
fn handles_of_another_kind() {
    alone(|arena| {
        let mut guests = guests(arena, 30).into_iter();
        arena.begin(0);
        for (giver, _) in INTERFACES {
            for (taker, method) in INTERFACES {
                if giver == taker {
                    continue;
                }
                let mut guest = guests.next().unwrap();
                // Of both there are some.
                guest.open(taker, "").unwrap();
                let handle = guest.open(giver, "").unwrap();
                let reason = guest.trap(method, &[handle, DATA.into(), 4]);
                assert!(reason.contains("handle"), "{giver} as {taker}: {reason}");
            }
            // A store as a swap, and a swap as a store.
            let mut guest = guests.next().unwrap();
            let handle = guest.open(giver, "").unwrap();
            let reason = guest.trap("draft2.swap", &[handle, DATA.into(), 4]);
            assert!(reason.contains("handle"), "{reason}");
        }
        for (interface, method) in INTERFACES {
            let mut guest = guests.next().unwrap();
            guest.open(interface, "").unwrap();
            let store = guest.open("draft2", "").unwrap();
            let [key, len] = guest.string("key");
            let cas = guest.call("draft2.cas", &[store, key, len]).unwrap().word(4);
            let reason = guest.trap(method, &[cas.into(), key, len]);
            assert!(reason.contains("handle"), "{reason}");
        }
    });
}

#[test]
fn handles_that_are_gone() {
    alone(|arena| {
        let mut guests = guests(arena, 30).into_iter();
        arena.begin(0);
        for (interface, method) in INTERFACES {
            let dropping = format!("{interface}.drop");
            for (name, arguments) in [(method, 3), (dropping.as_str(), 1)] {
                let mut guest = guests.next().unwrap();
                let handle = guest.open(interface, "").unwrap();
                guest.call(&dropping, &[handle]).unwrap();
                let reason = guest.trap(name, &[handle, DATA.into(), 4][..arguments]);
                assert!(reason.contains("handle"), "{name}: {reason}");
            }
        }
        // A swap takes its handle, whatever comes of it.
        for name in ["draft2.current", "draft2.drop-cas", "draft2.swap"] {
            let mut guest = guests.next().unwrap();
            let store = guest.open("draft2", "").unwrap();
            let [key, len] = guest.string("key");
            let cas = guest.call("draft2.cas", &[store, key, len]).unwrap().word(4);
            guest.call("draft2.swap", &[cas.into(), key, len]).unwrap();
            let arguments = [cas.into(), key, len];
            let count = if name == "draft2.swap" { 3 } else { 1 };
            let reason = guest.trap(name, &arguments[..count]);
            assert!(reason.contains("handle"), "{name}: {reason}");
        }
    });
}

/// A swap is of the store that its handle was made with, also when that handle is
/// gone.
#[test]
fn a_swap_without_its_store() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        let store = guest.open("draft2", "").unwrap();
        let [key, len] = guest.string("key");
        let cas = guest.call("draft2.cas", &[store, key, len]).unwrap().word(4);
        guest.call("draft2.drop", &[store]).unwrap();
        guest.call("draft2.swap", &[cas.into(), key, len]).unwrap();
        assert_eq!(guest.get("key").unwrap(), Some(b"key".to_vec()));
    });
}
