//! The number that identifies a write.

use std::fmt;

use crate::StorageValue;

/// The number of a write, stored with the value that it wrote.
///
/// A store never assigns the same revision twice, even after a crash. A write
/// that begins after another one returned has a larger revision, and writes to
/// one key are ordered by revision. Numbers may be skipped; only order and
/// equality have a meaning. A copied or imported store assigns its own revisions.
///
/// A store remembers its last revision apart from the keys, because the key that has it may
/// be deleted, and a commit without writes takes one too.
///
/// Each time a persistent store is opened for writing, its revisions continue at the
/// current time in nanoseconds since 1970, or after its last revision if that is larger.
/// So a store restored from a backup does not reuse revisions assigned after the backup,
/// unless the clock is behind the time at which they were assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(u64);

impl Revision {
    /// Creates the revision with this number.
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
    /// The revision of the write that stored it.
    pub revision: Revision,
}
