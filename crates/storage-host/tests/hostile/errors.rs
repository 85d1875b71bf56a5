//! The texts of errors.

use storage_host::ComponentStorage;

use crate::arena::{EVIL, Setup, alone, alone_with, id};
use crate::component::{DATA, Kind};
use crate::sizes::arguments;

/// Functions that read the value of a key.
#[rustfmt::skip]
const READS: [&str; 13] = [
    "storage.get", "storage.exists", "extended.get-versioned", "extended.get-many",
    "extended.create", "extended.update", "draft.get", "draft.exists", "draft.increment",
    "draft.get-many", "draft2.increment", "draft2.cas", "draft2.get-many",
];

/// The arena checks that no error contains the store's path or a full key.
#[test]
fn errors_of_a_damaged_store_are_a_reason_and_a_number() {
    alone(|arena| {
        const KEYS: [&str; 4] = ["flipped", "directory", "empty", "other"];
        let chain = arena.host.component(&id(EVIL));
        let components = arena.directory.path().join("store/components");
        let files = components.join(EVIL);
        for key in KEYS {
            chain.set(key, "value".into()).unwrap();
        }
        let mut record = std::fs::read(files.join("flipped")).unwrap();
        *record.last_mut().unwrap() ^= 1;
        std::fs::write(files.join("flipped"), record).unwrap();
        std::fs::remove_file(files.join("directory")).unwrap();
        std::fs::create_dir(files.join("directory")).unwrap();
        std::fs::write(files.join("empty"), "").unwrap();
        // The record of another component.
        std::fs::copy(components.join("good/vault/1/greeting"), files.join("other")).unwrap();
        chain.clear_cache();
        let mut guests =
            [Kind::PLAIN, Kind::UTF16, Kind::LATIN1].map(|kind| arena.guest_of(kind, EVIL));
        arena.begin(0);
        for guest in &mut guests {
            for key in KEYS {
                let [at, len] = guest.string(key);
                for name in READS {
                    let value = guest.put(b"v");
                    let arguments = arguments(guest, name, [at, len], [value, 1]);
                    let Err(text) = guest.call(name, &arguments) else { continue };
                    assert!(text.contains("(incident "), "{key}: {name}: {text}");
                }
            }
        }
        // The arena verifies the store at the end.
        std::fs::remove_dir(files.join("directory")).unwrap();
        for key in ["flipped", "empty", "other"] {
            std::fs::remove_file(files.join(key)).unwrap();
        }
        chain.clear_cache();
    });
}

/// A key above a lowered limit is a mistake of the guest in every argument.
#[test]
fn errors_name_a_lowered_limit() {
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
        let long = "k".repeat(31);
        let ([short, short_len], [long, long_len]) = (guest.string("short"), guest.string(&long));
        let value = [u64::from(DATA), 1];
        let pairs = [[short, short_len, value[0], 1], [long, long_len, value[0], 1]];
        let store = guest.open("draft2", "").unwrap();
        let extended = guest.open("extended", "").unwrap();
        let ([at, len], [writes, count]) = (guest.pairs(&pairs), guest.writes(&pairs));
        let mut calls = vec![
            ("draft2.set-many", vec![store, at, len]),
            ("extended.commit", vec![extended, 0, 0, writes, count]),
        ];
        for name in
            ["storage.set", "extended.create", "draft2.set", "draft2.swap", "draft2.increment"]
        {
            calls.push((name, arguments(&mut guest, name, [long, long_len], value)));
        }
        for (name, arguments) in calls {
            let text = guest.call(name, &arguments).unwrap_err();
            let rule = "a key has at most 30 bytes here; this one has 31";
            assert!(text.ends_with(rule), "{name}: {text}");
        }
    });
}
