//! Conformance cases for the interfaces of key-value stores.
//!
//! A case compares the result of a call with the specification of its interface,
//! or reports the host's choice where the specification is open. The cases run on
//! every host that provides the interfaces.

pub mod command;
pub mod extended;
pub mod keyvalue;
pub mod table;

use table::{Failure, Outcome};

/// The prefix of all keys of the cases.
pub const PREFIX: &str = "conformance/";

/// The error for a store that the cases cannot use.
pub const NOT_EMPTY: &str = "the store contains other keys: use an empty store";

/// A key of the cases.
pub fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// A key of the cases with a length of `bytes`.
pub fn key_of(bytes: usize) -> String {
    key(&"k".repeat(bytes.saturating_sub(PREFIX.len())))
}

/// Creates up to `count` handles, until the host refuses one.
pub fn hold<T, E: Failure>(
    count: usize,
    mut make: impl FnMut() -> Result<T, E>,
) -> (Vec<T>, Outcome) {
    let mut held = Vec::new();
    while held.len() < count {
        match make() {
            Ok(handle) => held.push(handle),
            Err(error) => {
                let (got, refused) = (grouped(held.len()), Outcome::refused(&error));
                let words = format!("{got} of them, then {refused}");
                return (held, Outcome::new(words).with_text(&error));
            }
        }
    }
    (held, Outcome::new("all of them"))
}

/// A number with commas, as in 1,048,576.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
