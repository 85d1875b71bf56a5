//! Numbers as hosts of `wasi:keyvalue` store them.

use crate::Error;

/// Parses a number in the one form that it has: `05`, `+5`, `-0` and white space are
/// errors, because a host refuses to increment them.
pub(crate) fn parse(key: &str, value: &[u8]) -> Result<i64, Error> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse::<i64>().ok().filter(|number| number.to_string() == text))
        .ok_or_else(|| invalid(key, "it is not a decimal number of 64 bits"))
}

/// The sum of a stored value and `delta`; an absent value counts as 0.
pub(crate) fn add(key: &str, value: Option<&[u8]>, delta: i64) -> Result<i64, Error> {
    let number = value.map_or(Ok(0), |value| parse(key, value))?;
    number.checked_add(delta).ok_or_else(|| {
        invalid(key, &format!("{number} plus {delta} is out of the range of 64 bits"))
    })
}

fn invalid(key: &str, reason: &str) -> Error {
    Error::Value { key: key.to_owned(), reason: reason.to_owned() }
}
