//! What compacting a store returned.

/// The size of a store before and after it was compacted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// The bytes of its files before.
    pub bytes_before: u64,
    /// The bytes of its files after.
    pub bytes_after: u64,
}

impl Compacted {
    /// Returns the bytes that the file system got back; 0 if the store did not shrink.
    pub const fn returned(&self) -> u64 {
        self.bytes_before.saturating_sub(self.bytes_after)
    }
}
