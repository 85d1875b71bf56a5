//! Handles that do not exist, that were dropped, and too many of them.

use storage_host::guest;
use storage_host::{Access, CacheStats, ComponentStorage, Grant, Limits};

use crate::arena::{EVIL, NEVER, alone, id};
use crate::component::{DATA, Kind};
use crate::guest::{Call, Guest};
use crate::runaway;

/// The interfaces with handles of stores, a method of each, and its drop.
const INTERFACES: [(&str, &str, &str); 4] = [
    ("extended", "extended.get-versioned", "extended.drop"),
    ("draft", "draft.get", "draft.drop"),
    ("draft2", "draft2.get", "draft2.drop"),
    ("spin", "spin.get", "spin.drop"),
];

#[test]
fn open_stores_are_limited() {
    alone(|arena| {
        let mut guests =
            INTERFACES.map(|(interface, _, dropping)| (arena.guest(), interface, dropping));
        arena.begin(0);
        for (guest, interface, dropping) in &mut guests {
            let [at, len] = guest.string("");
            let name = format!("{interface}.open");
            let opened: Vec<_> = (0..10_000).map(|_| guest.call(&name, &[at, len])).collect();
            assert_eq!(opened.iter().filter(|outcome| outcome.is_ok()).count(), 1_000);
            let text = opened.last().unwrap().as_ref().unwrap_err();
            let full = text == "store-table-full" || text.ends_with("are over the limit of 1000");
            assert!(full, "{text}");
            // A dropped handle makes room for another.
            let handle = opened[0].as_ref().unwrap().word(4);
            guest.call(dropping, &[handle.into()]).unwrap();
            guest.call(&name, &[at, len]).unwrap();
            guest.call(&name, &[at, len]).unwrap_err();
            guest.set("key", "value").unwrap();
        }
    });
}

#[test]
fn open_swaps_are_limited() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        let store = guest.open("draft2", "").unwrap();
        let longest = "k".repeat(1_024);
        let [at, len] = guest.string(&longest);
        let made: Vec<_> =
            (0..10_000).map(|_| guest.call("draft2.cas", &[store, at, len])).collect();
        assert_eq!(made.iter().filter(|outcome| outcome.is_ok()).count(), 999);
        assert!(made.last().unwrap().as_ref().unwrap_err().contains("limit of 1000"));
        // A swap that fails gives a new handle, and has room for it.
        let first = made[0].as_ref().unwrap().word(4);
        guest.set(&longest, "changed").unwrap();
        let outcome = guest.call("draft2.swap", &[first.into(), DATA.into(), 4]).unwrap_err();
        assert!(outcome.starts_with("cas-failed "), "{outcome}");
    });
}

/// A handle holds its key, so an invalid key must not get one, not even in the store of
/// another component.
#[test]
fn swaps_of_invalid_granted_keys_are_refused() {
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
            let outcome = guest.call("draft2.cas", &[store, AT.into(), LEN.into()]).unwrap_err();
            assert!(outcome.contains("a key has at most 1024 bytes"), "{outcome}");
        }
    });
}

/// A handle represents a revision of a key. A host that kept the value too would hold a
/// gibibyte.
#[test]
fn swaps_keep_no_values() {
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
            if n < 200 {
                chain.set("key", vec![n as u8; 1 << 20].into()).unwrap();
            }
        }
        let value = guest.put(b"swapped");
        for handle in handles.into_iter().rev().skip(990) {
            let outcome = guest.call("draft2.swap", &[handle.into(), value, 7]).unwrap_err();
            assert!(outcome.starts_with("cas-failed "), "{outcome}");
        }
        drop(chain);
    });
}

#[test]
fn an_instance_that_ends_releases_its_handles() {
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
        // The chain of the component is gone: a new one has a new cache.
        assert_eq!(arena.host.cache_stats(&id(EVIL)), CacheStats::default());
    });
}

/// Handles of the guest's own resources use memory of the host.
#[test]
fn resources_of_the_guest_itself_are_limited() {
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
        let component = runaway::compile(arena, text).unwrap();
        let (mut store, instance) = runaway::instantiate(arena, &component, NEVER).unwrap();
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        arena.begin(0);
        let error = run.call(&mut store, ()).unwrap_err();
        let reason = guest::describe_failure(&error, &Limits::default());
        assert_eq!(reason, "it held more handles of all kinds than the limit of 2000");
    });
}

/// Methods that take a swap.
const OF_SWAPS: [&str; 3] = ["draft2.current", "draft2.drop-cas", "draft2.swap"];

/// Arguments for a function of a handle: the handle, and a key or value if it takes one.
fn with_handle(name: &str, handle: u64) -> Vec<u64> {
    let count = if name.contains("drop") || name == "draft2.current" { 1 } else { 3 };
    [handle, DATA.into(), 4][..count].to_vec()
}

fn swap_of(guest: &mut Guest) -> u64 {
    let store = guest.open("draft2", "").unwrap();
    let [key, len] = guest.string("key");
    guest.call("draft2.cas", &[store, key, len]).unwrap().word(4).into()
}

#[test]
fn invalid_handles_end_the_guest() {
    alone(|arena| {
        let mut calls = Vec::new();
        let mut add = |guest, name: &'static str, handle| {
            calls.push(Call { guest, name, arguments: with_handle(name, handle) });
        };
        // Made up: in an empty table, and in one with a single handle, 1.
        for handle in [0, 1, 2, 77, 1 << 28, (1 << 30) - 1, 1 << 30, 1 << 31, (1 << 32) - 1] {
            for (interface, method, dropping) in INTERFACES {
                let mut guest = arena.guest();
                if handle != 1 {
                    guest.open(interface, "").unwrap();
                }
                add(guest, method, handle);
                add(arena.guest(), dropping, handle);
            }
            for name in OF_SWAPS {
                add(arena.guest(), name, handle);
            }
        }
        for (giver, method, dropping) in INTERFACES {
            // Of another interface, although both have handles.
            for (taker, method, _) in INTERFACES.into_iter().filter(|taker| taker.0 != giver) {
                let mut guest = arena.guest();
                guest.open(taker, "").unwrap();
                let handle = guest.open(giver, "").unwrap();
                add(guest, method, handle);
            }
            // A store as a swap, and a swap as a store.
            let mut guest = arena.guest();
            let handle = guest.open(giver, "").unwrap();
            add(guest, "draft2.swap", handle);
            let mut guest = arena.guest();
            guest.open(giver, "").unwrap();
            let handle = swap_of(&mut guest);
            add(guest, method, handle);
            // Dropped.
            for name in [method, dropping] {
                let mut guest = arena.guest();
                let handle = guest.open(giver, "").unwrap();
                guest.call(dropping, &[handle]).unwrap();
                add(guest, name, handle);
            }
        }
        // A swap consumes its handle.
        for name in OF_SWAPS {
            let mut guest = arena.guest();
            let handle = swap_of(&mut guest);
            guest.call("draft2.swap", &with_handle("draft2.swap", handle)).unwrap();
            add(guest, name, handle);
        }
        arena.begin(0);
        Call::expect_traps(&mut calls, &["handle"]);
    });
}

#[test]
fn a_swap_outlives_the_handle_of_its_store() {
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
