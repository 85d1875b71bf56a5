//! `commit`: checks and writes, all or nothing.

use conformance::table::{Answer, Outcome, Table};
use conformance::{key, key_of};

use crate::bindings::airssys::storage::extended::{Check, Error, Expected, Store, Write};
use crate::ok;
use crate::reads::bad_keys;

fn check(name: &str, expected: Expected) -> Check {
    Check { key: key(name), expected }
}

fn set(name: &str, value: &str) -> Write {
    Write::Set((key(name), value.as_bytes().to_vec()))
}

fn delete(name: &str) -> Write {
    Write::Delete(key(name))
}

/// The values of the keys `a`, `b` and `c`.
fn values(store: &Store) -> Result<String, Error> {
    let found = store.get_many(&["a", "b", "c"].map(key))?;
    Ok(found.iter().map(Answer::words).collect::<Vec<_>>().join(" "))
}

pub(crate) fn commits(table: &mut Table<'_>, store: &Store) -> Result<(), Error> {
    let commit = |checks: &[Check], writes: &[Write]| {
        // Each case begins with a = 1, b = 2 and no c.
        store.commit(&[], &[set("a", "1"), set("b", "2"), delete("c")])?;
        let came = ok(store.commit(checks, writes));
        Ok::<_, Error>(Outcome::new(format!("{came}: {}", values(store)?)))
    };
    // The expected result, and the values if they change.
    let mut asks = |what: &str, expected: &str, checks: &[Check], writes: &[Write]| {
        let unchanged = if expected.contains(':') { "" } else { ": \"1\" \"2\" none" };
        table.asks("commit", what, &format!("{expected}{unchanged}"), commit(checks, writes)?);
        Ok::<(), Error>(())
    };
    let changes = [set("a", "9"), set("c", "9"), delete("b")];
    let done = "ok: \"9\" none \"9\"";
    asks("nothing at all", "ok", &[], &[])?;
    asks("several writes", done, &[], &changes)?;
    asks("a missing key is deleted", "ok", &[], &[delete("c")])?;
    let twice = [set("a", "8"), delete("a"), set("a", "7"), set("c", "8"), delete("c")];
    asks("of two writes to a key the later one counts", "ok: \"7\" \"2\" none", &[], &twice)?;

    let present = |name| check(name, Expected::Present);
    let absent = |name| check(name, Expected::Absent);
    let value = |name, value: &str| check(name, Expected::Value(value.as_bytes().to_vec()));
    asks("a key that must be there, and is", done, &[present("a")], &changes)?;
    asks("a key that must be there, and is not", "not-found c", &[present("c")], &changes)?;
    asks("a key that must not be there, and is not", done, &[absent("c")], &changes)?;
    asks("a key that must not be there, and is", "already-exists b", &[absent("b")], &changes)?;
    asks("a value that must be there, and is", done, &[value("a", "1")], &changes)?;
    asks("a value that must be there, and is another", "conflict a", &[value("a", "2")], &changes)?;
    asks("a value of a key that is not there", "conflict c", &[value("c", "")], &changes)?;
    let all = [value("a", "1"), present("b"), absent("c")];
    asks("several checks that hold", done, &all, &changes)?;
    let last_fails = [value("a", "1"), present("b"), present("c")];
    asks("several checks, the last of which fails", "not-found c", &last_fails, &changes)?;
    asks(
        "a key checked twice, in contradiction",
        "already-exists a",
        &[present("a"), absent("a")],
        &changes,
    )?;
    asks("checks alone that hold", "ok", &all, &[])?;
    asks("checks alone that fail", "conflict b", &[value("b", "1")], &[])?;
    asks(
        "a check of a key that is not written",
        "ok: \"1\" \"9\" none",
        &[present("a")],
        &[set("b", "9")],
    )?;
    for (what, bad) in bad_keys() {
        let refused = "invalid-key";
        let written = [set("a", "9"), Write::Set((bad.clone(), Vec::new())), set("c", "9")];
        asks(&format!("{what} is set among others"), refused, &[], &written)?;
        let deleted = [set("a", "9"), Write::Delete(bad.clone())];
        asks(&format!("{what} is deleted among others"), refused, &[], &deleted)?;
        let checked = [present("a"), Check { key: bad, expected: Expected::Absent }];
        asks(&format!("{what} is checked among others"), refused, &checked, &changes)?;
    }
    revisions(table, store)
}

/// Checks of revisions.
fn revisions(table: &mut Table<'_>, store: &Store) -> Result<(), Error> {
    let key = key("a");
    let at = |revision| [check("a", Expected::Revision(revision))];
    let one = store.commit(&[], &[set("a", "1")])?;
    let two = store.commit(&at(one), &[set("a", "1")])?;
    table.asks("commit", "at its revision: a later one", "true", two > one);
    let stale = ok(store.commit(&at(one), &[set("a", "2")]));
    table.asks("commit", "at the revision of an earlier write", "conflict a", stale);
    let never = ok(store.commit(&at(u64::MAX), &[set("a", "2")]));
    table.asks("commit", "at a revision that was never given", "conflict a", never);
    let zero = ok(store.commit(&at(0), &[set("a", "2")]));
    table.asks("commit", "at revision 0", "conflict a", zero);
    store.commit(&[], &[delete("a")])?;
    let gone = ok(store.commit(&at(two), &[set("a", "2")]));
    table.asks("commit", "at the revision of a key that is deleted", "conflict a", gone);
    let three = store.create(&key, b"1")?;
    let back = ok(store.commit(&at(two), &[set("a", "2")]));
    table.asks("commit", "at that revision, when the value is back", "conflict a", back);
    let pair = store.commit(&at(three), &[set("a", "2"), set("b", "2")])?;
    let found = [&key, &conformance::key("b")].map(|key| store.get_versioned(key));
    let same = found
        .into_iter()
        .all(|found| found.is_ok_and(|found| found.is_some_and(|found| found.revision == pair)));
    table.asks("commit", "two keys have the revision of their commit", "true", same);
    Ok(())
}

/// Commits as large as a host may allow, and larger.
pub(crate) fn limits(table: &mut Table<'_>, store: &Store) -> Result<(), Error> {
    let sets = |count| (0..count).map(|n| set(&format!("{n:04}"), "x")).collect::<Vec<_>>();
    let checks = |count| {
        (0..count).map(|n| check(&format!("{n:04}"), Expected::Present)).collect::<Vec<_>>()
    };
    let mut tries = |what: &str, checks: &[Check], writes: &[Write]| {
        let came = ok(store.commit(checks, writes));
        table.leaves_between("commit", what, &["ok", "io-error"], came);
    };
    tries("1,000 writes", &[], &sets(1_000));
    tries("1,001 writes", &[], &sets(1_001));
    tries("500 checks and 500 writes", &checks(500), &sets(500));
    tries("501 checks and 500 writes", &checks(501), &sets(500));
    let large = |n: usize| {
        let key = key(&format!("large/{n:02}"));
        let value = vec![b'v'; (1 << 20) - key.len()];
        Write::Set((key, value))
    };
    let sixteen: Vec<Write> = (0..16).map(large).collect();
    tries("16 keys and values of 16 MiB together", &[], &sixteen);
    tries("these and one more key", &[], &[sixteen.clone(), vec![delete("x")]].concat());
    let over = Write::Set((key("large"), vec![b'v'; (1 << 20) + 1]));
    tries("a value of 1,048,577 bytes", &[], &[over]);
    let at = Check { key: key_of(1_024), expected: Expected::Absent };
    tries("a key of 1,024 bytes", &[at], &[Write::Set((key_of(1_024), Vec::new()))]);
    Ok(())
}
