//! Bytes taken apart.

use arbitrary::Unstructured;

/// Choices, one after another. When the bytes are used up, every choice is the
/// first one.
pub(crate) struct Choices<'a>(Unstructured<'a>);

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    /// Whether the bytes are used up.
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

    /// At most `max` bytes as they stand.
    pub(crate) fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = self.below(max + 1).min(self.0.len());
        self.0.bytes(len).unwrap_or_default()
    }

    /// At most `max` bytes of text; what is no UTF-8 ends it.
    pub(crate) fn text(&mut self, max: usize) -> &'a str {
        valid_start(self.bytes(max))
    }

    /// All bytes that are left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }
}

/// The text at the beginning of these bytes.
pub(crate) fn valid_start(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            std::str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).unwrap()
        }
    }
}

/// The texts that a line feed divides: inputs stay legible.
pub(crate) fn lines<const N: usize>(bytes: &[u8]) -> [&str; N] {
    let mut parts = bytes.splitn(N, |byte| *byte == b'\n');
    std::array::from_fn(|_| valid_start(parts.next().unwrap_or_default()))
}

/// The same, divided by a byte that is in no text.
pub(crate) fn parts<const N: usize>(bytes: &[u8]) -> [&str; N] {
    let mut parts = bytes.splitn(N, |byte| *byte == 0xff);
    std::array::from_fn(|_| valid_start(parts.next().unwrap_or_default()))
}
