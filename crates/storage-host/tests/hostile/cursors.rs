//! Invented cursors and numbers.

use storage_host::ComponentStorage;

use crate::arena::{EVIL, OPEN_KEY, Setup, VICTIM, alone, alone_with, id};
use crate::component::DATA;

#[test]
fn numbers_that_are_no_cursor() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        guest.set("key", "").unwrap();
        let store = guest.open("draft", "").unwrap();
        for cursor in [0, 1, u64::from(u32::MAX), 1 << 63, u64::MAX - 1, u64::MAX] {
            let told = guest.call("draft.list-keys", &[store, 1, cursor]);
            assert_eq!(told.unwrap_err(), "other: cursor expired");
        }
    });
}

/// A cursor of one component, or of another's keys, means nothing elsewhere.
#[test]
fn a_cursor_of_somebody_else() {
    alone(|arena| {
        for owner in [EVIL, "evil/guest/2"] {
            let chain = arena.host.component(&id(owner));
            for n in 0..1_001 {
                chain.set(&format!("{n:04}"), "".into()).unwrap();
            }
        }
        let mut guest = arena.guest();
        let mut other = arena.guest_of(crate::component::Kind::PLAIN, "evil/guest/2");
        arena.begin(0);
        let store = other.open("draft", "").unwrap();
        let page = other.call("draft.list-keys", &[store, 0, 0]).unwrap();
        assert_eq!((page.word(12), page.byte(16)), (1_000, 1));
        let cursor = page.long(24);
        let store = guest.open("draft", "").unwrap();
        let told = guest.call("draft.list-keys", &[store, 1, cursor]);
        assert_eq!(told.unwrap_err(), "other: cursor expired");
        let page = other.call("draft.list-keys", &[store, 1, cursor]).unwrap();
        assert_eq!(other.texts_of(&page, 8), ["1000"]);
    });
}

#[test]
fn texts_that_are_no_cursor() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        guest.set("key", "").unwrap();
        let store = guest.open("draft2", "").unwrap();
        let extended = guest.open("extended", "").unwrap();
        let victims = format!("{VICTIM}/{OPEN_KEY}");
        let up = format!("../../../{VICTIM}/");
        // A position among the keys of the component only.
        for (text, finds) in [
            ("", true),
            ("\0", true),
            ("../", true),
            ("/", true),
            (&*up, true),
            (&*victims, true),
            (VICTIM, true),
            ("kex", true),
            ("key", false),
            ("\u{7f}", false),
            ("\u{10ffff}", false),
        ] {
            let [at, len] = guest.string(text);
            let page = guest.call("draft2.list-keys", &[store, 1, at, len]).unwrap();
            let found = if finds { vec!["key"] } else { vec![] };
            assert_eq!(guest.texts_of(&page, 4), found, "{text:?}");
            let page = [extended, DATA.into(), 0, 1, at, len, 10];
            let page = guest.call("extended.list-page", &page).unwrap();
            assert_eq!(guest.texts_of(&page, 4), found, "{text:?}");
        }
        // Longer than any key, and behind it.
        let long = "k".repeat(2_000);
        let [at, len] = guest.string(&long);
        let told = guest.call("draft2.list-keys", &[store, 1, at, len]).unwrap_err();
        assert!(told.ends_with("which has at most 1024 bytes; it has 2000"), "{told}");
        let page = [extended, DATA.into(), 0, 1, at, len, 10];
        let page = guest.call("extended.list-page", &page).unwrap();
        assert_eq!(guest.texts_of(&page, 4), Vec::<String>::new());
    });
}

#[test]
fn cursors_without_end() {
    let many = Setup::MANY_KEYS;
    alone_with(many, |arena| {
        let chain = arena.host.component(&id(EVIL));
        // The longest keys there are.
        let padding = "k".repeat(1_020);
        let commit = (0..1_000).fold(storage_host::Commit::new(), |commit, n| {
            commit.set(format!("{n:04}{padding}"), "".into())
        });
        chain.commit(commit).unwrap();
        chain.set("z", "".into()).unwrap();
        let mut guests = [arena.guest(), arena.guest()];
        arena.begin(2 * (140 << 20));
        for guest in &mut guests {
            let store = guest.open("draft", "").unwrap();
            let mut last = None;
            for _ in 0..100 {
                let page = guest.call("draft.list-keys", &[store, 0, 0]).unwrap();
                last = Some(page.long(24));
            }
            // The newest one continues.
            let page = guest.call("draft.list-keys", &[store, 1, last.unwrap()]).unwrap();
            assert_eq!(guest.texts_of(&page, 8), ["z"]);
        }
    });
}

#[test]
fn numbers_that_do_not_fit() {
    alone(|arena| {
        let mut guest = arena.guest();
        arena.begin(0);
        let digits = "9".repeat(100_000);
        let (draft, draft2) = (guest.open("draft", "").unwrap(), guest.open("draft2", "").unwrap());
        let max = i64::MAX as u64;
        for (there, interface, delta, told) in [
            ("", "draft", u64::MAX, Err("the number to add is not within 0 to")),
            ("", "draft", 1 << 63, Err("the number to add is not within 0 to")),
            ("", "draft", max, Ok(max)),
            ("1", "draft", max, Err("the sum is not within 0 to")),
            ("-1", "draft", 1, Err("the stored number is not within 0 to")),
            ("1", "draft2", max, Err("the sum is not within -9223372036854775808 to")),
            ("-1", "draft2", 1 << 63, Err("the sum is not within -9223372036854775808 to")),
            ("0", "draft2", 1 << 63, Ok(1 << 63)),
            ("-1", "draft2", u64::MAX, Ok(-2_i64 as u64)),
            ("1e3", "draft2", 1, Err("the value is not a decimal number")),
            (" 1", "draft2", 1, Err("the value is not a decimal number")),
            (&*digits, "draft2", 1, Err("the value is not a decimal number")),
        ] {
            let key = format!("{interface}/{delta}/{}", there.len());
            if !there.is_empty() {
                guest.set(&key, there).unwrap();
            }
            let [at, len] = guest.string(&key);
            let store = if interface == "draft" { draft } else { draft2 };
            let answer = guest.call(&format!("{interface}.increment"), &[store, at, len, delta]);
            match told {
                Ok(sum) => assert_eq!(answer.unwrap().long(8), sum),
                Err(reason) => {
                    let text = answer.unwrap_err();
                    assert!(text.contains(reason), "{text}");
                    let there = (!there.is_empty()).then(|| there.as_bytes().to_vec());
                    assert_eq!(guest.get(&key).unwrap(), there, "it is as it was");
                }
            }
        }
    });
}
