//! Lists and texts whose length, address or contents are invalid.

use storage_host::guest::{self, ComponentState, SandboxLimits};
use storage_host::wasmtime::component::{Component, Linker};

use crate::arena::{EVIL, alone};
use crate::component::{DATA, HEAP, Kind, text};
use crate::guest::{Call, Guest, Realloc};

/// Every function that takes a list of anything but bytes, and its arguments after the
/// handle. The list replaces `AT` and `LEN`.
const TAKE_LISTS: [(&str, &[u64]); 9] = [
    ("extended.get-many", &[AT, LEN]),
    ("extended.commit", &[AT, LEN, 0, 0]),
    ("extended.commit", &[0, 0, AT, LEN]),
    ("draft.get-many", &[AT, LEN]),
    ("draft.set-many", &[AT, LEN]),
    ("draft.delete-many", &[AT, LEN]),
    ("draft2.get-many", &[AT, LEN]),
    ("draft2.set-many", &[AT, LEN]),
    ("draft2.delete-many", &[AT, LEN]),
];

const AT: u64 = u64::MAX;
const LEN: u64 = u64::MAX - 1;

fn list_call(mut guest: Guest, name: &'static str, arguments: &[u64], [at, len]: [u64; 2]) -> Call {
    let store = guest.open(name.split('.').next().unwrap(), "").unwrap();
    let replaced = arguments.iter().map(|argument| match *argument {
        AT => at,
        LEN => len,
        other => other,
    });
    let arguments = std::iter::once(store).chain(replaced).collect();
    Call { guest, name, arguments }
}

const TOO_LONG: [&str; 2] = ["out of bounds of memory", "than the limit of 21131520 bytes"];

/// In a small memory, and in one of three gibibytes that was never touched.
#[test]
fn huge_claimed_lengths_end_the_guest() {
    alone(|arena| {
        const TAG: u64 = 1 << 31;
        let mut sandbox = SandboxLimits::default();
        sandbox.memory_bytes = 4 << 30;
        let mut calls = Vec::new();
        for pages in [0, 49_000] {
            let new = |kind| {
                let mut guest = arena.guest_with(kind, EVIL, sandbox);
                assert!(guest.grow(pages));
                guest
            };
            let lengths: &[u64] =
                if pages == 0 { &[1 << 28, 1 << 31, (1 << 32) - 1] } else { &[1 << 26, 1 << 28] };
            for (name, arguments) in TAKE_LISTS {
                let call = |len| list_call(new(Kind::PLAIN), name, arguments, [DATA.into(), len]);
                calls.extend(lengths.iter().map(|len| call(*len)));
            }
            for kind in [Kind::PLAIN, Kind::UTF16, Kind::LATIN1] {
                for len in [1 << 28, TAG - 1, TAG, TAG | 1 << 28, (1 << 32) - 1] {
                    // In this encoding it is an empty text.
                    if kind != Kind::LATIN1 || len != TAG {
                        let arguments = vec![DATA.into(), len];
                        calls.push(Call { guest: new(kind), name: "storage.get", arguments });
                    }
                }
            }
        }
        arena.begin(0);
        Call::expect_traps(&mut calls, &TOO_LONG);
    });
}

/// The words of an element with an invalid address in its first or its last part.
fn wild_element(name: &str, first: bool, [at, len]: [u64; 2]) -> Vec<u64> {
    match (name.split_once('.').unwrap().1, first) {
        ("get-many" | "delete-many", _) => vec![at, len],
        ("set-many", true) => vec![at, len, DATA.into(), 1],
        ("set-many", false) => vec![DATA.into(), 1, at, len],
        ("check", true) => vec![at, len, 0, 0, 0, 0],
        ("check", false) => vec![DATA.into(), 1, 3, 0, at, len],
        ("write", true) => vec![0, at, len, DATA.into(), 1],
        ("write", false) => vec![0, DATA.into(), 1, at, len],
        _ => panic!("unknown elements of {name}"),
    }
}

#[test]
fn misplaced_lists_and_elements_end_the_guest() {
    alone(|arena| {
        let (mut misaligned, mut outside) = (Vec::new(), Vec::new());
        for (name, arguments) in TAKE_LISTS {
            for offset in [1, 2, 3] {
                let list = [u64::from(DATA) + offset, 1];
                misaligned.push(list_call(arena.guest(), name, arguments, list));
            }
            let elements = match arguments {
                [AT, LEN, 0, 0] => "extended.check",
                [0, 0, AT, LEN] => "extended.write",
                _ => name,
            };
            for first in [true, false] {
                for address in [
                    [0xffff_0000, 4],
                    [16 * 65_536 - 2, 4],
                    [DATA.into(), 0xffff_ffff],
                    [0xffff_ffff, 0xffff_ffff],
                ] {
                    let mut guest = arena.guest();
                    let words = wild_element(elements, first, address);
                    let list = guest.list(&words, words.len());
                    outside.push(list_call(guest, name, arguments, list));
                }
            }
        }
        arena.begin(0);
        Call::expect_traps(&mut misaligned, &["not aligned"]);
        Call::expect_traps(&mut outside, &["out of bounds"]);
    });
}

#[test]
fn unknown_cases_of_variants_end_the_guest() {
    alone(|arena| {
        let key = u64::from(DATA);
        let mut calls = Vec::new();
        // Of checks, of writes, and of options.
        for case in [2, 4, 77, 255] {
            let mut guest = arena.guest();
            let list = guest.list(&[case, key, 1, key, 1], 5);
            calls.push(list_call(guest, "extended.commit", &[0, 0, AT, LEN], list));
            let mut guest = arena.guest();
            let list = guest.list(&[key, 1, case | 4, 0, key, 1], 6);
            calls.push(list_call(guest, "extended.commit", &[AT, LEN, 0, 0], list));
            for (name, arguments) in [
                ("extended.list-page", &[key, 1, case, key, 1, 10][..]),
                ("draft.list-keys", &[case, 1]),
                ("draft2.list-keys", &[case, key, 1]),
            ] {
                calls.push(list_call(arena.guest(), name, arguments, [0, 0]));
            }
            let (guest, arguments) = (arena.guest(), vec![case, key, 1]);
            calls.push(Call { guest, name: "storage.list-keys", arguments });
        }
        arena.begin(0);
        Call::expect_traps(&mut calls, &["discriminant"]);
    });
}

/// A thousand elements that share one mebibyte of the guest would be a gibibyte in the host.
#[test]
fn overlapping_elements_each_count() {
    alone(|arena| {
        const LARGE: u64 = 0x100_0000;
        let shared = [LARGE, 1 << 20];
        let write = [DATA.into(), 1, shared[0], shared[1]];
        let names = ["draft2.set-many", "draft2.get-many", "extended.commit"];
        let mut calls = names.map(|name| {
            let mut guest = arena.guest();
            assert!(guest.grow(512));
            guest.fill(LARGE as u32, b'v', 1 << 20);
            let (arguments, list): (&[u64], _) = match name {
                "draft2.set-many" => (&[AT, LEN], guest.pairs(&[write; 1_000])),
                "extended.commit" => (&[0, 0, AT, LEN], guest.writes(&[write; 1_000])),
                _ => (&[AT, LEN], guest.list(&shared.repeat(1_000), 2)),
            };
            list_call(guest, name, arguments, list)
        });
        arena.begin(0);
        Call::expect_traps(&mut calls, &TOO_LONG[1..]);
    });
}

#[test]
fn a_component_built_for_other_types_is_not_linked() {
    alone(|arena| {
        arena.begin(0);
        let plain = text(Kind::PLAIN);
        let changed = |what: &str, to: &str| {
            assert!(plain.contains(what), "{what}");
            plain.replace(what, to)
        };
        for component in [
            // Spin's list, in a linker for the specification's.
            text(Kind::SPIN),
            changed("(case \"io-error\" string)", "(case \"io-error\" u32)"),
            changed("(field \"used-bytes\" u64)", "(field \"used-bytes\" s64)"),
            changed("(case \"absent\") (case \"present\")", "(case \"present\") (case \"absent\")"),
            changed("(param \"limit\" u32)", "(param \"limit\" s32)"),
            changed("(param \"delta\" s64)", "(param \"delta\" u64)"),
        ] {
            let component = Component::new(&arena.engine, wat::parse_str(component).unwrap());
            let mut linker = Linker::new(&arena.engine);
            guest::add_to_linker(&mut linker, |state: &mut ComponentState| state).unwrap();
            assert!(linker.instantiate_pre(&component.unwrap()).is_err());
        }
    });
}

#[test]
fn a_result_may_overwrite_its_arguments() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        guest.set("kkkk", "value").unwrap();
        let result = u64::from(HEAP) - 64;
        for offset in 0..4 {
            guest.write(HEAP - 64, b"kkkkkkkkkkkkkkkk");
            guest.call("answer-at", &[result + offset, 4, result]).unwrap();
            let bytes = guest.look(HEAP - 64, 16);
            assert_eq!((bytes[0], bytes[4]), (0, 1));
        }
        // And the list of keys, whose values are written where realloc says.
        let store = guest.open("draft2", "").unwrap();
        let [key, len] = guest.string("kkkk");
        guest.misbehave(Realloc::ReturnsResultAddress, 0);
        let [at, len] = guest.list(&[key, len].repeat(8), 2);
        guest.call_only("draft2.get-many", &[store, at, len]).unwrap();
    });
}
