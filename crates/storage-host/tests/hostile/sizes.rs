//! Keys and values above every limit.

use storage_host::guest::SandboxLimits;

use crate::arena::{Arena, EVIL, alone};
use crate::component::{DATA, Kind};
use crate::guest::{Call, Guest, PAGE};
use crate::measure::available_memory;

/// Every function that takes a key, or another text.
pub(crate) const TAKE_TEXTS: [&str; 32] = [
    "storage.get",
    "storage.set",
    "storage.delete",
    "storage.exists",
    "storage.list-keys",
    "extended.open",
    "extended.get-versioned",
    "extended.list-page",
    "extended.get-many",
    "extended.create",
    "extended.update",
    "extended.commit",
    "draft.open",
    "draft.get",
    "draft.set",
    "draft.delete",
    "draft.exists",
    "draft.increment",
    "draft.get-many",
    "draft.set-many",
    "draft.delete-many",
    "draft2.open",
    "draft2.list-keys",
    "draft2.increment",
    "draft2.cas",
    "draft2.get-many",
    "spin.open",
    "spin.get",
    "spin.set",
    "spin.delete",
    "spin.exists",
    "config.get",
];

/// Those that keep the text or a part of it after they have validated it.
#[rustfmt::skip]
const KEEP_TEXTS: [&str; 9] = [
    "storage.get", "extended.open", "extended.list-page", "extended.get-many", "extended.create",
    "extended.commit", "draft.set-many", "draft2.cas", "draft2.list-keys",
];

/// Every function that takes a value.
pub(crate) const TAKE_VALUES: [&str; 10] = [
    "storage.set",
    "extended.create",
    "extended.update",
    "extended.commit",
    "draft.set",
    "draft.set-many",
    "draft2.set",
    "draft2.set-many",
    "draft2.swap",
    "spin.set",
];

impl Call {
    /// Prepares a call with a key and a value, given by their addresses.
    pub(crate) fn new(
        mut guest: Guest,
        name: &'static str,
        key: [u64; 2],
        value: [u64; 2],
    ) -> Self {
        let arguments = arguments(&mut guest, name, key, value);
        Self { guest, name, arguments }
    }

    /// Makes a gibibyte of the guest resident. The kernel reads untouched pages as zeros.
    fn touch_gibibyte(&mut self) {
        match available_memory() {
            Some(bytes) if bytes < 4 * GIB => {
                println!("\nSKIPPED a resident gibibyte: {bytes} bytes of memory are available");
            }
            _ => self.guest.fill(LARGE, b'k', 1 << 30),
        }
    }
}

/// The arguments of a call with this key, or other text, and value.
pub(crate) fn arguments(
    guest: &mut Guest,
    name: &str,
    [key, key_len]: [u64; 2],
    [value, value_len]: [u64; 2],
) -> Vec<u64> {
    let (interface, function) = name.split_once('.').unwrap();
    let mut arguments = Vec::new();
    if !["storage", "config"].contains(&interface) && function != "open" {
        arguments.push(guest.open(interface, "").unwrap());
    }
    match function {
        "get" | "delete" | "exists" | "open" | "get-versioned" | "cas" => {
            arguments.extend([key, key_len]);
        }
        "set" | "create" | "update" => arguments.extend([key, key_len, value, value_len]),
        "list-keys" => arguments.extend([1, key, key_len]),
        // The start of the page; a long prefix lists nothing.
        "list-page" => arguments.extend([key, key_len.min(4), 1, key, key_len, 10]),
        "increment" => arguments.extend([key, key_len, 1]),
        "get-many" | "delete-many" => arguments.extend(guest.list(&[key, key_len], 2)),
        "set-many" => arguments.extend(guest.pairs(&[[key, key_len, value, value_len]])),
        "commit" => {
            arguments.extend([0, 0]);
            arguments.extend(guest.writes(&[[key, key_len, value, value_len]]));
        }
        "swap" => {
            let cas = guest.call("draft2.cas", &[arguments[0], key, key_len]).unwrap();
            arguments = vec![cas.word(4).into(), value, value_len];
        }
        _ => panic!("unknown arguments of {name}"),
    }
    arguments
}

/// Where large keys and values begin.
pub(crate) const LARGE: u32 = 0x100_0000;

const GIB: u64 = 1 << 30;

/// What one call may pass to the host: 16 MiB and a thousand operations, and a quarter more.
pub(crate) const MAY_PASS: u64 = 21_131_520;

const TOO_MUCH: &str = "it passed more to the host in one call than the limit of 21131520 bytes";

/// A sandbox for guests that have more than a gibibyte.
fn roomy() -> SandboxLimits {
    let mut limits = SandboxLimits::default();
    limits.memory_bytes = 2 << 30;
    limits
}

/// A guest with that many untouched bytes from [`LARGE`] on.
pub(crate) fn large(arena: &Arena, kind: Kind, bytes: u64) -> Guest {
    let mut guest = arena.guest_with(kind, EVIL, roomy());
    let pages = (u64::from(LARGE) + bytes).div_ceil(PAGE) - 16;
    assert!(guest.grow(u32::try_from(pages).unwrap()));
    guest
}

#[test]
fn a_text_or_value_of_a_gibibyte_ends_the_guest() {
    alone(|arena| {
        let huge = [LARGE.into(), GIB];
        let mut calls: Vec<Call> = TAKE_TEXTS
            .iter()
            .map(|name| Call::new(large(arena, Kind::PLAIN, GIB), name, huge, [DATA.into(), 4]))
            .collect();
        calls[0].touch_gibibyte();
        calls.extend(TAKE_VALUES.iter().map(|name| {
            let mut guest = large(arena, Kind::PLAIN, GIB);
            let key = guest.string("key");
            Call::new(guest, name, key, huge)
        }));
        // And a value that a check compares with.
        let mut guest = large(arena, Kind::PLAIN, GIB);
        let (store, key) = (guest.open("extended", "").unwrap(), guest.string("key"));
        let [check, checks] = guest.check_of(key, huge);
        let arguments = vec![store, check, checks, 0, 0];
        calls.push(Call { guest, name: "extended.commit", arguments });
        arena.begin(0);
        Call::expect_traps(&mut calls, &[TOO_MUCH]);
    });
}

/// The host allocates no more than it needs to decode the longest text that a call may pass.
#[test]
fn the_longest_text_of_a_call_is_refused_in_every_encoding() {
    alone(|arena| {
        const LEN: u64 = MAY_PASS;
        // U+6B6B becomes three bytes, and U+00E9 two.
        let kinds = [(Kind::PLAIN, b'k', 1), (Kind::UTF16, 0x6b, 2), (Kind::LATIN1, 0xe9, 1)];
        let mut guests = kinds.map(|(kind, byte, unit)| {
            let mut guest = large(arena, kind, LEN);
            guest.fill(LARGE, byte, LEN as u32);
            (guest, unit)
        });
        arena.begin(0);
        for (guest, unit) in &mut guests {
            // To decode so much takes a second where nothing is optimised.
            let names = if guest.is_utf8() { &TAKE_TEXTS[..] } else { &KEEP_TEXTS };
            for name in names.iter().copied() {
                // What else the call passes counts too.
                let len = (LEN - 128) / *unit;
                let value = guest.put(b"v");
                let arguments = arguments(guest, name, [LARGE.into(), len], [value, 1]);
                let outcome = guest.call(name, &arguments);
                let is_refused = match outcome {
                    Ok(answer) if name == "config.get" => answer.word(4) == 0,
                    Ok(answer) => name.contains("list") && answer.word(8) == 0,
                    Err(text) if name.ends_with("open") => text == "no-such-store",
                    Err(text) => text.len() < 300 && REASONS.iter().any(|why| text.contains(why)),
                };
                assert!(is_refused, "{name}");
            }
        }
    });
}

/// The host decodes one text of a call after the other. The first one allocates more than it
/// needs.
#[test]
fn two_long_texts_are_refused_before_the_second_is_decoded() {
    alone(|arena| {
        let mut guest = large(arena, Kind::UTF16, MAY_PASS);
        guest.fill(LARGE, 0x6b, MAY_PASS as u32);
        arena.begin(0);
        let store = guest.open("extended", "").unwrap();
        // Sixteen mebibytes and a little, and the rest.
        let first = (16 << 20) / 3 + 100;
        let second = MAY_PASS / 2 - first - 100;
        let texts = [[LARGE.into(), first], [LARGE.into(), second]];
        // A first text within the limit of a batch is still not a valid key, and the other
        // one is not read.
        let orders = [(texts, REASONS[1]), ([texts[1], texts[0]], REASONS[0])];
        for ([[prefix, prefix_len], [after, after_len]], reason) in orders {
            let page = [store, prefix, prefix_len, 1, after, after_len, 10];
            let page = guest.call("extended.list-page", &page).unwrap();
            assert_eq!((page.word(8), page.byte(12)), (0, 0));
            let [at, len] = guest.list(&[prefix, prefix_len, after, after_len], 2);
            let text = guest.call("extended.get-many", &[store, at, len]).unwrap_err();
            assert!(text.contains(reason), "{text}");
            let [at, len] = guest.writes(&[
                [prefix, prefix_len, DATA.into(), 1],
                [after, after_len, DATA.into(), 1],
            ]);
            let text = guest.call("extended.commit", &[store, 0, 0, at, len]).unwrap_err();
            assert!(text.contains("bytes of a batch are over the limit"), "{text}");
        }
    });
}

/// Each key of a batch allocates more than it needs while it is decoded.
#[test]
fn a_thousand_long_keys_of_a_batch_are_refused() {
    alone(|arena| {
        // Three bytes a unit are a little more than sixteen kibibytes, and a thousand
        // of them within the limit.
        const UNITS: u64 = 5_462;
        let mut guest = large(arena, Kind::UTF16, 2 * UNITS);
        guest.fill(LARGE, 0x6b, 2 * UNITS as u32);
        arena.begin(0);
        let (store, bucket) =
            (guest.open("extended", "").unwrap(), guest.open("draft2", "").unwrap());
        let key = [LARGE.into(), UNITS];
        let keys = guest.list(&key.repeat(1_000), 2);
        let pairs = guest.pairs(&vec![[key[0], key[1], DATA.into(), 1]; 1_000]);
        let writes = guest.writes(&vec![[key[0], key[1], DATA.into(), 1]; 1_000]);
        for (name, arguments) in [
            ("extended.get-many", vec![store, keys[0], keys[1]]),
            ("extended.commit", vec![store, 0, 0, writes[0], writes[1]]),
            ("draft2.get-many", vec![bucket, keys[0], keys[1]]),
            ("draft2.set-many", vec![bucket, pairs[0], pairs[1]]),
            ("draft2.delete-many", vec![bucket, keys[0], keys[1]]),
        ] {
            let text = guest.call(name, &arguments).unwrap_err();
            assert!(text.contains("a key has at most 1024 bytes"), "{name}: {text}");
        }
    });
}

const REASONS: [&str; 3] = [
    "a key has at most 1024 bytes",
    "bytes of a batch are over the limit of 16777216",
    "longer than any key",
];

#[test]
fn a_value_one_byte_over_the_limit_is_refused() {
    alone(|arena| {
        const LEN: u64 = (1 << 20) + 1;
        let mut calls = TAKE_VALUES.map(|name| {
            let mut guest = large(arena, Kind::PLAIN, LEN);
            guest.fill(LARGE, b'v', LEN as u32);
            let key = guest.string("key");
            Call::new(guest, name, key, [LARGE.into(), LEN])
        });
        arena.begin(0);
        for call in &mut calls {
            let text = call.run().unwrap_err();
            let reason = "1048577 bytes of a value are over the limit of 1048576";
            assert!(text.ends_with(reason), "{}: {text}", call.name);
        }
        assert_eq!(calls[0].guest.get("key").unwrap(), None);
    });
}
