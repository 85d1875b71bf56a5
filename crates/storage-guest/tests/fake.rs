//! The fake behaves as a host, and changes survive the interruptions that it makes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use storage_guest::{Atomic, Error, Fake, Store, Transactional, Write};

fn keys(store: &impl Store, prefix: &str) -> Vec<String> {
    store.keys(prefix).collect::<Result<_, _>>().unwrap()
}

#[test]
fn pages_list_every_key_once() {
    [1, 2, 3, 7, 8, 100].into_iter().for_each(list_in_pages_of);
}

fn list_in_pages_of(page_keys: usize) {
    let store = Fake::new();
    store.set_page_keys(page_keys);
    let mut all: Vec<String> = (0..7).map(|number| format!("k{number}")).collect();
    for key in &all {
        store.set(key, b"").unwrap();
    }
    store.set("other", b"").unwrap();
    assert_eq!(keys(&store, "k"), all);
    assert_eq!(keys(&store, "").len(), 8);
    assert_eq!(keys(&store, "missing"), Vec::<String>::new());

    // Changes between pages do not shift the listing.
    let mut rest = store.keys("k");
    assert_eq!(rest.next(), Some(Ok("k0".to_owned())));
    store.delete("k0").unwrap();
    store.set("a", b"").unwrap();
    all.remove(0);
    assert_eq!(rest.collect::<Result<Vec<_>, _>>().unwrap(), all);
}

#[test]
fn a_listing_ends_with_its_first_error() {
    let store = Fake::new();
    store.set_page_keys(1);
    store.set("a", b"").unwrap();
    store.set("b", b"").unwrap();
    let mut keys = store.keys("");
    assert_eq!(keys.next(), Some(Ok("a".to_owned())));
    store.fail_next(Error::AccessDenied);
    assert_eq!(keys.next(), Some(Err(Error::AccessDenied)));
    assert_eq!(keys.next(), None);
}

#[test]
fn a_swap_fails_if_the_key_was_written() {
    let write = |other: &Fake| other.set("k", b"1").unwrap();
    let delete = |other: &Fake| other.delete("k").unwrap();
    let cases: [(_, fn(&Fake), _); 5] = [
        (Some(&b"1"[..]), write, false),
        (Some(&b"1"[..]), delete, false),
        (Some(&b"1"[..]), |other| other.set("another", b"1").unwrap(), true),
        (None, write, false),
        // A key that was created and deleted is absent again.
        (None, |other| drop((other.set("k", b"1"), other.delete("k"))), true),
    ];
    for (case, (value, between, swapped)) in cases.into_iter().enumerate() {
        let store = Fake::new();
        if let Some(value) = value {
            store.set("k", value).unwrap();
        }
        let (found, version) = store.read("k").unwrap();
        assert_eq!(found.as_deref(), value);
        store.interrupt(between);
        assert_eq!(store.swap(version, b"new"), Ok(swapped), "case {case}");
        assert_eq!(store.get("k").unwrap().as_deref() == Some(b"new"), swapped, "case {case}");
    }
}

#[test]
fn an_update_sees_what_an_interruption_wrote() {
    let store = Fake::new();
    for _ in 0..3 {
        store.interrupt(|other| {
            other.update("k", append(b'o')).unwrap();
        });
    }
    // The interruptions interrupt each other.
    assert_eq!(store.update("k", append(b'm')), Ok(Some(b"ooom".to_vec())));
    assert_eq!(store.update("k", |_| None), Ok(None));
    assert_eq!(store.get("k"), Ok(Some(b"ooom".to_vec())));
}

fn append(byte: u8) -> impl FnMut(Option<Vec<u8>>) -> Option<Vec<u8>> {
    move |value| Some([value.unwrap_or_default(), vec![byte]].concat())
}

#[test]
fn one_of_two_creators_succeeds() {
    let store = Fake::new();
    store.interrupt(|other| assert_eq!(other.create("k", b"other"), Ok(true)));
    assert_eq!(store.create("k", b"mine"), Ok(false));
    assert_eq!(store.get("k"), Ok(Some(b"other".to_vec())));
}

#[test]
fn a_transaction_runs_again_until_its_reads_match() {
    let store = Fake::new();
    store.set("from", b"1").unwrap();
    store.interrupt(|other| other.set("from", b"2").unwrap());
    let mut runs = 0;
    let result = store.transaction(|keys| {
        runs += 1;
        let value = keys.get("from")?.unwrap();
        keys.set("to", &value);
        keys.delete("from");
        assert_eq!((keys.get("to")?, keys.get("from")?), (Some(value), None));
        Ok(runs)
    });
    assert_eq!(result, Ok(2));
    assert_eq!(store.get("to"), Ok(Some(b"2".to_vec())));
    assert_eq!(store.exists("from"), Ok(false));

    // Two reads that do not match are read again, also without a write.
    store.interrupt(|other| other.set("to", b"3").unwrap());
    let read = store.transaction(|keys| Ok((keys.get("to")?, keys.get("from")?)));
    assert_eq!(read, Ok((Some(b"3".to_vec()), None)));

    let failed = store.transaction(|keys| {
        keys.set("to", b"4");
        Err::<(), _>(Error::AccessDenied)
    });
    assert_eq!((failed, store.get("to")), (Err(Error::AccessDenied), Ok(Some(b"3".to_vec()))));
}

#[test]
fn invalid_keys_and_values_are_refused() {
    let store = Fake::new();
    let write = |key: &str, bytes| Write::Set(key.to_owned(), vec![b'x'; bytes]);
    for key in ["", "a\n", "a\u{85}", &"k".repeat(1_025)] {
        let errors = [
            store.get(key).unwrap_err(),
            store.set(key, b"").unwrap_err(),
            store.delete(key).unwrap_err(),
            store.exists(key).unwrap_err(),
            store.read(key).unwrap_err(),
            store.increment(key, 1).unwrap_err(),
            store.commit(vec![], &[write("a", 1), write(key, 1)]).unwrap_err(),
            store.commit(vec![], &[write("a", 1), Write::Delete(key.to_owned())]).unwrap_err(),
        ];
        assert!(errors.iter().all(|error| matches!(error, Error::InvalidKey(_))), "{errors:?}");
    }
    let large = (1 << 20) + 1;
    for error in [
        store.set("a", &vec![0; large]).unwrap_err(),
        store.commit(vec![], &[write("a", 1), write("b", large)]).unwrap_err(),
        store.commit(vec![], &vec![write("a", 1); 1_001]).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Host(_)), "{error}");
    }
    assert_eq!(keys(&store, ""), Vec::<String>::new());
    store.set(&"k".repeat(1_024), &vec![0; 1 << 20]).unwrap();
}

#[test]
fn calls_with_several_keys_have_the_limits_of_a_host() {
    let store = Fake::new();
    let keys = |count: usize, bytes: usize| -> Vec<String> {
        (0..count).map(|key| format!("{key:0bytes$}")).collect()
    };
    let over = |text: &str| Error::Host(text.to_owned());
    let operations = over("1001 operations of a batch are over the limit of 1000");
    assert_eq!(store.get_many(&keys(1_000, 4)), Ok(vec![None; 1_000]));
    assert_eq!(store.get_many(&keys(1_001, 4)), Err(operations.clone()));
    assert_eq!(store.commit(vec![], &vec![Write::Delete("a".to_owned()); 1_001]), Err(operations));

    // 16 values of 1 MiB, without their keys.
    let written: Vec<Write> =
        keys(16, 4).into_iter().map(|key| Write::Set(key, vec![b'x'; 1 << 20])).collect();
    let bytes = "bytes of a batch are over the limit of 16777216";
    let refused = Err(over(&format!("16777280 {bytes}")));
    assert_eq!(store.commit(vec![], &written), refused);
    let (_, version) = store.read("0000").unwrap();
    // The key of a check counts too.
    let mut fits = written;
    fits[15] = Write::Set("0015".to_owned(), vec![b'x'; (1 << 20) - 64]);
    assert_eq!(store.commit(vec![version], &fits), Err(over(&format!("16777220 {bytes}"))));
    assert_eq!(store.commit(vec![], &fits), Ok(true));

    assert_eq!(store.get_many(&keys(16, 4)).map(|values| values.len()), Ok(16));
    let more = [keys(16, 4), vec!["a".to_owned()]].concat();
    assert_eq!(store.get_many(&more), Err(over(&format!("16777217 {bytes}"))));
    assert!(matches!(store.get_many(&["a\n".to_owned()]), Err(Error::InvalidKey(_))));
}

#[test]
fn numbers_have_one_form() {
    let store = Fake::new();
    for (value, number) in [("0", 0), ("-5", -5), ("9223372036854775807", i64::MAX)] {
        store.set("n", value.as_bytes()).unwrap();
        assert_eq!(store.get_number("n"), Ok(Some(number)));
    }
    assert!(matches!(store.increment("n", 1), Err(Error::Value { .. })), "out of range");
    for value in ["", "05", "+5", "-0", " 5", "5\n", "five", "9223372036854775808"] {
        store.set("n", value.as_bytes()).unwrap();
        for error in [store.get_number("n").unwrap_err(), store.increment("n", 1).unwrap_err()] {
            assert!(matches!(error, Error::Value { .. }), "{value:?}: {error}");
        }
        assert_eq!(store.get("n"), Ok(Some(value.into())), "it is unchanged");
    }
}

#[test]
fn clones_are_instances_of_one_component() {
    let store = Fake::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let instance = store.clone();
            scope.spawn(move || {
                for _ in 0..100 {
                    instance.update("n", |n| Some(add_one(n))).unwrap();
                }
            });
        }
    });
    assert_eq!(store.get_number("n"), Ok(Some(400)));
}

fn add_one(number: Option<Vec<u8>>) -> Vec<u8> {
    let text = number.map_or("0".to_owned(), |bytes| String::from_utf8(bytes).unwrap());
    (text.parse::<u64>().unwrap() + 1).to_string().into_bytes()
}

#[cfg(feature = "json")]
#[test]
fn values_of_another_type_are_errors() {
    let store = Fake::new();
    store.set_json("k", &["a", "b"]).unwrap();
    assert_eq!(store.get_json::<Vec<String>>("k").unwrap().unwrap(), ["a", "b"]);
    assert_eq!(store.get_json::<u32>("missing"), Ok(None));
    let errors = [
        store.get_json::<u32>("k").unwrap_err(),
        store.update_json("k", |_: Option<u32>| Some(1)).unwrap_err(),
        store.transaction(|keys| keys.get_json::<u32>("k")).unwrap_err(),
        // JSON has only text as the key of a map.
        store.set_json("k", &std::collections::BTreeMap::from([([1], 1)])).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, Error::Value { key, .. } if key == "k"), "{error}");
    }
    assert_eq!(store.get("k").unwrap().unwrap(), br#"["a","b"]"#);
}
