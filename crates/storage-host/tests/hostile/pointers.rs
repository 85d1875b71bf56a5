//! Addresses outside of the guest's memory.

use crate::arena::alone;
use crate::component::DATA;
use crate::guest::Call;
use crate::sizes::{TAKE_TEXTS, TAKE_VALUES};

const MEMORY_END: u64 = 16 * 65_536;

/// They begin outside, end outside, are too long, or wrap.
const OUTSIDE: [[u64; 2]; 5] = [
    [0xffff_0000, 4],
    [MEMORY_END - 1, 4],
    [DATA as u64, 0xffff_ffff],
    [0xffff_fff8, 16],
    [0xffff_ffff, 0xffff_ffff],
];

#[test]
fn addresses_outside_of_memory_end_the_guest() {
    alone(|arena| {
        let mut calls = Vec::new();
        for address in OUTSIDE {
            for name in TAKE_TEXTS {
                calls.push(Call::new(arena.guest(), name, address, [DATA.into(), 1]));
            }
            for name in TAKE_VALUES {
                let mut guest = arena.guest();
                let key = guest.string("key");
                calls.push(Call::new(guest, name, key, address));
            }
        }
        let data = u64::from(DATA);
        let mut results = [MEMORY_END, MEMORY_END - 8, 0xffff_fffc, data + 1, data + 2].map(|at| {
            let mut guest = arena.guest();
            let [key, len] = guest.string("key");
            Call { guest, name: "answer-at", arguments: vec![key, len, at] }
        });
        arena.begin(0);
        Call::expect_traps(&mut calls, &["out of bounds"]);
        Call::expect_traps(&mut results, &["out of bounds", "not aligned"]);
    });
}
