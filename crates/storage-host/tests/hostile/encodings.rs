//! The encodings of the canonical ABI, and invalid texts.

use storage_host::ComponentStorage;

use crate::arena::{EVIL, alone, id};
use crate::component::{DATA, Kind};
use crate::guest::Call;
use crate::sizes::TAKE_TEXTS;

/// Keys that each encoding writes in its own way.
const KEYS: [&str; 6] =
    ["plain", "caf\u{e9}", "\u{ff}", "\u{6b6b}", "\u{1f600}", "a/\u{e9}\u{6b6b}"];

#[test]
fn every_encoding_reaches_the_same_keys() {
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
                let outcome = reader.get(&"\u{e9}".repeat(1_000)).unwrap_err();
                assert!(outcome.contains("\u{e9}\u{e9}"), "{outcome}");
            }
            for key in KEYS {
                chain.delete(key).unwrap();
            }
        }
    });
}

#[test]
fn invalid_texts_end_the_guest() {
    alone(|arena| {
        // Cut off, too long, a surrogate, beyond the last character, no beginning.
        let utf8: [&[u8]; 5] =
            [b"k\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80k"];
        // A first half alone, a second half alone, two halves in the wrong order.
        let utf16: [&[u8]; 3] = [b"k\0\0\xd8", b"\0\xdck\0", b"\0\xdc\0\xd8"];
        let mut invalid = Vec::new();
        for name in TAKE_TEXTS {
            let mut call = |kind, bytes: &[u8], len| {
                let mut guest = arena.guest_of(kind, EVIL);
                let at = guest.put(bytes);
                invalid.push(Call::new(guest, name, [at, len], [DATA.into(), 1]));
            };
            for bytes in utf8 {
                call(Kind::PLAIN, bytes, bytes.len() as u64);
            }
            for bytes in utf16 {
                call(Kind::UTF16, bytes, bytes.len() as u64 / 2);
                call(Kind::LATIN1, bytes, (bytes.len() as u64 / 2) | (1 << 31));
            }
        }
        let mut misaligned = [Kind::UTF16, Kind::LATIN1].map(|kind| Call {
            guest: arena.guest_of(kind, EVIL),
            name: "storage.get",
            arguments: vec![u64::from(DATA) + 1, 2],
        });
        arena.begin(0);
        Call::expect_traps(&mut invalid, &["utf-8", "surrogate"]);
        Call::expect_traps(&mut misaligned, &["not aligned"]);
    });
}
