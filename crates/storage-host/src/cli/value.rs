//! The value of `put`: an argument or standard input.

use std::ffi::OsString;
use std::io::{self, Cursor, Read};

use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;

use super::failure::Failure;
use super::stdio;

/// Where the value comes from.
pub(super) enum Given {
    Argument(OsString),
    StandardInput,
}

impl Given {
    /// Reads the value. Stops one byte above `max_bytes`, which is enough to refuse it.
    pub(super) fn read(self, is_base64: bool, max_bytes: usize) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Argument(value) if !is_base64 => Ok(value.into_encoded_bytes()),
            Self::Argument(value) => {
                read(Cursor::new(value.into_encoded_bytes()), "the value", is_base64, max_bytes)
            }
            Self::StandardInput => {
                let input = stdio::input("give the value as an argument, '' for an empty one")?;
                read(input, "standard input", is_base64, max_bytes)
            }
        }
    }
}

fn read(
    source: impl Read,
    name: &str,
    is_base64: bool,
    max_bytes: usize,
) -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    let most = (max_bytes as u64).saturating_add(1);
    if !is_base64 {
        let done = source.take(most).read_to_end(&mut value);
        return done.map(|_| value).map_err(|error| stdio::not_read(&error));
    }
    let decoded = DecoderReader::new(WithoutSpace(source), &STANDARD);
    match decoded.take(most).read_to_end(&mut value) {
        Ok(_) => Ok(value),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Failure::new(
            "usage",
            format!("{name} is not valid base64: it is letters, digits, + and /, and = at the end"),
        )),
        Err(error) => Err(stdio::not_read(&error)),
    }
}

/// Skips white space, such as the line breaks of long base64.
struct WithoutSpace<R>(R);

impl<R: Read> Read for WithoutSpace<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.0.read(buffer)?;
            let read = buffer.get_mut(..length).unwrap_or_default();
            let mut kept = 0;
            for at in 0..read.len() {
                if read.get(at).is_some_and(|byte| !byte.is_ascii_whitespace()) {
                    read.swap(kept, at);
                    kept += 1;
                }
            }
            // Returning 0 means the end, so read on after white space alone.
            if kept > 0 || length == 0 {
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<u8>, Failure> {
        Given::Argument(text.into()).read(true, 1_000)
    }

    #[test]
    fn reading_stops_one_byte_above_the_limit() {
        let zeros = "A".repeat(1 << 20);
        assert_eq!(decoded(&zeros).unwrap().len(), 1_001);
    }
}
