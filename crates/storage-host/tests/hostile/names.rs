//! Names that look like others, and keys of others.

use storage_host::{Access, CacheStats, ComponentId, ComponentStorage, Grant};

use crate::arena::{EVIL, OPEN_KEY, VICTIM, alone, id};
use crate::component::Kind;

#[test]
fn similar_ids_are_other_components() {
    alone(|arena| {
        arena.begin(0);
        let similar = "good/vault/11 good/vault/01 good/vault/1. good/vault/1- good/vault/1+ \
                       good/vault/1: good/vault/1@ good/vault/1_ Good/vault/1 good/Vault/1 \
                       GOOD/VAULT/1 good/vaul/t1 goo/dvault/1 good/vault/l good/vault/I \
                       good.vault/1/x";
        for imitation in similar.split(' ') {
            let mut guest = arena.guest_of(Kind::PLAIN, imitation);
            assert_eq!(guest.list_keys().unwrap(), Vec::<String>::new(), "{imitation}");
            assert_eq!(guest.get(OPEN_KEY).unwrap(), None, "{imitation}");
            guest.set(OPEN_KEY, "evil").unwrap();
            guest.set("1/greeting", "evil").unwrap();
            let [key, len] = guest.string(OPEN_KEY);
            guest.call("storage.delete", &[key, len]).unwrap();
            assert_eq!(guest.list_keys().unwrap(), ["1/greeting"]);
        }
        // Cyrillic, fullwidth, a combining accent, invisible, right to left, among others.
        let invalid = "good/vault/1/|good/vault/1/x|good/vault//1|/good/vault/1|good/vault/|\
                       good/vault|good/vault/.|good/vault/..|good/../vault|good/vault/1\0|\
                       good/vault/1 |good/vault/%31|good/vault/*|good\\vault\\1|\
                       g\u{43e}\u{43e}d/vault/1|good/vault/\u{ff11}|good/vault/1\u{301}|\
                       good/vault/1\u{200b}|\u{202e}good/vault/1|good\u{2215}vault/1";
        for refused in invalid.split('|') {
            let parsed = refused.parse::<ComponentId>();
            assert!(parsed.is_err(), "{refused:?} is {parsed:?}");
        }
        let long = "x".repeat(129);
        assert!(ComponentId::new("good", &long, "1").is_err());
        assert!(ComponentId::new("good/vault", "1", "x").is_err());
    });
}

#[test]
fn keys_are_opaque() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        let victims = format!("{VICTIM}/{OPEN_KEY}");
        let longest = "/..".repeat(341);
        let opaque = "../|..|.|/|//|../../../good/vault/1/greeting|%|%2f|%00|*|?|[a-z]|C:\\store|\
                      ..%2f..%2f..%2fgood%2fvault%2f1%2fgreeting|CON|aux.txt|greeting|Greeting|\
                      GREETING|greetlng|gr\u{435}eting|gree\u{301}ting|gre\u{e9}ting|greeting |\
                      \u{20}greeting|greeting.|\u{202e}gniteerg|\u{200b}greeting|\
                      \u{feff}greeting|\u{ff0e}\u{ff0e}\u{2215}|.tmp-0000000000000001-0|\
                      0000000000000001.commit|FORMAT|LOCK|revisions|-rf|$(reboot)|\
                      '; DROP TABLE keys; --";
        let mut keys: Vec<&str> = opaque.split('|').collect();
        keys.extend([&*victims, &longest]);
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(guest.get(key).unwrap(), None, "{key:?} exists already");
            guest.set(key, &n.to_string()).unwrap();
        }
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(guest.get(key).unwrap(), Some(n.to_string().into_bytes()), "{key:?}");
        }
        keys.sort_unstable();
        assert_eq!(guest.list_keys().unwrap(), keys);
        for key in ["", "\0", "a\0b", "\n", "\u{7f}", "\u{85}", "../\0", &"k".repeat(1_025)] {
            let outcome = guest.set(key, "").unwrap_err();
            assert!(outcome.starts_with("invalid-key: a key has "), "{outcome}");
            assert!(guest.get(key).unwrap_err().starts_with("invalid-key"));
        }
        for key in keys {
            let [key, len] = guest.string(key);
            guest.call("storage.delete", &[key, len]).unwrap();
        }
        assert_eq!(guest.list_keys().unwrap(), Vec::<String>::new());
    });
}

/// The error does not reveal whether the component exists.
#[test]
fn stores_of_others_are_denied() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        for interface in ["draft", "draft2", "extended", "spin"] {
            for name in [VICTIM, "missing/at/home", "good/vault/11", "evil/guest/2", "GOOD/vault/1"]
            {
                assert_eq!(guest.open(interface, name).unwrap_err(), "access-denied", "{name}");
            }
            let long = format!("good/vault/{}", "1".repeat(129));
            let invalid = "good/vault/1/|/good/vault/1|good//1|good/vault|good|/|..|good/vault/..|\
                           ../good/vault/1|good/vault/1\0|Default|default | |\0|good/vault/*|\
                           g\u{43e}\u{43e}d/vault/1";
            for name in invalid.split('|').chain([&*long]) {
                assert_eq!(guest.open(interface, name).unwrap_err(), "no-such-store", "{name:?}");
            }
            for own in ["", "default", EVIL] {
                guest.open(interface, own).unwrap();
            }
        }
        // No chain is created for it either.
        assert_eq!(arena.host.cache_stats(&id("missing/at/home")), CacheStats::default());
    });
}

/// A grant of some keys is not one of their neighbours.
#[test]
fn keys_outside_a_grant_are_hidden() {
    alone(|arena| {
        const OWNER: &str = "good/shared/1";
        let owner = id(OWNER);
        let chain = arena.host.component(&owner);
        for key in ["in/1", "in", "inside", "out/1", "IN/1"] {
            chain.set(key, "theirs".into()).unwrap();
        }
        chain.set("in/count", "1".into()).unwrap();
        let prefix = "in/".to_owned();
        arena.host.grant(&id(EVIL), Grant { owner, prefix, access: Access::Read });
        let mut guest = arena.guest();
        arena.begin(0);
        let store = guest.open("extended", OWNER).unwrap();
        let bucket = guest.open("draft2", OWNER).unwrap();
        for key in ["in", "inside", "out/1", "IN/1", "nothing", "in/../out/1"] {
            let [at, len] = guest.string(key);
            let found = guest.call("extended.get-versioned", &[store, at, len]).unwrap();
            assert_eq!(found.byte(8), 0, "{key}");
            let [keys, count] = guest.strings(&[key, "in/1"]);
            let found = guest.call("extended.get-many", &[store, keys, count]).unwrap();
            let options = guest.look(found.word(4), 24);
            assert_eq!((options[0], options[12]), (0, 1), "{key}");
            // The outcome of a check would reveal the value.
            let [check, checks] = guest.check_of([at, len], [at, 1]);
            let outcome = guest.call("extended.commit", &[store, check, checks, 0, 0]).unwrap_err();
            let expected = if key.starts_with("in/") { "conflict" } else { "access-denied" };
            assert!(outcome.starts_with(expected), "{key}: {outcome}");
            let outcome = guest.call("draft2.delete", &[bucket, at, len]);
            assert_eq!(outcome.unwrap_err(), "access-denied", "{key}");
            let cas = guest.call("draft2.cas", &[bucket, at, len]).unwrap().word(4);
            let outcome = guest.call("draft2.swap", &[cas.into(), at, 1]);
            assert_eq!(outcome.unwrap_err(), "access-denied", "{key}");
        }
        let [at, len] = guest.string("in/count");
        for (name, arguments) in [
            ("draft2.set", vec![bucket, at, len, at, 1]),
            ("draft2.delete", vec![bucket, at, len]),
            ("draft2.increment", vec![bucket, at, len, 1]),
            ("extended.create", vec![store, at, len, at, 1]),
            ("extended.update", vec![store, at, len, at, 1]),
        ] {
            assert_eq!(guest.call(name, &arguments).unwrap_err(), "access-denied", "{name}");
        }
        let keys = [store, at, 0, 0, 0, 0, 100];
        let page = guest.call("extended.list-page", &keys).unwrap();
        assert_eq!(guest.texts_of(&page, 4), ["in/1", "in/count"]);
        let usage = guest.call("extended.usage", &[store]).unwrap();
        assert_eq!((usage.long(16), usage.long(24)), (u64::MAX, 2));
    });
}
