//! A realloc that misbehaves while the host writes a result.

use storage_host::ComponentStorage;

use crate::arena::{Arena, EVIL, alone, id};
use crate::component::Kind;
use crate::guest::{Call, Guest, Realloc};

/// Calls whose results the host allocates, some in many parts.
const CALLS: [&str; 6] = [
    "storage.get",
    "storage.list-keys",
    "extended.get-versioned",
    "draft.get-many",
    "draft2.get-many",
    "draft2.list-keys",
];

const SINGLE_VALUE: [&str; 2] = ["storage.get", "extended.get-versioned"];

fn store_some(arena: &Arena) {
    let chain = arena.host.component(&id(EVIL));
    for n in 0..50 {
        chain.set(&format!("{n:02}"), "longer than eight bytes".into()).unwrap();
    }
}

/// A call during which realloc misbehaves after some allocations.
fn call(mut guest: Guest, name: &'static str, how: Realloc, after: u32) -> Call {
    let [key, len] = guest.string("07");
    let mut arguments = Vec::new();
    let interface = name.split('.').next().unwrap();
    if interface != "storage" {
        arguments.push(guest.open(interface, "").unwrap());
    }
    match name {
        "storage.list-keys" | "draft2.list-keys" => arguments.extend([0, 0, 0]),
        "draft.get-many" | "draft2.get-many" => {
            arguments.extend(guest.list(&[key, len].repeat(20), 2));
        }
        _ => arguments.extend([key, len]),
    }
    guest.misbehave(how, after);
    Call { guest, name, arguments }
}

fn calls(arena: &Arena, how: Realloc) -> Vec<Call> {
    CALLS.iter().map(|name| call(arena.guest(), name, how, 0)).collect()
}

#[test]
fn a_failing_realloc_ends_the_guest() {
    alone(|arena| {
        store_some(arena);
        let mut groups = Vec::new();
        for (how, reason) in [
            (Realloc::Traps, "unreachable"),
            (Realloc::BeginsOutside, "beyond end of memory"),
            (Realloc::RecursesForEver, "call stack exhausted"),
            // While the host writes a result, the guest cannot call it.
            (Realloc::CallsStorage, "cannot leave"),
        ] {
            let mut calls = calls(arena, how);
            for name in CALLS.into_iter().filter(|name| !SINGLE_VALUE.contains(name)) {
                calls.push(call(arena.guest(), name, how, 7));
            }
            groups.push((calls, reason));
        }
        for (how, reason, names) in [
            (Realloc::EndsOutside, "beyond end of memory", &["storage.get", "draft2.get-many"][..]),
            (
                Realloc::IsMisaligned,
                "not aligned",
                &["storage.list-keys", "draft.get-many", "draft2.get-many"],
            ),
        ] {
            let calls = names.iter().map(|name| call(arena.guest(), name, how, 0));
            groups.push((calls.collect(), reason));
        }
        arena.begin(0);
        for (calls, reason) in &mut groups {
            Call::expect_traps(calls, &[reason]);
            for call in calls {
                call.guest.trap("storage.usage", &[]);
            }
        }
        let chain = arena.host.component(&id(EVIL));
        assert_eq!(chain.get("07").unwrap(), Some("longer than eight bytes".into()));
    });
}

#[test]
fn a_realloc_that_never_returns_ends_at_the_deadline() {
    alone(|arena| {
        store_some(arena);
        let mut calls = calls(arena, Realloc::NeverReturns);
        arena.begin(0);
        arena.with_epochs(|| {
            for call in &mut calls {
                call.guest.set_deadline(20);
            }
            Call::expect_traps(&mut calls, &[crate::runaway::TOO_LONG]);
        });
    });
}

/// The host writes all parts to one address, or memory moves while it writes.
#[test]
fn a_realloc_may_overlap_results_or_move_memory() {
    alone(|arena| {
        store_some(arena);
        let mut overlapping = calls(arena, Realloc::ReturnsResultAddress);
        overlapping.extend(calls(arena, Realloc::ReturnsZero));
        let mut moving = calls(arena, Realloc::TakesAllMemory);
        arena.begin(0);
        for Call { guest, name, arguments } in &mut overlapping {
            for _ in 0..10 {
                guest.call_only(name, arguments).unwrap();
            }
        }
        for call in &mut moving {
            call.run().unwrap();
        }
    });
}

/// In this encoding the host may move a text while it writes it.
#[test]
fn a_realloc_that_fails_within_a_text_ends_the_guest() {
    alone(|arena| {
        let chain = arena.host.component(&id(EVIL));
        for n in 0..20 {
            chain.set(&format!("caf\u{e9}{n}\u{6b6b}"), "".into()).unwrap();
        }
        let mut guests = Vec::new();
        for how in [
            Realloc::Traps,
            Realloc::BeginsOutside,
            Realloc::IsMisaligned,
            Realloc::ReturnsResultAddress,
            Realloc::CallsStorage,
            Realloc::ReturnsZero,
        ] {
            for after in 0..8 {
                let mut guest = arena.guest_of(Kind::LATIN1, EVIL);
                guest.misbehave(how, after);
                guests.push((guest, how));
            }
        }
        arena.begin(0);
        for (guest, how) in &mut guests {
            let ended = guest.call_only("storage.list-keys", &[0, 0, 0]).is_err();
            let overlaps = matches!(how, Realloc::ReturnsResultAddress | Realloc::ReturnsZero);
            assert_eq!(ended, !overlaps, "{how:?}");
        }
    });
}
