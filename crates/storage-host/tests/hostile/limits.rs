//! Calls above a limit.

use storage_host::{Commit, ComponentSettings, ComponentStorage, Limits};

use crate::arena::{Arena, EVIL, Setup, alone, alone_with, id};
use crate::component::{DATA, Kind};
use crate::guest::Guest;

const MIB: usize = 1 << 20;

/// The functions that read several keys, in their three shapes.
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

/// A read of many values is refused once they exceed the limit, and costs the guest alone a
/// copy below it.
#[test]
fn a_read_of_many_values_is_limited() {
    alone(|arena| {
        store_large_values(arena, 40);
        let mut guests = READS.map(|(kind, name)| (arena.guest_of(kind, EVIL), name));
        arena.begin(4 * 16 * MIB as u64);
        for (guest, name) in &mut guests {
            let store = guest.open(name.split('.').next().unwrap(), "").unwrap();
            let keys: Vec<[u64; 2]> = (0..40).map(|n| guest.string(&format!("{n:03}"))).collect();
            let thousand: Vec<u64> = keys.iter().copied().cycle().take(1_000).flatten().collect();
            let [at, len] = guest.list(&thousand, 2);
            let text = guest.call(name, &[store, at, len]).unwrap_err();
            assert!(text.ends_with("bytes of a batch are over the limit of 16777216"), "{text}");
            let [at, len] = guest.list(keys[..15].as_flattened(), 2);
            assert_eq!(guest.call(name, &[store, at, len]).unwrap().word(8), 15, "{name}");
        }
    });
}

#[test]
fn the_bytes_of_a_batch_are_limited() {
    alone(|arena| {
        const LARGE: u32 = 0x100_0000;
        let mut guest = arena.guest();
        assert!(guest.grow(512));
        guest.fill(LARGE, b'v', MIB as u32);
        arena.begin(0);
        let value = [LARGE.into(), MIB as u64];
        let store = guest.open("draft2", "").unwrap();
        let extended = guest.open("extended", "").unwrap();
        let pairs = |guest: &mut Guest, count: usize| -> Vec<[u64; 4]> {
            let keys = (0..count).map(|n| guest.string(&format!("{n:03}")));
            keys.map(|[key, len]| [key, len, value[0], value[1]]).collect()
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
        // Above the size of a call.
        let many = pairs(&mut guest, 21);
        let [at, len] = guest.pairs(&many);
        let reason = guest.trap("draft2.set-many", &[store, at, len]);
        assert!(reason.contains("21131520 bytes"), "{reason}");
    });
}

#[test]
fn the_operations_of_a_batch_are_limited() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        let store = guest.open("draft2", "").unwrap();
        let extended = guest.open("extended", "").unwrap();
        let [key, len] = guest.string("k");
        let keys = guest.list(&[key, len].repeat(1_001), 2);
        let pairs = guest.pairs(&[[key, len, key, 1]; 1_001]);
        let writes = guest.writes(&[[key, len, key, 1]; 1_001]);
        for (name, arguments) in [
            ("draft2.get-many", vec![store, keys[0], keys[1]]),
            ("draft2.set-many", vec![store, pairs[0], pairs[1]]),
            ("draft2.delete-many", vec![store, keys[0], keys[1]]),
            ("extended.get-many", vec![extended, keys[0], keys[1]]),
            ("extended.commit", vec![extended, 0, 0, writes[0], writes[1]]),
        ] {
            let text = guest.call(name, &arguments).unwrap_err();
            let over = "1001 operations of a batch are over the limit of 1000";
            assert!(text.ends_with(over), "{name}: {text}");
        }
        assert_eq!(guest.get("k").unwrap(), None);
    });
}

/// A component with its own limits, on a host with other limits.
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

/// Each error names the limit of this component.
#[test]
fn limits_of_a_component_replace_those_of_the_host() {
    alone_with(OWN_LIMITS, |arena| {
        let mut guest = arena.guest();
        let mut other = arena.guest_of(Kind::PLAIN, "evil/guest/2");
        let mut wordy = [arena.guest(), arena.guest_of(Kind::PLAIN, "evil/guest/3")];
        arena.begin(0);
        let outcome = guest.set("12345", "x").unwrap_err();
        assert_eq!(outcome, "invalid-key: a key has at most 4 bytes here; this one has 5");
        let outcome = guest.set("key", "xyz").unwrap_err();
        assert_eq!(outcome, "io-error: 3 bytes of a value are over the limit of 2");
        let extended = guest.open("extended", "").unwrap();
        let draft2 = guest.open("draft2", "").unwrap();
        let outcome = guest.open("draft2", "").unwrap_err();
        assert_eq!(outcome, "other: 3 handles are over the limit of 2");
        let keys = guest.strings(&["a", "b", "c", "d"]);
        let call = [extended, keys[0], keys[1]];
        let outcome = guest.call("extended.get-many", &call).unwrap_err();
        assert_eq!(outcome, "io-error: 4 operations of a batch are over the limit of 3");
        let keys = guest.strings(&["aaaaa", "bbbbb", "ccc"]);
        let outcome = guest.call("draft2.delete-many", &[draft2, keys[0], keys[1]]).unwrap_err();
        assert_eq!(outcome, "other: 13 bytes of a batch are over the limit of 12");
        for key in ["1111", "22"] {
            guest.set(key, "").unwrap();
        }
        assert_eq!(guest.list_keys().unwrap(), ["1111", "22"]);
        guest.set("3", "").unwrap();
        let outcome = guest.list_keys().unwrap_err();
        assert_eq!(outcome, "io-error: 7 bytes of a listing are over the limit of 6");
        let chain = arena.host.component(&id(EVIL));
        chain.delete("1111").unwrap();
        for key in ["4", "5"] {
            guest.set(key, "").unwrap();
        }
        let outcome = guest.list_keys().unwrap_err();
        assert_eq!(outcome, "io-error: 4 keys of a listing are over the limit of 3");

        // Other components have those of the host.
        let outcome = other.set(&"k".repeat(41), "x").unwrap_err();
        assert_eq!(outcome, "invalid-key: a key has at most 40 bytes here; this one has 41");
        let outcome = other.set("12345", &"x".repeat(100_001)).unwrap_err();
        assert_eq!(outcome, "io-error: 100001 bytes of a value are over the limit of 100000");
        other.set("12345", &"x".repeat(100_000)).unwrap();
        for _ in 0..3 {
            other.open("draft", "").unwrap();
        }
        let outcome = other.open("draft", "").unwrap_err();
        assert_eq!(outcome, "other: 4 handles are over the limit of 3");

        // The size of a call follows from them.
        for (guest, most) in wordy.iter_mut().zip(["1048576", "21131520"]) {
            assert!(guest.grow(512));
            let reason = guest.trap("storage.get", &[DATA.into(), 30 << 20]);
            let outcome = "it passed more to the host in one call than the limit of";
            assert_eq!(reason, format!("{outcome} {most} bytes"));
        }
    });
}

const LONG_KEYS: &str = "evil/guest/2";

fn store_keys(arena: &Arena, owner: &str, count: usize, padding: usize) {
    let chain = arena.host.component(&id(owner));
    for first in (0..count).step_by(1_000) {
        let keys = (first..first + 1_000).map(|n| format!("{n:06}{}", "k".repeat(padding)));
        let commit = keys.fold(Commit::new(), |commit, key| commit.set(key, "".into()));
        chain.commit(commit).unwrap();
    }
}

#[test]
fn listings_are_limited_in_keys_and_bytes() {
    alone_with(Setup::MANY_KEYS, |arena| {
        store_keys(arena, EVIL, 100_000, 150);
        store_keys(arena, LONG_KEYS, 17_000, 1_018);
        let mut guest = arena.guest();
        let mut long = arena.guest_of(Kind::PLAIN, LONG_KEYS);
        arena.begin(20 * MIB as u64);
        let listed = guest.call("storage.list-keys", &[0, 0, 0]).unwrap();
        assert_eq!(listed.word(8), 100_000);
        guest.set("z", "").unwrap();
        let text = guest.list_keys().unwrap_err();
        assert_eq!(text, "io-error: 100001 keys of a listing are over the limit of 100000");
        let text = long.list_keys().unwrap_err();
        assert!(text.ends_with("bytes of a listing are over the limit of 16777216"), "{text}");
        // A page is shorter instead.
        let extended = long.open("extended", "").unwrap();
        let no_key = [extended, DATA.into(), 0, 0, 0, 0, u32::MAX.into()];
        let page = long.call("extended.list-page", &no_key).unwrap();
        assert_eq!((page.word(8), page.byte(12)), (4_096, 1));
        let store = long.open("draft", "").unwrap();
        let page = long.call("draft.list-keys", &[store, 0, 0]).unwrap();
        assert_eq!(page.word(12), 1_000);
    });
}
