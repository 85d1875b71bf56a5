//! Texts in the encodings of the canonical ABI, and what is none.

use storage_host::ComponentStorage;

use crate::arena::{EVIL, alone, id};
use crate::component::{DATA, Kind};
use crate::sizes::{TAKE_TEXTS, arguments};

/// Keys that each encoding writes in its own way.
const KEYS: [&str; 6] =
    ["plain", "caf\u{e9}", "\u{ff}", "\u{6b6b}", "\u{1f600}", "a/\u{e9}\u{6b6b}"];

#[test]
fn every_encoding_names_the_same_keys() {
    alone(|arena| {
        let mut guests =
            [Kind::PLAIN, Kind::UTF16, Kind::LATIN1].map(|kind| arena.guest_of(kind, EVIL));
        arena.begin(0);
        let chain = arena.host.component(&id(EVIL));
        for writer in 0..3 {
            for key in KEYS {
                guests[writer].set(key, key).unwrap();
                assert_eq!(chain.get(key).unwrap(), Some(key.into()));
                for reader in &mut guests {
                    assert_eq!(reader.get(key).unwrap(), Some(key.as_bytes().to_vec()));
                }
            }
            let mut sorted = KEYS;
            sorted.sort_unstable();
            for reader in &mut guests {
                assert_eq!(reader.list_keys().unwrap(), sorted);
                let [key, len] = reader.strings(&KEYS);
                let store = reader.open("draft2", "default").unwrap();
                let found = reader.call("draft2.get-many", &[store, key, len]).unwrap();
                assert_eq!(found.word(8), 6);
                // The text of an error comes in it as well.
                let told = reader.get(&"\u{e9}".repeat(1_000)).unwrap_err();
                assert!(told.contains("\u{e9}\u{e9}"), "{told}");
            }
            for key in KEYS {
                chain.delete(key).unwrap();
            }
        }
    });
}

#[test]
fn a_text_that_is_none() {
    alone(|arena| {
        // Cut off, too long, a surrogate, beyond the last character, no beginning.
        let utf8: [&[u8]; 5] =
            [b"k\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80k"];
        // A first half alone, a second alone, two that are the wrong way round.
        let utf16: [&[u8]; 3] = [b"k\0\0\xd8", b"\0\xdck\0", b"\0\xdc\0\xd8"];
        let mut calls = Vec::new();
        for (kind, bytes) in utf8.map(|bytes| (Kind::PLAIN, bytes)).into_iter().chain(
            utf16.into_iter().flat_map(|bytes| [(Kind::UTF16, bytes), (Kind::LATIN1, bytes)]),
        ) {
            for name in TAKE_TEXTS {
                let mut guest = arena.guest_of(kind, EVIL);
                let at = guest.put(bytes);
                let len = match kind {
                    Kind::PLAIN => bytes.len() as u64,
                    Kind::UTF16 => bytes.len() as u64 / 2,
                    _ => (bytes.len() as u64 / 2) | (1 << 31),
                };
                let arguments = arguments(&mut guest, name, [at, len], [DATA.into(), 1]);
                calls.push((guest, name, arguments));
            }
        }
        arena.begin(0);
        for (guest, name, arguments) in &mut calls {
            let reason = guest.trap(name, arguments);
            let known = ["utf-8", "surrogate"];
            assert!(known.iter().any(|known| reason.contains(known)), "{name}: {reason}");
        }
    });
}

#[test]
fn a_misaligned_text() {
    alone(|arena| {
        let mut guests = [Kind::UTF16, Kind::LATIN1].map(|kind| arena.guest_of(kind, EVIL));
        arena.begin(0);
        for guest in &mut guests {
            let reason = guest.trap("storage.get", &[u64::from(DATA) + 1, 2]);
            assert!(reason.contains("not aligned"), "{reason}");
        }
    });
}
