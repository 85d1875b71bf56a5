//! Lists that are not what they claim to be.

use storage_host::guest::{self, ComponentState, SandboxLimits};
use storage_host::wasmtime::component::{Component, Linker};

use crate::arena::{EVIL, alone};
use crate::component::{DATA, HEAP, Kind, text};
use crate::guest::{Guest, Realloc};

/// Every function that takes a list of anything but bytes, with the arguments after the
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

fn with(guest: &mut Guest, name: &str, arguments: &[u64], at: u64, len: u64) -> Vec<u64> {
    let store = guest.open(name.split('.').next().unwrap(), "").unwrap();
    let place = |argument: &u64| match *argument {
        AT => at,
        LEN => len,
        other => other,
    };
    std::iter::once(store).chain(arguments.iter().map(place)).collect()
}

#[test]
fn a_list_that_claims_hundreds_of_millions_of_elements() {
    alone(|arena| {
        let mut sandbox = SandboxLimits::default();
        sandbox.memory_bytes = 4 << 30;
        // In a small memory, and in one that has so much: of three gibibytes, of
        // which none was ever touched.
        let mut guests = Vec::new();
        for (name, arguments) in TAKE_LISTS {
            for (pages, len) in [
                (0, 1 << 28),
                (0, 1 << 31),
                (0, u64::from(u32::MAX)),
                (49_000, 1 << 26),
                (49_000, 1 << 28),
            ] {
                let mut guest = arena.guest_with(Kind::PLAIN, EVIL, sandbox);
                assert!(guest.grow(pages));
                let arguments = with(&mut guest, name, arguments, DATA.into(), len);
                guests.push((guest, name, arguments));
            }
        }
        arena.begin(0);
        for (guest, name, arguments) in &mut guests {
            let reason = guest.trap(name, arguments);
            let known = ["out of bounds of memory", "than the limit of 21131520 bytes"];
            assert!(known.iter().any(|known| reason.contains(known)), "{name}: {reason}");
        }
    });
}

#[test]
fn a_text_that_claims_hundreds_of_millions_of_characters() {
    alone(|arena| {
        const TAG: u64 = 1 << 31;
        let mut sandbox = SandboxLimits::default();
        sandbox.memory_bytes = 4 << 30;
        let mut guests = Vec::new();
        for kind in [Kind::PLAIN, Kind::UTF16, Kind::LATIN1] {
            for pages in [0, 49_000] {
                for len in [1 << 28, TAG - 1, TAG, TAG | 1 << 28, (1 << 32) - 1] {
                    // A text of no characters, in two bytes each, is legal.
                    if kind == Kind::LATIN1 && len == TAG {
                        continue;
                    }
                    let mut guest = arena.guest_with(kind, EVIL, sandbox);
                    assert!(guest.grow(pages));
                    guests.push((guest, len));
                }
            }
        }
        arena.begin(0);
        for (guest, len) in &mut guests {
            let reason = guest.trap("storage.get", &[DATA.into(), *len]);
            let known = ["out of bounds of memory", "than the limit of 21131520 bytes"];
            assert!(known.iter().any(|known| reason.contains(known)), "{len:x}: {reason}");
        }
    });
}

#[test]
fn a_misaligned_list() {
    alone(|arena| {
        let mut guests: Vec<_> = TAKE_LISTS
            .iter()
            .flat_map(|(name, arguments)| [1, 2, 3].map(|off| (*name, *arguments, off)))
            .map(|(name, arguments, off)| {
                let mut guest = arena.guest();
                let arguments = with(&mut guest, name, arguments, u64::from(DATA) + off, 1);
                (guest, name, arguments)
            })
            .collect();
        arena.begin(0);
        for (guest, name, arguments) in &mut guests {
            let reason = guest.trap(name, arguments);
            assert!(reason.contains("not aligned"), "{name}: {reason}");
        }
    });
}

/// The words of an element that lies nowhere, for each kind of list.
fn wild_element(name: &str, first: bool, at: u64, len: u64) -> Vec<u64> {
    match (name.split_once('.').unwrap().1, first) {
        ("get-many" | "delete-many", _) => vec![at, len],
        ("set-many", true) => vec![at, len, DATA.into(), 1],
        ("set-many", false) => vec![DATA.into(), 1, at, len],
        // A check: its key, or the value asked for.
        ("check", true) => vec![at, len, 0, 0, 0, 0],
        ("check", false) => vec![DATA.into(), 1, 3, 0, at, len],
        ("write", true) => vec![0, at, len, DATA.into(), 1],
        ("write", false) => vec![0, DATA.into(), 1, at, len],
        _ => panic!("what are the elements of {name}?"),
    }
}

#[test]
fn elements_that_lie_nowhere() {
    alone(|arena| {
        let memory_end = 16 * 65_536;
        let places = [
            (0xffff_0000, 4),
            (memory_end - 2, 4),
            (DATA.into(), 0xffff_ffff),
            (0xffff_ffff, 0xffff_ffff),
        ];
        let mut guests = Vec::new();
        for (name, arguments) in TAKE_LISTS {
            let elements = match arguments {
                [AT, LEN, 0, 0] => "extended.check",
                [0, 0, AT, LEN] => "extended.write",
                _ => name,
            };
            for first in [true, false] {
                for (at, len) in places {
                    let mut guest = arena.guest();
                    let words = wild_element(elements, first, at, len);
                    let [at, len] = guest.list(&words, words.len());
                    let arguments = with(&mut guest, name, arguments, at, len);
                    guests.push((guest, name, arguments));
                }
            }
        }
        arena.begin(0);
        for (guest, name, arguments) in &mut guests {
            let reason = guest.trap(name, arguments);
            assert!(reason.contains("out of bounds"), "{name}: {reason}");
        }
    });
}

#[test]
fn cases_that_do_not_exist() {
    alone(|arena| {
        let mut guests = Vec::new();
        // What is expected of a key, what is to be written, and an option.
        for case in [2, 4, 77, 255] {
            let key = u64::from(DATA);
            let mut guest = arena.guest();
            let [at, len] = guest.list(&[case, key, 1, key, 1], 5);
            let store = guest.open("extended", "").unwrap();
            guests.push((guest, "extended.commit", vec![store, 0, 0, at, len]));
            let mut guest = arena.guest();
            let [at, len] = guest.list(&[key, 1, case | 4, 0, key, 1], 6);
            let store = guest.open("extended", "").unwrap();
            guests.push((guest, "extended.commit", vec![store, at, len, 0, 0]));
            let mut guest = arena.guest();
            let store = guest.open("extended", "").unwrap();
            guests.push((guest, "extended.list-page", vec![store, key, 1, case, key, 1, 10]));
            guests.push((arena.guest(), "storage.list-keys", vec![case, key, 1]));
            let mut guest = arena.guest();
            let store = guest.open("draft", "").unwrap();
            guests.push((guest, "draft.list-keys", vec![store, case, 1]));
            let mut guest = arena.guest();
            let store = guest.open("draft2", "").unwrap();
            guests.push((guest, "draft2.list-keys", vec![store, case, key, 1]));
        }
        arena.begin(0);
        for (guest, name, arguments) in &mut guests {
            let reason = guest.trap(name, arguments);
            assert!(reason.contains("discriminant"), "{name}: {reason}");
        }
    });
}

/// A thousand elements that are all one mebibyte in the guest would be a gibibyte
/// in the host.
#[test]
fn elements_that_lie_on_each_other() {
    alone(|arena| {
        const LARGE: u32 = 0x100_0000;
        let mut guests: Vec<Guest> = (0..3).map(|_| arena.guest()).collect();
        for guest in &mut guests {
            assert!(guest.grow(512));
            guest.fill(LARGE, b'v', 1 << 20);
        }
        arena.begin(0);
        let place = [LARGE.into(), 1 << 20];
        let mut calls = Vec::new();
        for (guest, name) in
            guests.iter_mut().zip(["draft2.set-many", "draft2.get-many", "extended.commit"])
        {
            let pair = [DATA.into(), 1, place[0], place[1]];
            let store = guest.open(name.split('.').next().unwrap(), "").unwrap();
            let [at, len] = match name {
                "draft2.set-many" => guest.pairs(&[pair; 1_000]),
                "extended.commit" => guest.writes(&[pair; 1_000]),
                _ => guest.list(&place.repeat(1_000), 2),
            };
            calls.push((guest, name, store, [at, len]));
        }
        for (guest, name, store, [at, len]) in calls {
            let mut arguments = vec![store];
            if name == "extended.commit" {
                arguments.extend([0, 0]);
            }
            arguments.extend([at, len]);
            let reason = guest.trap(name, &arguments);
            assert!(reason.contains("than the limit of 21131520 bytes"), "{name}: {reason}");
        }
    });
}

/// A component that was built for other types is not linked, rather than misread.
#[test]
fn an_interface_of_other_types() {
    alone(|arena| {
        arena.begin(0);
        let plain = text(Kind::PLAIN);
        let changed = |what: &str, to: &str| {
            assert!(plain.contains(what), "{what}");
            plain.replace(what, to)
        };
        let components = [
            // Spin's list for the specification's, in a linker for that.
            text(Kind::SPIN),
            changed("(case \"io-error\" string)", "(case \"io-error\" u32)"),
            changed("(field \"used-bytes\" u64)", "(field \"used-bytes\" s64)"),
            changed("(case \"absent\") (case \"present\")", "(case \"present\") (case \"absent\")"),
            changed("(param \"limit\" u32)", "(param \"limit\" s32)"),
            changed("(param \"delta\" s64)", "(param \"delta\" u64)"),
        ];
        for component in components {
            let component = Component::new(&arena.engine, wat::parse_str(component).unwrap());
            let mut linker = Linker::new(&arena.engine);
            guest::add_to_linker(&mut linker, |state: &mut ComponentState| state).unwrap();
            assert!(linker.instantiate_pre(&component.unwrap()).is_err());
        }
    });
}

/// Elements at the address of the result, which overwrites them.
#[test]
fn arguments_that_lie_where_the_answer_goes() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        guest.set("kkkk", "value").unwrap();
        let [key, len] = guest.string("kkkk");
        // The key itself.
        for at in 0..4 {
            guest.write(HEAP - 64, b"kkkkkkkkkkkkkkkk");
            let answer = u64::from(HEAP) - 64;
            guest.call("answer-at", &[answer + at, 4, answer]).unwrap();
            let told = guest.look(HEAP - 64, 16);
            assert_eq!((told[0], told[4]), (0, 1));
        }
        // And the list of the keys, whose values come where realloc says.
        let store = guest.open("draft2", "").unwrap();
        guest.misbehave(Realloc::GivesTheAnswersPlace, 0);
        let [at, len] = guest.list(&[key, len].repeat(8), 2);
        guest.call_only("draft2.get-many", &[store, at, len]).unwrap();
    });
}
