//! `get-many`, `set-many`, `delete-many`.

use super::{Batch, Error, Found, set_all};
use crate::table::{Answer, Outcome, Table};
use crate::{grouped, key};

pub(super) fn reads<B: Batch>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let names = ["a", "b", "c", "d", "empty"];
    let [a, b, c, d, empty] = names.map(|name| key(&format!("many/{name}")));
    let [missing, another] = ["missing", "another"].map(|name| key(&format!("many/{name}")));
    for key in [&a, &b, &c, &d] {
        bucket.set(key, key.as_bytes())?;
    }
    bucket.set(&empty, b"")?;

    let mut asks = |what: &str, keys: &[&String]| {
        let keys: Vec<String> = keys.iter().map(|key| (*key).clone()).collect();
        let came = bucket.get_many(&keys).and_then(|found| compared(&bucket, &keys, found));
        if B::NAMES_EACH {
            let may = ["each in its place", "each in another"];
            table.leaves_between("get-many", what, &may, came);
        } else {
            table.asks("get-many", what, "each in its place", came);
        }
    };
    asks("four keys, in no order", &[&c, &a, &d, &b]);
    asks("a missing key among others", &[&a, &missing, &c]);
    asks("missing keys first and last", &[&missing, &a, &another]);
    asks("missing keys alone", &[&missing]);
    asks("an empty value", &[&empty, &missing, &a]);
    asks("no keys", &[]);

    let twice = [a.clone(), b.clone(), a.clone()];
    let came = bucket.get_many(&twice).and_then(|found| compared(&bucket, &twice, found));
    table.leaves("get-many", "a key that is asked for twice", came);
    for (what, bad) in [
        ("the empty key among others", String::new()),
        ("a key with a control character among others", key("bell\u{7}")),
        ("a key of 1,025 bytes among others", crate::key_of(1_025)),
    ] {
        let keys = [a.clone(), bad, b.clone()];
        let came = bucket.get_many(&keys).and_then(|found| compared(&bucket, &keys, found));
        table.leaves("get-many", what, came);
    }

    let many: Vec<String> = (0..1_001).map(|number| key(&format!("many/{number:04}"))).collect();
    set_all(&bucket, &many, b"x")?;
    let thousand = many.get(..1_000).unwrap_or_default();
    for (what, keys) in [("1,000 keys", thousand), ("1,001 keys", &many)] {
        let came = bucket.get_many(keys).map(|found| {
            let right = found.len() == keys.len()
                && found.iter().all(|(_, value)| value.as_deref() == Some(b"x"));
            if right { "all of them".to_owned() } else { format!("{} answers", found.len()) }
        });
        table.leaves_between("get-many", what, &["all of them", "other"], came);
    }
    Ok(())
}

/// Compares `get-many` with single reads. Where a draft does not name absent keys,
/// the results must be in the order of the keys; otherwise any order is allowed.
fn compared<B: Batch>(bucket: &B, keys: &[String], found: Vec<Found>) -> Result<String, Error> {
    let mut values: Vec<Found> = Vec::new();
    for key in keys {
        values.push((Some(key.clone()), bucket.get(key)?));
    }
    let in_place = |(right, came): (&Found, &Found)| {
        right.1 == came.1 && (came.0.is_none() || right.0 == came.0)
    };
    if found.len() == values.len() && values.iter().zip(&found).all(in_place) {
        return Ok("each in its place".to_owned());
    }
    let mut sorted = found;
    values.sort();
    sorted.sort();
    if B::NAMES_EACH && values == sorted {
        return Ok("each in another".to_owned());
    }
    let answers: Vec<String> = sorted.iter().map(|(_, value)| value.words()).collect();
    Ok(format!("{} answers: {}", answers.len(), answers.join(" ")))
}

pub(super) fn writes<B: Batch>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let [a, b, c] = ["a", "b", "c"].map(|name| key(&format!("many/{name}")));
    let pair = |key: &String, value: &str| (key.clone(), value.as_bytes().to_vec());
    let values = || -> Result<String, Error> {
        let values = [bucket.get(&a)?, bucket.get(&b)?, bucket.get(&c)?];
        Ok(values.map(|value| value.words()).join(" "))
    };
    let set = |pairs: &[(String, Vec<u8>)]| bucket.set_many(pairs).and_then(|()| values());

    let came = Outcome::from(set(&[pair(&a, "1"), pair(&b, "2")]));
    table.asks("set-many", "two new keys", "\"1\" \"2\" none", came);
    let came = Outcome::from(set(&[pair(&b, "3"), pair(&c, "")]));
    table.asks("set-many", "a key that is there, and an empty value", "\"1\" \"3\" \"\"", came);
    table.asks("set-many", "no keys", "\"1\" \"3\" \"\"", set(&[]));
    let twice = bucket.set_many(&[pair(&a, "the first"), pair(&a, "the second")]);
    let came = match twice.and_then(|()| bucket.get(&a)) {
        Ok(Some(value)) => Outcome::new(String::from_utf8_lossy(&value)),
        other => Outcome::from(other),
    };
    let may = ["the first", "the second", "other"];
    table.leaves_between("set-many", "one key twice", &may, came);

    let all_or_nothing = |what: &str, table: &mut Table<'_>, bad: (String, Vec<u8>)| {
        bucket.set(&a, b"old")?;
        bucket.delete(&b)?;
        let bad_key = bad.0.clone();
        let came = match bucket.set_many(&[pair(&a, "new"), bad, pair(&b, "new")]) {
            Ok(()) => Outcome::new("all of them set"),
            Err(error) => {
                let changed = usize::from(bucket.get(&a)?.as_deref() == Some(b"new"))
                    + usize::from(bucket.get(&b)?.is_some());
                Outcome::new(format!("refused, {changed} of the others set")).with_text(&error)
            }
        };
        table.leaves("set-many", what, came);
        let _ = bucket.delete(&bad_key);
        Ok::<(), Error>(())
    };
    all_or_nothing("the empty key among others", table, pair(&String::new(), "new"))?;
    all_or_nothing(
        "a key with a control character among others",
        table,
        pair(&key("bell\u{7}"), "new"),
    )?;
    all_or_nothing("a key of 1,025 bytes among others", table, pair(&crate::key_of(1_025), "new"))?;
    let large = vec![b'v'; (1 << 20) + 1];
    all_or_nothing("a value of 1,048,577 bytes among others", table, (c.clone(), large))?;

    let many: Vec<_> =
        (0..1_001).map(|number| pair(&key(&format!("many/{number:04}")), "x")).collect();
    let thousand = many.get(..1_000).unwrap_or_default();
    for (what, pairs) in [("1,000 keys", thousand), ("1,001 keys", &many)] {
        let keys: Vec<String> = pairs.iter().map(|(key, _)| key.clone()).collect();
        super::delete_all(&bucket, &keys)?;
        table.leaves("set-many", what, how_many(&bucket, bucket.set_many(pairs), &keys)?);
    }
    Ok(())
}

/// The result of a batch and how many of its keys exist.
fn how_many<B: Batch>(
    bucket: &B,
    came: Result<(), Error>,
    keys: &[String],
) -> Result<Outcome, Error> {
    let mut there = 0;
    for key in keys {
        there += usize::from(bucket.exists(key)?);
    }
    Ok(match came {
        Ok(()) if there == keys.len() => Outcome::new("all of them set"),
        Ok(()) => Outcome::wrong(format!("accepted, and {there} of them are there")),
        Err(error) => Outcome::new(format!("refused, {there} of them set")).with_text(&error),
    })
}

pub(super) fn deletes<B: Batch>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let [a, b, c] = ["a", "b", "c"].map(|name| key(&format!("many/{name}")));
    let missing = key("many/missing");
    let delete = |what: &str, expected, keys: &[&String], table: &mut Table<'_>| {
        for key in [&a, &b, &c] {
            bucket.set(key, b"x")?;
        }
        let keys: Vec<String> = keys.iter().map(|key| (*key).clone()).collect();
        let deleted = bucket.delete_many(&keys);
        let mut left = 0;
        for key in [&a, &b, &c] {
            left += usize::from(bucket.exists(key)?);
        }
        let came = match deleted {
            Ok(()) => Outcome::new(format!("{left} left")),
            Err(error) => Outcome::new(format!("refused, {left} left")).with_text(&error),
        };
        match expected {
            Some(expected) => table.asks("delete-many", what, expected, came),
            None => table.leaves("delete-many", what, came),
        }
        Ok::<(), Error>(())
    };
    delete("two of three keys", Some("1 left"), &[&a, &c], table)?;
    delete("a missing key among others", Some("1 left"), &[&a, &missing, &c], table)?;
    delete("missing keys alone", Some("3 left"), &[&missing], table)?;
    delete("no keys", Some("3 left"), &[], table)?;
    delete("one key twice", None, &[&a, &a], table)?;
    delete("the empty key among others", None, &[&a, &String::new(), &b], table)?;
    delete(
        "a key with a control character among others",
        None,
        &[&a, &key("bell\u{7}"), &b],
        table,
    )?;

    let many: Vec<String> = (0..1_001).map(|number| key(&format!("many/{number:04}"))).collect();
    let thousand = many.get(..1_000).unwrap_or_default();
    for (what, keys) in [("1,000 keys", thousand), ("1,001 keys", &many)] {
        set_all(&bucket, keys, b"x")?;
        let deleted = bucket.delete_many(keys);
        let mut left = 0;
        for key in keys {
            left += usize::from(bucket.exists(key)?);
        }
        let came = match deleted {
            Ok(()) if left == 0 => Outcome::new("all of them deleted"),
            Ok(()) => Outcome::wrong(format!("accepted, and {left} of them are left")),
            Err(error) => {
                let words = format!("refused, {} of them left", grouped(left));
                Outcome::new(words).with_text(&error)
            }
        };
        table.leaves("delete-many", what, came);
    }
    Ok(())
}

/// Batches of 16 MiB and more. They come last: a host may end a component that
/// passes so much.
pub(super) fn large<B: Batch>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let keys: Vec<String> = (0..17).map(|number| key(&format!("many/large/{number}"))).collect();
    let sixteen = keys.get(..16).unwrap_or_default();
    let value = vec![b'v'; 1_000_000];
    keys.iter().try_for_each(|key| bucket.set(key, &value))?;
    for (what, keys) in [("16 values of 1,000,000 bytes", sixteen), ("17 of them", &keys)] {
        let came = bucket.get_many(keys).map(|found| {
            let whole = found.iter().filter(|(_, found)| found.as_ref() == Some(&value)).count();
            if whole == keys.len() { "all of them".to_owned() } else { format!("{whole} of them") }
        });
        table.leaves_between("get-many", what, &["all of them", "other"], came);
    }

    // Sixteen keys with their values are 16 MiB exactly.
    let exactly = |key: &String| (key.clone(), vec![b'v'; (1 << 20) - key.len()]);
    let mut pairs: Vec<_> = sixteen.iter().map(exactly).collect();
    super::delete_all(&bucket, &keys)?;
    let came = how_many(&bucket, bucket.set_many(&pairs), sixteen)?;
    table.leaves("set-many", "16 keys and values of 16 MiB together", came);
    super::delete_all(&bucket, &keys)?;
    pairs.extend(keys.last().map(|key| (key.clone(), Vec::new())));
    let came = how_many(&bucket, bucket.set_many(&pairs), &keys)?;
    table.leaves("set-many", "these and one more key", came);
    Ok(())
}
