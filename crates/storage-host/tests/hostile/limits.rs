//! More than a call may ask for, in ways that would fill the host.

use storage_host::{Commit, ComponentSettings, ComponentStorage, Limits, StorageValue};

use crate::arena::{Arena, EVIL, Setup, alone, alone_with, id};
use crate::component::{DATA, Kind};

const MIB: usize = 1 << 20;

/// The functions that read several keys, in the three shapes that there are.
const READS: [(Kind, &str); 4] = [
    (Kind::PLAIN, "extended.get-many"),
    (Kind::PLAIN, "draft.get-many"),
    (Kind::PLAIN, "draft2.get-many"),
    (Kind::SPIN, "draft2.get-many"),
];

/// Stores values of a mebibyte each under keys of three digits.
fn store_large_values(arena: &Arena, count: usize) {
    let chain = arena.host.component(&id(EVIL));
    for n in 0..count {
        chain.set(&format!("{n:03}"), vec![n as u8; MIB].into()).unwrap();
    }
}

#[test]
fn a_thousand_values_of_a_mebibyte_at_once() {
    alone(|arena| {
        store_large_values(arena, 40);
        let mut guests = READS.map(|(kind, name)| (arena.guest_of(kind, EVIL), name));
        arena.begin(0);
        for (guest, name) in &mut guests {
            let keys: Vec<[u64; 2]> = (0..40).map(|n| guest.string(&format!("{n:03}"))).collect();
            let thousand: Vec<u64> = keys.into_iter().cycle().take(1_000).flatten().collect();
            let [at, len] = guest.list(&thousand, 2);
            let interface = name.split('.').next().unwrap();
            let store = guest.open(interface, "").unwrap();
            let text = guest.call(name, &[store, at, len]).unwrap_err();
            assert!(text.ends_with("bytes of a batch are over the limit of 16777216"), "{text}");
        }
    });
}

/// As much as is allowed costs the host that, and the guest a copy.
#[test]
fn as_many_values_as_are_allowed() {
    alone(|arena| {
        store_large_values(arena, 15);
        let mut guests = READS.map(|(kind, name)| (arena.guest_of(kind, EVIL), name));
        arena.begin(4 * 16 * MIB as u64);
        for (guest, name) in &mut guests {
            let texts: Vec<String> = (0..15).map(|n| format!("{n:03}")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let [at, len] = guest.strings(&texts);
            let interface = name.split('.').next().unwrap();
            let store = guest.open(interface, "").unwrap();
            let answer = guest.call(name, &[store, at, len]).unwrap();
            assert_eq!(answer.word(8), 15, "{name}");
        }
    });
}

/// Writes of a mebibyte each: as many as fit, more than that, and more than one call
/// may pass.
#[test]
fn a_batch_of_values_at_its_limit() {
    alone(|arena| {
        const LARGE: u32 = 0x100_0000;
        let mut guest = arena.guest();
        assert!(guest.grow(512));
        guest.fill(LARGE, b'v', MIB as u32);
        arena.begin(0);
        let value = [LARGE.into(), MIB as u64];
        let store = guest.open("draft2", "").unwrap();
        let extended = guest.open("extended", "").unwrap();
        let pairs = |guest: &mut crate::guest::Guest, count: usize| -> Vec<[u64; 4]> {
            let key = |n: usize| format!("{n:03}");
            (0..count)
                .map(|n| {
                    let [key, len] = guest.string(&key(n));
                    [key, len, value[0], value[1]]
                })
                .collect()
        };
        let fifteen = pairs(&mut guest, 15);
        let [at, len] = guest.pairs(&fifteen);
        guest.call("draft2.set-many", &[store, at, len]).unwrap();
        let [at, len] = guest.writes(&fifteen);
        guest.call("extended.commit", &[extended, 0, 0, at, len]).unwrap();
        // The sixteenth exceeds the limit by the bytes of the keys.
        let over = "16777264 bytes of a batch are over the limit of 16777216";
        for count in [16, 20] {
            let many = pairs(&mut guest, count);
            let [at, len] = guest.pairs(&many);
            let text = guest.call("draft2.set-many", &[store, at, len]).unwrap_err();
            assert_eq!(text, format!("other: {over}"));
            let [at, len] = guest.writes(&many);
            let text = guest.call("extended.commit", &[extended, 0, 0, at, len]).unwrap_err();
            assert_eq!(text, format!("io-error: {over}"));
        }
        // And this is over what may be passed at all.
        let many = pairs(&mut guest, 21);
        let [at, len] = guest.pairs(&many);
        let reason = guest.trap("draft2.set-many", &[store, at, len]);
        assert!(reason.contains("21131520 bytes"), "{reason}");
    });
}

#[test]
fn an_operation_too_many() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        let store = guest.open("draft2", "").unwrap();
        let extended = guest.open("extended", "").unwrap();
        let [key, len] = guest.string("k");
        for count in [1_001, 10_000] {
            let keys = guest.list(&[key, len].repeat(count), 2);
            let pairs = guest.pairs(&vec![[key, len, key, 1]; count]);
            let over = format!("{count} operations of a batch are over the limit of 1000");
            for (name, [at, len]) in [
                ("draft2.get-many", keys),
                ("draft2.set-many", pairs),
                ("draft2.delete-many", keys),
            ] {
                let text = guest.call(name, &[store, at, len]).unwrap_err();
                assert!(text.ends_with(&over), "{name}: {text}");
            }
            let text = guest.call("extended.get-many", &[extended, keys[0], keys[1]]);
            assert!(text.unwrap_err().ends_with(&over));
            let [at, len] = guest.writes(&vec![[key, len, key, 1]; count]);
            let text = guest.call("extended.commit", &[extended, 0, 0, at, len]).unwrap_err();
            assert!(text.ends_with(&over), "{text}");
        }
        assert_eq!(guest.get("k").unwrap(), None);
    });
}

/// A component whose limits are its own, on a host with others for all.
const OWN_LIMITS: Setup = Setup {
    host: |builder| {
        let mut own = Limits::default();
        (own.key_bytes, own.value_bytes) = (4, 2);
        (own.batch_operations, own.batch_bytes, own.handles) = (3, 12, 2);
        (own.listing_keys, own.listing_bytes) = (3, 6);
        let mut all = Limits::default();
        (all.key_bytes, all.value_bytes, all.handles) = (40, 100_000, 3);
        let settings = ComponentSettings { limits: own, ..ComponentSettings::default() };
        builder.limits(all).component(EVIL.parse().unwrap(), settings)
    },
    ..Setup::PLAIN
};

/// Each refusal names the limit, and the number that holds for this component.
#[test]
fn limits_of_one_component_and_of_all_others() {
    alone_with(OWN_LIMITS, |arena| {
        let mut guest = arena.guest();
        let mut other = arena.guest_of(Kind::PLAIN, "evil/guest/2");
        let mut wordy = [arena.guest(), arena.guest_of(Kind::PLAIN, "evil/guest/3")];
        arena.begin(0);
        let told = guest.set("12345", "x").unwrap_err();
        assert_eq!(told, "invalid-key: a key has at most 4 bytes here; this one has 5");
        let told = guest.set("key", "xyz").unwrap_err();
        assert_eq!(told, "io-error: 3 bytes of a value are over the limit of 2");
        let extended = guest.open("extended", "").unwrap();
        let draft2 = guest.open("draft2", "").unwrap();
        let told = guest.open("draft2", "").unwrap_err();
        assert_eq!(told, "other: 3 handles are over the limit of 2");
        let keys = guest.strings(&["a", "b", "c", "d"]);
        let call = [extended, keys[0], keys[1]];
        let told = guest.call("extended.get-many", &call).unwrap_err();
        assert_eq!(told, "io-error: 4 operations of a batch are over the limit of 3");
        let keys = guest.strings(&["aaaaa", "bbbbb", "ccc"]);
        let told = guest.call("draft2.delete-many", &[draft2, keys[0], keys[1]]).unwrap_err();
        assert_eq!(told, "other: 13 bytes of a batch are over the limit of 12");
        for key in ["1111", "22"] {
            guest.set(key, "").unwrap();
        }
        assert_eq!(guest.list_keys().unwrap(), ["1111", "22"]);
        guest.set("3", "").unwrap();
        let told = guest.list_keys().unwrap_err();
        assert_eq!(told, "io-error: 7 bytes of a listing are over the limit of 6");
        let chain = arena.host.component(&id(EVIL));
        chain.delete("1111").unwrap();
        for key in ["4", "5"] {
            guest.set(key, "").unwrap();
        }
        let told = guest.list_keys().unwrap_err();
        assert_eq!(told, "io-error: 4 keys of a listing are over the limit of 3");

        // The others have the host's.
        let told = other.set(&"k".repeat(41), "x").unwrap_err();
        assert_eq!(told, "invalid-key: a key has at most 40 bytes here; this one has 41");
        let told = other.set("12345", &"x".repeat(100_001)).unwrap_err();
        assert_eq!(told, "io-error: 100001 bytes of a value are over the limit of 100000");
        other.set("12345", &"x".repeat(100_000)).unwrap();
        for _ in 0..3 {
            other.open("draft", "").unwrap();
        }
        let told = other.open("draft", "").unwrap_err();
        assert_eq!(told, "other: 4 handles are over the limit of 3");

        // What may be passed at all follows from them.
        for (guest, most) in wordy.iter_mut().zip(["1048576", "21131520"]) {
            assert!(guest.grow(512));
            let reason = guest.trap("storage.get", &[DATA.into(), 30 << 20]);
            let told = "it passed more to the host in one call than the limit of";
            assert_eq!(reason, format!("{told} {most} bytes"));
        }
    });
}

fn store_keys(arena: &Arena, from: usize, to: usize, padding: usize) {
    let chain = arena.host.component(&id(EVIL));
    let nothing = StorageValue::from("");
    for first in (from..to).step_by(1_000) {
        let keys = (first..to.min(first + 1_000)).map(|n| format!("{n:06}{}", "k".repeat(padding)));
        let commit = keys.fold(Commit::new(), |commit, key| commit.set(key, nothing.clone()));
        chain.commit(commit).unwrap();
    }
}

#[test]
fn a_listing_of_more_keys_than_are_allowed() {
    alone_with(Setup::MANY_KEYS, |arena| {
        store_keys(arena, 0, 100_000, 150);
        let mut guest = arena.guest();
        arena.begin(20 * MIB as u64);
        let answer = guest.call("storage.list-keys", &[0, 0, 0]).unwrap();
        assert_eq!(answer.word(8), 100_000);
        store_keys(arena, 100_000, 100_001, 0);
        let text = guest.list_keys().unwrap_err();
        assert_eq!(text, "io-error: 100001 keys of a listing are over the limit of 100000");
    });
}

#[test]
fn a_listing_of_more_bytes_than_are_allowed() {
    alone_with(Setup::MANY_KEYS, |arena| {
        store_keys(arena, 0, 17_000, 1_018);
        let mut guest = arena.guest();
        arena.begin(0);
        let text = guest.list_keys().unwrap_err();
        assert!(text.ends_with("bytes of a listing are over the limit of 16777216"), "{text}");
        // A page is shorter instead.
        let extended = guest.open("extended", "").unwrap();
        let no_key = [extended, DATA.into(), 0, 0, 0, 0, u32::MAX.into()];
        let page = guest.call("extended.list-page", &no_key).unwrap();
        assert_eq!((page.word(8), page.byte(12)), (4_096, 1));
        let store = guest.open("draft", "").unwrap();
        let page = guest.call("draft.list-keys", &[store, 0, 0]).unwrap();
        assert_eq!(page.word(12), 1_000);
    });
}
