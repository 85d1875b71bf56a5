//! A realloc that does not do its work while the host writes an answer.

use storage_host::ComponentStorage;

use crate::arena::{Arena, EVIL, alone, id};
use crate::component::Kind;
use crate::guest::{Guest, Realloc};

/// Calls whose answers the host allocates room for, some in many parts.
const ANSWERS: [&str; 6] = [
    "storage.get",
    "storage.list-keys",
    "extended.get-versioned",
    "draft.get-many",
    "draft2.get-many",
    "draft2.list-keys",
];

fn store_some(arena: &Arena) {
    let chain = arena.host.component(&id(EVIL));
    for n in 0..50 {
        chain.set(&format!("{n:02}"), "value".into()).unwrap();
    }
}

fn arguments(guest: &mut Guest, name: &str) -> Vec<u64> {
    let [key, len] = guest.string("07");
    let interface = name.split('.').next().unwrap();
    let mut arguments = Vec::new();
    if interface != "storage" {
        arguments.push(guest.open(interface, "").unwrap());
    }
    match name {
        "storage.list-keys" => arguments.extend([0, 0, 0]),
        "draft2.list-keys" => arguments.extend([0, 0, 0]),
        "draft.get-many" | "draft2.get-many" => {
            arguments.extend(guest.list(&[key, len].repeat(20), 2));
        }
        _ => arguments.extend([key, len]),
    }
    arguments
}

/// Lets each call meet that realloc, in its first allocation and in a later one.
fn ends_every_answer(arena: &mut Arena, realloc: Realloc, reasons: &[&str]) {
    store_some(arena);
    let mut calls = Vec::new();
    for name in ANSWERS {
        for after in [0, 7] {
            if after > 0 && matches!(name, "storage.get" | "extended.get-versioned") {
                continue;
            }
            let mut guest = arena.guest();
            let arguments = arguments(&mut guest, name);
            guest.misbehave(realloc, after);
            calls.push((guest, name, arguments));
        }
    }
    arena.begin(0);
    for (guest, name, arguments) in &mut calls {
        let reason = guest.trap(name, arguments);
        assert!(reasons.iter().any(|known| reason.contains(known)), "{name}: {reason}");
        // It cannot be entered again, and what it asked for is as it was.
        guest.trap("storage.usage", &[]);
        let chain = arena.host.component(&id(EVIL));
        assert_eq!(chain.get("07").unwrap(), Some("value".into()));
        chain.set("07", "value".into()).unwrap();
    }
}

#[test]
fn one_that_traps() {
    alone(|arena| ends_every_answer(arena, Realloc::Traps, &["unreachable"]));
}

#[test]
fn one_that_gives_a_place_outside() {
    alone(|arena| ends_every_answer(arena, Realloc::BeginsOutside, &["beyond end of memory"]));
}

#[test]
fn one_that_gives_a_place_that_ends_outside() {
    // So that nothing fits behind it.
    alone(|arena| {
        let chain = arena.host.component(&id(EVIL));
        chain.set("07", "longer than eight bytes".into()).unwrap();
        let mut guests = [arena.guest(), arena.guest()];
        for guest in &mut guests {
            guest.misbehave(Realloc::EndsOutside, 0);
        }
        arena.begin(0);
        let [key, len] = guests[0].string("07");
        let reason = guests[0].trap("storage.get", &[key, len]);
        assert!(reason.contains("beyond end of memory"), "{reason}");
        let store = guests[1].open("draft2", "").unwrap();
        let [at, len] = guests[1].list(&[key, len].repeat(2), 2);
        let reason = guests[1].trap("draft2.get-many", &[store, at, len]);
        assert!(reason.contains("beyond end of memory"), "{reason}");
    });
}

#[test]
fn one_that_gives_a_misaligned_place() {
    alone(|arena| {
        store_some(arena);
        let names = ["storage.list-keys", "draft.get-many", "draft2.get-many"];
        let mut calls = names.map(|name| {
            let mut guest = arena.guest();
            let arguments = arguments(&mut guest, name);
            guest.misbehave(Realloc::IsMisaligned, 0);
            (guest, name, arguments)
        });
        arena.begin(0);
        for (guest, name, arguments) in &mut calls {
            let reason = guest.trap(name, arguments);
            assert!(reason.contains("not aligned"), "{name}: {reason}");
        }
    });
}

/// Everything is written over everything else; it is the guest's own.
#[test]
fn one_that_gives_the_same_place_each_time() {
    alone(|arena| {
        store_some(arena);
        let mut calls = Vec::new();
        for realloc in [Realloc::GivesTheAnswersPlace, Realloc::GivesZero] {
            for name in ANSWERS {
                let mut guest = arena.guest();
                let arguments = arguments(&mut guest, name);
                guest.misbehave(realloc, 0);
                calls.push((guest, name, arguments));
            }
        }
        arena.begin(0);
        for (guest, name, arguments) in &mut calls {
            for _ in 0..10 {
                guest.call_only(name, arguments).unwrap();
            }
        }
    });
}

/// The memory moves while an answer is written into it.
#[test]
fn one_that_takes_all_memory_first() {
    alone(|arena| {
        store_some(arena);
        let mut calls = ANSWERS.map(|name| {
            let mut guest = arena.guest();
            let arguments = arguments(&mut guest, name);
            guest.misbehave(Realloc::TakesAllMemory, 0);
            (guest, name, arguments)
        });
        arena.begin(0);
        for (guest, name, arguments) in &mut calls {
            guest.call(name, arguments).unwrap();
        }
    });
}

#[test]
fn one_that_recurses_without_end() {
    alone(|arena| ends_every_answer(arena, Realloc::RecursesForEver, &["call stack exhausted"]));
}

/// While the host writes an answer, the guest cannot call it.
#[test]
fn one_that_calls_storage() {
    alone(|arena| ends_every_answer(arena, Realloc::CallsStorage, &["cannot leave"]));
}

#[test]
fn one_that_never_returns() {
    alone(|arena| {
        store_some(arena);
        let mut calls = ANSWERS.map(|name| {
            let mut guest = arena.guest();
            let arguments = arguments(&mut guest, name);
            guest.misbehave(Realloc::NeverReturns, 0);
            (guest, name, arguments)
        });
        arena.begin(0);
        arena.with_epochs(|| {
            for (guest, name, arguments) in &mut calls {
                guest.set_deadline(20);
                let reason = guest.trap(name, arguments);
                assert_eq!(reason, crate::runaway::TOO_LONG, "{name}");
            }
        });
    });
}

/// In this encoding a text may change its form, which moves it.
#[test]
fn one_that_misbehaves_half_way_through_a_text() {
    alone(|arena| {
        let chain = arena.host.component(&id(EVIL));
        for n in 0..20 {
            chain.set(&format!("caf\u{e9}{n}\u{6b6b}"), "".into()).unwrap();
        }
        let mut calls = Vec::new();
        for realloc in [
            Realloc::Traps,
            Realloc::BeginsOutside,
            Realloc::IsMisaligned,
            Realloc::GivesTheAnswersPlace,
            Realloc::CallsStorage,
            Realloc::GivesZero,
        ] {
            for after in 0..8 {
                let mut guest = arena.guest_of(Kind::LATIN1, EVIL);
                guest.misbehave(realloc, after);
                calls.push((guest, realloc));
            }
        }
        arena.begin(0);
        for (guest, realloc) in &mut calls {
            let ended = guest.call_only("storage.list-keys", &[0, 0, 0]).is_err();
            let lies = matches!(realloc, Realloc::GivesTheAnswersPlace | Realloc::GivesZero);
            assert_eq!(ended, !lies, "{realloc:?}");
        }
    });
}
