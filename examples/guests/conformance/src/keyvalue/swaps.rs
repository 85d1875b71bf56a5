//! `cas` and `swap`.

use super::{Atomics, Batch, Error, Swap, SwapError};
use crate::table::{Answer, Failure, Outcome, Table};
use crate::{grouped, hold, key};

/// What happens to the key between the creation of the handle and the swap.
type Meanwhile<B> = fn(&B, &str) -> Result<(), Error>;

struct Case<B> {
    what: &'static str,
    /// The value when the handle is created.
    before: Option<&'static [u8]>,
    meanwhile: Meanwhile<B>,
    /// `None` where the specification leaves it open.
    expected: Option<&'static str>,
}

const SWAPPED: &str = "swapped";
const FAILED: &str = "cas-failed";

pub(super) fn swaps<B: Atomics + Batch + Swap>(
    table: &mut Table<'_>,
    store: &str,
) -> Result<(), Error> {
    let bucket = B::open(store)?;
    let key = key("swap");
    currents(table, &bucket, &key)?;
    let here = Some(b"old".as_slice());
    let case = |what, before, expected, meanwhile: Meanwhile<B>| Case {
        what,
        before,
        meanwhile,
        expected,
    };
    let cases = [
        case("a missing key that stays missing", None, Some(SWAPPED), |_, _| Ok(())),
        case("a key that does not change", here, Some(SWAPPED), |_, _| Ok(())),
        case("a key that others have read", here, Some(SWAPPED), |bucket, key| {
            bucket.get(key)?;
            bucket.exists(key).map(drop)
        }),
        case("a key whose neighbour has changed", here, Some(SWAPPED), |bucket, key| {
            bucket.set(&format!("{key}2"), b"new")
        }),
        case("a missing key, created meanwhile", None, Some(FAILED), |bucket, key| {
            bucket.set(key, b"theirs")
        }),
        case("a key that was overwritten meanwhile", here, Some(FAILED), |bucket, key| {
            bucket.set(key, b"theirs")
        }),
        case("a key that was overwritten in a batch", here, Some(FAILED), |bucket, key| {
            bucket.set_many(&[(key.to_owned(), b"theirs".to_vec())])
        }),
        case("a key that another swap has changed", here, Some(FAILED), |bucket, key| {
            let other = bucket.cas(key)?;
            B::swap(other, b"theirs").map_err(|_| Error::Other("the other swap".to_owned()))
        }),
        case("a key that was deleted meanwhile", here, Some(FAILED), |bucket, key| {
            bucket.delete(key)
        }),
        case("a key that was deleted in a batch", here, Some(FAILED), |bucket, key| {
            bucket.delete_many(&[key.to_owned()])
        }),
        case("a missing key, incremented meanwhile", None, Some(FAILED), |bucket, key| {
            bucket.increment(key, B::Number::from(1)).map(drop)
        }),
        case("a key whose same value was written again", here, None, |bucket, key| {
            bucket.set(key, b"old")
        }),
        case("a key that was deleted and has its value again", here, None, |bucket, key| {
            bucket.delete(key)?;
            bucket.set(key, b"old")
        }),
        case("a missing key, which came and went", None, None, |bucket, key| {
            bucket.set(key, b"theirs")?;
            bucket.delete(key)
        }),
    ];
    for reads in [false, true] {
        for case in &cases {
            let what = match reads {
                true => format!("{}, read", case.what),
                false => case.what.to_owned(),
            };
            one(table, &bucket, &key, &what, case, reads)?;
        }
    }
    reading_late(table, &bucket, &key)?;
    failing_twice(table, &bucket, &key)?;
    refusals::<B>(table, store, &key)
}

/// `cas.new` and `current`.
fn currents<B: Swap>(table: &mut Table<'_>, bucket: &B, key: &str) -> Result<(), Error> {
    let current = |bucket: &B| B::current(&bucket.cas(key)?);
    table.asks("cas.new", "a missing key", "ok", bucket.cas(key).map(drop));
    table.asks("cas.current", "a missing key", "none", current(bucket));
    bucket.set(key, b"here")?;
    table.asks("cas.new", "a key that is there", "ok", bucket.cas(key).map(drop));
    table.asks("cas.current", "a key that is there", "\"here\"", current(bucket));
    bucket.set(key, b"")?;
    table.asks("cas.current", "an empty value", "\"\"", current(bucket));
    for (what, key) in [
        ("the empty key", ""),
        ("a key with a control character", "conformance/bell\u{7}"),
        ("a key of 1,025 bytes", &crate::key_of(1_025)),
    ] {
        let came = Outcome::from(bucket.cas(key).map(drop));
        table.leaves_between("cas.new", what, &["ok", "other"], came);
    }
    Ok(())
}

/// Creates a handle, lets something happen, and swaps. A swap that fails must
/// leave the value and return a handle with which the next swap succeeds.
fn one<B: Swap>(
    table: &mut Table<'_>,
    bucket: &B,
    key: &str,
    what: &str,
    case: &Case<B>,
    reads: bool,
) -> Result<(), Error> {
    match case.before {
        Some(value) => bucket.set(key, value)?,
        None => bucket.delete(key)?,
    }
    let cas = bucket.cas(key)?;
    if reads {
        let found = B::current(&cas)?;
        if found.as_deref() != case.before {
            table.asks(
                "cas.current",
                what,
                &case.before.map(<[u8]>::to_vec).words(),
                Outcome::wrong(found.words()),
            );
        }
    }
    (case.meanwhile)(bucket, key)?;
    let left = bucket.get(key)?;

    let swapped = B::swap(cas, b"mine");
    let now = bucket.get(key)?;
    let came = match swapped {
        Ok(()) if now.as_deref() == Some(b"mine") => Outcome::new(SWAPPED),
        Ok(()) => Outcome::wrong(format!("swapped, and it holds {}", now.words())),
        Err(SwapError::Store(error)) => Outcome::new("store-error").with_text(&error),
        Err(SwapError::Failed(_)) if now != left => {
            Outcome::wrong(format!("cas-failed, and it holds {} instead", now.words()))
        }
        Err(SwapError::Failed(fresh)) => with_fresh(bucket, key, fresh, &left)?,
    };
    match case.expected {
        Some(expected) => table.asks("swap", what, expected, came),
        None => table.leaves_between("swap", what, &[SWAPPED, FAILED], came),
    }
    Ok(())
}

/// Swaps with the handle that a failed swap returned.
fn with_fresh<B: Swap>(
    bucket: &B,
    key: &str,
    fresh: B::Cas,
    left: &Option<Vec<u8>>,
) -> Result<Outcome, Error> {
    let current = B::current(&fresh)?;
    if current != *left {
        let words = format!("cas-failed, and its handle has {}", current.words());
        return Ok(Outcome::wrong(words));
    }
    match B::swap(fresh, b"at last") {
        Ok(()) if bucket.get(key)?.as_deref() == Some(b"at last") => Ok(Outcome::new(FAILED)),
        Ok(()) => Ok(Outcome::wrong("cas-failed, and its handle swapped to nothing")),
        Err(SwapError::Store(error)) => {
            let words = format!("cas-failed, and its handle ended with {}", error.variant());
            Ok(Outcome::wrong(words).with_text(&error))
        }
        Err(SwapError::Failed(_)) => Ok(Outcome::wrong("cas-failed, and its handle failed too")),
    }
}

/// Reads the handle's value only after another write.
fn reading_late<B: Swap>(table: &mut Table<'_>, bucket: &B, key: &str) -> Result<(), Error> {
    bucket.set(key, b"old")?;
    let cas = bucket.cas(key)?;
    bucket.set(key, b"theirs")?;
    let current = B::current(&cas);
    let may = ["\"old\"", "\"theirs\"", "none"];
    table.leaves_between("cas.current", "a key that was overwritten", &may, current.clone());
    let came = Outcome::new(match B::swap(cas, b"mine") {
        Ok(()) => SWAPPED,
        Err(SwapError::Failed(_)) => FAILED,
        Err(SwapError::Store(_)) => "store-error",
    });
    // A swap must not overwrite a value that the handle did not show.
    let shown_old = current.is_ok_and(|value| value.as_deref() == Some(b"old"));
    let may = if shown_old { &[FAILED][..] } else { &[SWAPPED, FAILED] };
    let what = "a key that was overwritten, then read";
    table.leaves_between("swap", what, may, came);
    Ok(())
}

/// Every failure returns a working handle.
fn failing_twice<B: Swap>(table: &mut Table<'_>, bucket: &B, key: &str) -> Result<(), Error> {
    let (what, expected) = ("a key that changes before each of 5", "5 failures, then \"5\"");
    bucket.set(key, b"0")?;
    let mut cas = bucket.cas(key)?;
    for failures in 0..5 {
        bucket.set(key, (failures + 1).to_string().as_bytes())?;
        let Err(SwapError::Failed(fresh)) = B::swap(cas, b"mine") else {
            table.asks("swap", what, expected, format!("{failures} failures"));
            return Ok(());
        };
        cas = fresh;
    }
    table.asks("swap", what, expected, format!("5 failures, then {}", B::current(&cas)?.words()));
    let swapped = B::swap(cas, b"mine").map_err(|_| Error::Other("it failed".to_owned()));
    table.asks("swap", "the handle that the last one handed back", "ok", swapped);
    Ok(())
}

/// More handles than some hosts allow.
pub(super) fn handles<B: Swap>(table: &mut Table<'_>, store: &str) -> Result<(), Error> {
    const MANY: usize = 1_001;
    let bucket = B::open(store)?;
    let key = key("swap");
    bucket.set(&key, b"old")?;
    let (mut held, came) = hold(MANY, || bucket.cas(&key));
    table.leaves("cas.new", "1,001 handles at a time and a bucket", came);

    // A failed swap returns a handle although no other can be created.
    bucket.set(&key, b"new")?;
    let came = match held.pop().map(|cas| B::swap(cas, b"mine")) {
        Some(Err(SwapError::Failed(fresh))) => Outcome::from(B::current(&fresh)),
        Some(Err(SwapError::Store(error))) => Outcome::new("store-error").with_text(&error),
        Some(Ok(())) | None => Outcome::new("it did not fail"),
    };
    table.asks("swap", "a failure with all handles in use", "\"new\"", came);
    drop(held);
    table.asks("cas.new", "after they were dropped", "ok", bucket.cas(&key).map(drop));
    Ok(())
}

/// Large and empty values, and a handle without its bucket.
fn refusals<B: Swap>(table: &mut Table<'_>, store: &str, key: &str) -> Result<(), Error> {
    let bucket = B::open(store)?;
    for bytes in [1 << 20, (1 << 20) + 1] {
        bucket.set(key, b"old")?;
        let value = vec![b'v'; bytes];
        let swapped = B::swap(bucket.cas(key)?, &value);
        let now = bucket.get(key)?;
        let came = match swapped {
            Ok(()) if now.as_ref() == Some(&value) => Outcome::new(SWAPPED),
            Err(SwapError::Store(error)) if now.as_deref() == Some(b"old") => {
                Outcome::refused(&error)
            }
            _ => Outcome::wrong(format!("neither, and it holds {}", now.words())),
        };
        let what = format!("to a value of {} bytes", grouped(bytes));
        table.leaves_between("swap", &what, &[SWAPPED, "refused"], came);
    }

    bucket.set(key, b"old")?;
    let swapped = B::swap(bucket.cas(key)?, b"").map_err(|_| Error::Other("it failed".to_owned()));
    let found = swapped.and_then(|()| bucket.get(key));
    table.asks("swap", "to the empty value", "\"\"", found);

    let (one, other) = (bucket.cas(key)?, bucket.cas(key)?);
    drop(other);
    drop(bucket);
    let came = Outcome::new(match B::swap(one, b"mine") {
        Ok(()) => SWAPPED,
        Err(SwapError::Failed(_)) => FAILED,
        Err(SwapError::Store(_)) => "store-error",
    });
    table.leaves("swap", "a handle that outlives its bucket's", came);
    Ok(())
}
