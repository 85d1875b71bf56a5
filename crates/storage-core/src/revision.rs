//! The number that tells one write from every other.

use std::fmt;

use crate::StorageValue;

/// The number of a write, kept with the value that it wrote.
///
/// A store never gives the same revision twice, not after a crash either. Of
/// two writes, one begun after the other returned has the larger revision, and
/// the writes to one key are ordered by it. Numbers are skipped; only order and
/// equality mean anything. A copied or imported store has revisions of its own,
/// and one that was restored from an old copy gives none again that it gave after
/// the copy was made, unless the clock is behind the time of that copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(u64);

impl Revision {
    /// The revision with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value together with the revision of the write that stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedValue {
    /// The value.
    pub value: StorageValue,
    /// The write that stored it.
    pub revision: Revision,
}
