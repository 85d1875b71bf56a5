//! Counts its own runs.
//!
//! It reads the count and writes the next one. Two instances that run at the same
//! time may both read 3 and both write 4: `airssys:core/storage` has no atomic
//! increment.

#![forbid(unsafe_code)]

use command::{Failure, storage};

/// The key of the count, in decimal digits.
const KEY: &str = "runs";

fn main() {
    command::run("counter", |args, out| {
        if !args.is_empty() {
            return Err(Failure::usage("it takes no arguments\nusage: counter"));
        }
        let runs = match storage::get(KEY)? {
            Some(value) => next(&value)?,
            None => 1,
        };
        storage::set(KEY, runs.to_string().as_bytes())?;
        Ok(writeln!(out, "run {runs}")?)
    })
}

/// The count that follows the one in `value`.
fn next(value: &[u8]) -> Result<u64, Failure> {
    // `parse` would also accept `+3`.
    let digits = value.iter().all(u8::is_ascii_digit);
    let count = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|s| s.parse().ok());
    let Some(count): Option<u64> = count else {
        return Err(Failure::failed(format!(
            "key {KEY:?} holds {}, which is not a count: delete the key to start again",
            excerpt(value)
        )));
    };
    count.checked_add(1).ok_or_else(|| {
        Failure::failed(format!(
            "key {KEY:?} holds {count}, the highest possible count: delete the key to start again"
        ))
    })
}

/// The start of a value with control characters escaped.
fn excerpt(value: &[u8]) -> String {
    const SHOWN_CHARS: usize = 32;
    let text = String::from_utf8_lossy(value);
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_count_is_one_more() {
        assert_eq!(next(b"0").unwrap(), 1);
        assert_eq!(next(b"41").unwrap(), 42);
        assert_eq!(next(b"18446744073709551614").unwrap(), u64::MAX);
    }

    #[test]
    fn invalid_counts_are_refused() {
        for value in ["", "three", "+3", "-3", "3 ", "3.0", "18446744073709551616"] {
            let message = next(value.as_bytes()).unwrap_err().to_string();
            assert!(message.contains("is not a count"), "{message}");
            assert!(message.contains(&format!("{value:?}")), "{message}");
        }
        let message = next(b"18446744073709551615").unwrap_err().to_string();
        assert!(message.contains("the highest possible count"), "{message}");
    }

    #[test]
    fn long_and_binary_values_are_shortened_and_escaped() {
        let message = next(&[0x1b; 5000]).unwrap_err().to_string();
        assert!(message.len() < 400, "{message}");
        assert!(!message.contains('\u{1b}'), "{message}");
        assert!(next(&[0xff]).is_err());
    }
}
