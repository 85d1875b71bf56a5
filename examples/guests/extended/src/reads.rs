//! `get-versioned`, `list-page`, `get-many`.

use conformance::table::{Answer, Outcome, Table};
use conformance::{PREFIX, key, key_of};

use crate::bindings::airssys::storage::extended::{Error, Store, Write};

pub(crate) fn versioned(table: &mut Table<'_>, store: &Store) -> Result<(), Error> {
    let key = key("one");
    let value = || store.get_versioned(&key).map(|found| found.map(|found| found.value));
    let revision = || Ok::<_, Error>(store.get_versioned(&key)?.map(|found| found.revision));
    table.asks("get-versioned", "a missing key", "none", value());
    let created = store.create(&key, b"first")?;
    table.asks("get-versioned", "a key that is there", "\"first\"", value());
    let same = (revision()? == Some(created)).to_string();
    table.asks("get-versioned", "the revision that its write had", "true", same);
    let updated = store.update(&key, b"first")?;
    let later = (revision()? == Some(updated) && updated > created).to_string();
    table.asks("update", "the same value has a later revision", "true", later);
    store.update(&key, b"")?;
    table.asks("get-versioned", "an empty value", "\"\"", value());
    let deleted = store.commit(&[], &[Write::Delete(key.clone())])?;
    table.asks("get-versioned", "a deleted key", "none", value());
    let again = store.create(&key, b"again")?;
    let later = (updated < deleted && deleted < again).to_string();
    table.asks("commit", "a delete has a revision between those around it", "true", later);
    for (what, key) in bad_keys() {
        let came =
            Outcome::from(store.get_versioned(&key).map(|found| found.map(|found| found.value)));
        table.asks("get-versioned", what, "invalid-key", came);
    }
    Ok(())
}

/// Keys that no function takes.
pub(crate) fn bad_keys() -> [(&'static str, String); 3] {
    [
        ("the empty key", String::new()),
        ("a key with a control character", key("bell\u{7}")),
        ("a key of 1,025 bytes", key_of(1_025)),
    ]
}

pub(crate) fn pages(table: &mut Table<'_>, store: &Store) -> Result<(), Error> {
    for name in ["b", "a/2", "a/10", "B", "\u{e9}"] {
        store.create(&key(name), b"")?;
    }
    let page = |prefix: &str, after: Option<&str>, limit: u32| {
        let words = store.list_page(prefix, after, limit).map(|page| {
            let mut names: Vec<&str> =
                page.keys.iter().map(|key| key.strip_prefix(PREFIX).unwrap_or(key)).collect();
            if page.more {
                names.push("and more");
            }
            if names.is_empty() { "no keys".to_owned() } else { names.join(" ") }
        });
        Outcome::from(words)
    };
    let all = "B a/10 a/2 b \u{e9}";
    let after = |name: &str| key(name);
    table.asks("list-page", "all keys, in the order of bytes", all, page("", None, 100));
    table.asks("list-page", "as many as there are", all, page("", None, 5));
    table.asks("list-page", "two of them", "B a/10 and more", page("", None, 2));
    table.asks(
        "list-page",
        "after the second",
        "a/2 b and more",
        page("", Some(&after("a/10")), 2),
    );
    table.asks("list-page", "after the fourth", "\u{e9}", page("", Some(&after("b")), 2));
    table.asks("list-page", "after the last", "no keys", page("", Some(&after("\u{e9}")), 2));
    table.asks(
        "list-page",
        "after a key that is not there",
        "b \u{e9}",
        page("", Some(&after("aa")), 2),
    );
    table.asks("list-page", "after the empty text", "B and more", page("", Some(""), 1));
    table.asks("list-page", "a prefix", "a/10 a/2", page(&key("a/"), None, 100));
    table.asks("list-page", "a prefix, one key", "a/10 and more", page(&key("a/"), None, 1));
    table.asks(
        "list-page",
        "a prefix, after a key",
        "a/2",
        page(&key("a/"), Some(&after("a/10")), 9),
    );
    let before = page(&key("a/"), Some(&after("B")), 9);
    table.asks("list-page", "a prefix, after a key in front of it", "a/10 a/2", before);
    let behind = page(&key("a/"), Some(&after("b")), 9);
    table.asks("list-page", "a prefix, after a key behind it", "no keys", behind);
    table.asks("list-page", "a prefix that no key has", "no keys", page(&key("c"), None, 9));
    table.asks("list-page", "a prefix with a control character", "no keys", page("\u{7}", None, 9));
    table.asks("list-page", "after a control character", all, page("", Some("\u{7}"), 9));
    let long = key_of(100_000);
    table.asks("list-page", "a prefix of 100,000 bytes", "no keys", page(&long, None, 9));
    table.asks("list-page", "a limit of 0", "and more", page("", None, 0));
    table.asks(
        "list-page",
        "a limit of 0, after the last",
        "no keys",
        page("", Some(&after("\u{e9}")), 0),
    );
    table.asks("list-page", "the largest limit", all, page("", None, u32::MAX));

    // Keys that come and go between pages shift nothing.
    let first = store.list_page("", None, 3)?;
    store.commit(
        &[],
        &[Write::Delete(key("B")), Write::Delete(key("a/2")), Write::Delete(key("b"))],
    )?;
    store.create(&key("A"), b"")?;
    store.create(&key("c"), b"")?;
    let last = first.keys.last().cloned().unwrap_or_default();
    let what = "the next page, after keys went and came";
    table.asks("list-page", what, "c \u{e9}", page("", Some(&last), 9));
    Ok(())
}

pub(crate) fn many(table: &mut Table<'_>, store: &Store) -> Result<(), Error> {
    let [a, b, empty, missing] = ["a", "b", "empty", "missing"].map(key);
    store.create(&a, b"1")?;
    store.create(&b, b"2")?;
    store.create(&empty, b"")?;
    let get = |keys: &[&String]| {
        let keys: Vec<String> = keys.iter().map(|key| (*key).clone()).collect();
        let words = store.get_many(&keys).map(|values| {
            let words: Vec<String> = values.iter().map(Answer::words).collect();
            if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
        });
        Outcome::from(words)
    };
    table.asks("get-many", "two keys, in their order", "\"2\" \"1\"", get(&[&b, &a]));
    let holes = get(&[&missing, &a, &missing, &empty]);
    table.asks("get-many", "missing keys among others", "none \"1\" none \"\"", holes);
    table.asks("get-many", "a key twice", "\"1\" \"2\" \"1\"", get(&[&a, &b, &a]));
    table.asks("get-many", "no keys", "nothing", get(&[]));
    for (what, bad) in bad_keys() {
        table.asks(
            "get-many",
            &format!("{what} among others"),
            "invalid-key",
            get(&[&a, &bad, &b]),
        );
    }

    let keys: Vec<String> = (0..1_001).map(|number| key(&format!("{number:04}"))).collect();
    for some in keys.chunks(500) {
        let writes: Vec<_> =
            some.iter().map(|key| Write::Set((key.clone(), b"x".to_vec()))).collect();
        store.commit(&[], &writes)?;
    }
    for (what, count) in [("1,000 keys", 1_000), ("1,001 keys", 1_001)] {
        let found = store.get_many(keys.get(..count).unwrap_or_default());
        let words = found.map(|values| format!("{} values", values.iter().flatten().count()));
        let all = format!("{count} values");
        table.leaves_between("get-many", what, &[&all, "io-error"], words);
    }
    for number in 0..17 {
        store.create(&key(&format!("large/{number}")), &vec![b'v'; 1_000_000])?;
    }
    let large: Vec<String> = (0..17).map(|number| key(&format!("large/{number}"))).collect();
    for (what, count) in [("16 values of 1,000,000 bytes", 16), ("17 of them", 17)] {
        let found = store.get_many(large.get(..count).unwrap_or_default());
        let words = found.map(|values| format!("{} values", values.iter().flatten().count()));
        let all = format!("{count} values");
        table.leaves_between("get-many", what, &[&all, "io-error"], words);
    }
    Ok(())
}
