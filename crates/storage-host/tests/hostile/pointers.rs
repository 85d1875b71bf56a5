//! Addresses outside of the guest's memory.

use crate::arena::alone;
use crate::component::DATA;
use crate::sizes::{TAKE_TEXTS, TAKE_VALUES, arguments};

/// The memory's end.
const END: u64 = 16 * 65_536;

/// Places that begin outside, end outside, are too long, and wrap.
const PLACES: [[u64; 2]; 5] = [
    [0xffff_0000, 4],
    [END - 1, 4],
    [DATA as u64, 0xffff_ffff],
    [0xffff_fff8, 16],
    [0xffff_ffff, 0xffff_ffff],
];

#[test]
fn texts_that_lie_nowhere() {
    alone(|arena| {
        let mut calls = Vec::new();
        for name in TAKE_TEXTS {
            for place in PLACES {
                let mut guest = arena.guest();
                let arguments = arguments(&mut guest, name, place, [DATA.into(), 1]);
                calls.push((guest, name, arguments));
            }
        }
        arena.begin(0);
        for (guest, name, arguments) in &mut calls {
            let reason = guest.trap(name, arguments);
            assert!(reason.contains("out of bounds"), "{name}: {reason}");
        }
    });
}

#[test]
fn values_that_lie_nowhere() {
    alone(|arena| {
        let mut calls = Vec::new();
        for name in TAKE_VALUES {
            for place in PLACES {
                let mut guest = arena.guest();
                let key = guest.string("key");
                let arguments = arguments(&mut guest, name, key, place);
                calls.push((guest, name, arguments));
            }
        }
        arena.begin(0);
        for (guest, name, arguments) in &mut calls {
            let reason = guest.trap(name, arguments);
            assert!(reason.contains("out of bounds"), "{name}: {reason}");
        }
    });
}

#[test]
fn answers_that_would_go_nowhere() {
    alone(|arena| {
        let places = [END, END - 8, 0xffff_ffff & !3, DATA as u64 + 1, DATA as u64 + 2];
        let mut guests = places.map(|place| (arena.guest(), place));
        arena.begin(0);
        for (guest, place) in &mut guests {
            let [key, len] = guest.string("key");
            let reason = guest.trap("answer-at", &[key, len, *place]);
            let known = ["out of bounds", "not aligned"];
            assert!(known.iter().any(|known| reason.contains(known)), "{place:x}: {reason}");
        }
    });
}
