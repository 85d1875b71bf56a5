//! What the texts of errors give away.

use storage_host::ComponentStorage;

use crate::arena::{EVIL, Setup, alone, alone_with, id};
use crate::component::{DATA, Kind};
use crate::sizes::{TAKE_TEXTS, arguments};

/// A damaged store on a failing disk returns a reason and a number for the operator. The
/// arena checks that no error contains the store's path or a full key.
#[test]
fn a_store_that_is_damaged() {
    alone(|arena| {
        let chain = arena.host.component(&id(EVIL));
        let place = arena.place.path().join("store/components/evil/guest/1");
        for key in ["flipped", "dir", "empty", "other"] {
            chain.set(key, "value".into()).unwrap();
        }
        let record = std::fs::read(place.join("flipped")).unwrap();
        let mut flipped = record.clone();
        *flipped.last_mut().unwrap() ^= 1;
        std::fs::write(place.join("flipped"), flipped).unwrap();
        std::fs::remove_file(place.join("dir")).unwrap();
        std::fs::create_dir(place.join("dir")).unwrap();
        std::fs::write(place.join("empty"), "").unwrap();
        // Another's record.
        std::fs::copy(
            arena.place.path().join("store/components/good/vault/1/greeting"),
            place.join("other"),
        )
        .unwrap();
        chain.clear_cache();
        let mut guests =
            [Kind::PLAIN, Kind::UTF16, Kind::LATIN1].map(|kind| arena.guest_of(kind, EVIL));
        arena.begin(0);
        for guest in &mut guests {
            for key in ["flipped", "dir", "empty", "other"] {
                let [at, len] = guest.string(key);
                for name in TAKE_TEXTS {
                    if name.ends_with("open") || name.contains("list") {
                        continue;
                    }
                    if matches!(
                        name,
                        "storage.set" | "storage.delete" | "draft.set" | "draft.delete"
                    ) || name.ends_with("-many") && !name.ends_with("get-many")
                        || name == "extended.commit"
                    {
                        continue;
                    }
                    let value = guest.put(b"v");
                    let arguments = arguments(guest, name, [at, len], [value, 1]);
                    let Err(text) = guest.call(name, &arguments) else { continue };
                    assert!(text.contains("(incident "), "{key}: {name}: {text}");
                }
            }
        }
        // The store is made whole again, for the check of it.
        std::fs::remove_dir(place.join("dir")).unwrap();
        for key in ["flipped", "empty", "other"] {
            std::fs::remove_file(place.join(key)).unwrap();
        }
        chain.clear_cache();
    });
}

/// A key above a lowered limit is a mistake of the guest in every argument, and is not
/// logged.
#[test]
fn a_mistake_of_the_guests_own() {
    const SHORT_KEYS: Setup = Setup {
        host: |builder| {
            let mut limits = storage_host::Limits::default();
            limits.key_bytes = 30;
            builder.limits(limits)
        },
        ..Setup::PLAIN
    };
    alone_with(SHORT_KEYS, |arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        let store = guest.open("draft2", "").unwrap();
        let extended = guest.open("extended", "").unwrap();
        let long = "k".repeat(31);
        let ([short, short_len], [long, long_len]) = (guest.string("short"), guest.string(&long));
        let rule = "a key has at most 30 bytes here; this one has 31";
        let value = [DATA.into(), 1];
        let pairs = [[short, short_len, value[0], value[1]], [long, long_len, value[0], value[1]]];
        let [at, len] = guest.pairs(&pairs);
        let told = guest.call("draft2.set-many", &[store, at, len]).unwrap_err();
        assert_eq!(told, format!("other: {rule}"));
        let [at, len] = guest.writes(&pairs);
        let told = guest.call("extended.commit", &[extended, 0, 0, at, len]).unwrap_err();
        assert_eq!(told, format!("invalid-key: {rule}"));
        for name in
            ["storage.set", "extended.create", "draft2.set", "draft2.swap", "draft2.increment"]
        {
            let arguments = match name {
                "storage.set" => vec![long, long_len, value[0], value[1]],
                "extended.create" => vec![extended, long, long_len, value[0], value[1]],
                "draft2.increment" => vec![store, long, long_len, 1],
                "draft2.swap" => {
                    let cas = guest.call("draft2.cas", &[store, long, long_len]).unwrap();
                    vec![cas.word(4).into(), value[0], value[1]]
                }
                _ => vec![store, long, long_len, value[0], value[1]],
            };
            let told = guest.call(name, &arguments).unwrap_err();
            assert!(told.ends_with(rule), "{name}: {told}");
        }
    });
}
