//! Parses inputs.

use arbitrary::Unstructured;

/// A sequence of choices. At the end of the input, every choice is the first one.
pub(crate) struct Choices<'a>(Unstructured<'a>);

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number below `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0.int_in_range(0..=end.saturating_sub(1)).unwrap_or_default()
    }

    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) + 1 == times
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *self.0.choose(from).unwrap_or(&from[0])
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// At most `max` bytes.
    pub(crate) fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = self.below(max + 1).min(self.0.len());
        self.0.bytes(len).unwrap_or_default()
    }

    /// At most `max` bytes, up to the first that is not UTF-8.
    pub(crate) fn text(&mut self, max: usize) -> &'a str {
        valid_start(self.bytes(max))
    }

    /// The remaining bytes.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }
}

/// The bytes up to the first that is not UTF-8.
pub(crate) fn valid_start(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            std::str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).unwrap()
        }
    }
}

/// The lines of the input, as texts.
pub(crate) fn lines<const N: usize>(bytes: &[u8]) -> [&str; N] {
    let mut parts = bytes.splitn(N, |byte| *byte == b'\n');
    std::array::from_fn(|_| valid_start(parts.next().unwrap_or_default()))
}

/// The parts of the input between bytes that do not occur in UTF-8, as texts.
pub(crate) fn parts<const N: usize>(bytes: &[u8]) -> [&str; N] {
    let mut parts = bytes.splitn(N, |byte| *byte == 0xff);
    std::array::from_fn(|_| valid_start(parts.next().unwrap_or_default()))
}
