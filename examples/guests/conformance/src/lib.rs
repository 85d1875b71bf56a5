//! Cases for the interfaces of key-value stores, and the table of their results.
//!
//! A case is what an interface's specification says of one call. Where it says
//! what must come, the case is as asked or not; where it leaves a host free, the
//! table tells what this host does. Nothing here belongs to one host: a component
//! made of these cases runs wherever its imports are.
//!
//! - [`table`]: the table, and what its lines say;
//! - [`command`]: arguments and exit code;
//! - [`extended`]: the errors of `airssys:storage/extended`, in words;
//! - [`keyvalue`]: the cases of `wasi:keyvalue`, for every draft whose bindings
//!   are tied to its traits with the macros of this crate.

pub mod command;
pub mod extended;
pub mod keyvalue;
pub mod table;

use table::{Failure, Outcome};

/// What every key of these cases begins with.
pub const PREFIX: &str = "conformance/";

/// A key of these cases.
pub fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// A key of these cases with so many bytes.
pub fn key_of(bytes: usize) -> String {
    key(&"k".repeat(bytes.saturating_sub(PREFIX.len())))
}

/// Makes handles until there are so many, or the host refuses; answers them and
/// what came of it.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (65_536, "65,536"), (1_048_577, "1,048,577")]
        {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_key_has_the_length_it_is_asked_to_have() {
        assert_eq!(key_of(1_024).len(), 1_024);
    }
}
