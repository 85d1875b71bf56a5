//! `increment`.

use super::{Atomics, Error};
use crate::key;
use crate::table::{Answer, Outcome, Table};

/// One increment.
struct Case {
    what: &'static str,
    stored: Option<&'static [u8]>,
    /// A draft skips cases whose number is out of the range of its type.
    delta: &'static str,
    expected: Expected,
}

enum Expected {
    /// The result that the specification requires.
    Asked(&'static str),
    /// The result unless the host refuses.
    Or(&'static str),
    /// Any result, but a refusal changes nothing.
    Any,
}

/// The range of `s64`.
const MAX: &str = "9223372036854775807";
const MIN: &str = "-9223372036854775808";

pub(super) fn increments<B: Atomics>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let key = key("number");
    let from_nothing = |what, delta, expected| Case { what, stored: None, delta, expected };
    let from = |what, stored: &'static str, delta, expected| Case {
        what,
        stored: Some(stored.as_bytes()),
        delta,
        expected,
    };
    let cases = [
        from_nothing("a missing key by 3", "3", Expected::Asked("3")),
        from_nothing("a missing key by 0", "0", Expected::Asked("0")),
        from_nothing("a missing key by -3", "-3", Expected::Asked("-3")),
        from_nothing("a missing key by 2^63 - 1", MAX, Expected::Or(MAX)),
        from_nothing("a missing key by -2^63", MIN, Expected::Or(MIN)),
        from_nothing(
            "a missing key by 2^63",
            "9223372036854775808",
            Expected::Or("9223372036854775808"),
        ),
        from_nothing(
            "a missing key by 2^64 - 1",
            "18446744073709551615",
            Expected::Or("18446744073709551615"),
        ),
        from("\"5\" by 1", "5", "1", Expected::Any),
        from("\"5\" by -6", "5", "-6", Expected::Any),
        from("\"-5\" by 2", "-5", "2", Expected::Any),
        from("\"-5\" by 7", "-5", "7", Expected::Any),
        from("\"-5\" by -7", "-5", "-7", Expected::Any),
        from("\"007\" by 1", "007", "1", Expected::Any),
        from("2^63 - 2 by 1", "9223372036854775806", "1", Expected::Any),
        from("2^63 - 1 by 1, above the largest", MAX, "1", Expected::Any),
        from("2^63 - 1 by 0", MAX, "0", Expected::Any),
        from("-2^63 by -1, below the smallest", MIN, "-1", Expected::Any),
        from("1 by -2^63", "1", MIN, Expected::Any),
        from("-1 by -2^63", "-1", MIN, Expected::Any),
        from("2^63 by 1", "9223372036854775808", "1", Expected::Any),
        from("the empty value by 1", "", "1", Expected::Any),
        from("\"five\" by 1", "five", "1", Expected::Any),
        from("\"+5\" by 1", "+5", "1", Expected::Any),
        from("\" 5\" by 1", " 5", "1", Expected::Any),
        from("\"5.0\" by 1", "5.0", "1", Expected::Any),
        from("digits of another script by 1", "\u{665}", "1", Expected::Any),
        Case {
            what: "eight bytes, 5 in binary, by 1",
            stored: Some(&[5, 0, 0, 0, 0, 0, 0, 0]),
            delta: "1",
            expected: Expected::Any,
        },
    ];
    for case in &cases {
        let Ok(delta) = case.delta.parse() else { continue };
        match case.stored {
            Some(value) => bucket.set(&key, value)?,
            None => bucket.delete(&key)?,
        }
        let came = increment(&bucket, &key, delta)?;
        match case.expected {
            Expected::Asked(number) => table.asks("increment", case.what, number, came),
            Expected::Or(number) => {
                table.leaves_between("increment", case.what, &[number, "refused"], came);
            }
            Expected::Any => table.leaves("increment", case.what, came),
        }
    }

    bucket.delete(&key)?;
    let numbers: Result<Vec<String>, Error> = [3, 4, 0]
        .into_iter()
        .map(|delta| Ok(bucket.increment(&key, B::Number::from(delta))?.to_string()))
        .collect();
    let numbers = numbers.map(|numbers| numbers.join(", "));
    table.asks("increment", "a missing key by 3, 4 and 0", "3, 7, 7", numbers);
    table.asks("exists", "what was incremented", "true", bucket.exists(&key));
    table.leaves("get", "the value of the number 7", bucket.get(&key));

    for (what, key) in [
        ("the empty key by 1", String::new()),
        ("a key with a control character by 1", crate::key("bell\u{7}")),
        ("a key of 1,025 bytes by 1", crate::key_of(1_025)),
    ] {
        let came = increment(&bucket, &key, B::Number::from(1))?;
        table.leaves_between("increment", what, &["1", "refused"], came);
        let _ = bucket.delete(&key);
    }
    Ok(())
}

/// Increments and checks that an error changes nothing.
fn increment<B: Atomics>(bucket: &B, key: &str, delta: B::Number) -> Result<Outcome, Error> {
    // A host that refuses the key also refuses to read it.
    let before = bucket.get(key).unwrap_or_default();
    let error = match bucket.increment(key, delta) {
        Ok(number) => return Ok(Outcome::new(number.to_string())),
        Err(error) => error,
    };
    let after = bucket.get(key).unwrap_or_default();
    if after == before {
        return Ok(Outcome::refused(&error));
    }
    let changed = format!("failed, and changed {} to {}", before.words(), after.words());
    Ok(Outcome::wrong(changed).with_text(&error))
}
