//! An entry: what the cache knows about a key.

use std::num::NonZeroU64;

use storage_core::{Revision, StorageError, StorageValue};

use crate::clock::Moment;

/// The bytes of an entry in addition to its key and value: the overhead of the allocator
/// and the header of the shared value.
pub(crate) const ENTRY_BYTES: u64 = 48;

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) cached: Cached,
    /// The entry is valid before this moment.
    pub(crate) deadline: Moment,
}

impl Clone for Entry {
    #[inline]
    fn clone(&self) -> Self {
        Self { cached: self.cached.clone(), deadline: self.deadline }
    }
}

/// How long the result of a call may be cached. Determined before the call, so that
/// changes during the call count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    pub(crate) deadline: Moment,
    pub(crate) epoch: u64,
    /// The number of announced changes and fills.
    pub(crate) events: u64,
}

/// A cached value, or a marker. Compact, because every hit loads it.
#[derive(Debug)]
pub(crate) enum Cached {
    Value(StorageValue, KnownRevision),
    Marker(Marker),
}

/// What is known about a key whose value is not cached.
#[derive(Debug, Clone)]
pub(crate) enum Marker {
    /// It has no value.
    Absent {
        /// Whether it was read from a storage with revisions. A storage without must
        /// itself refuse `get_versioned`.
        versioned: bool,
    },
    /// It has a value, which was not read.
    Present,
    /// It has a value that is too large to cache. Each such marker has its own id.
    TooLarge { id: u64 },
    /// The read failed. Passed to the readers that waited for it, never cached.
    Failed(Box<Failure>),
}

impl Clone for Cached {
    #[inline]
    fn clone(&self) -> Self {
        match self {
            Self::Value(value, revision) => Self::Value(value.clone(), *revision),
            Self::Marker(marker) => Self::Marker(marker.clone_out_of_line()),
        }
    }
}

impl Marker {
    /// Kept out of line so that the clone of a value stays small.
    #[inline(never)]
    fn clone_out_of_line(&self) -> Self {
        self.clone()
    }
}

/// The revision of a cached value, if it is known. Revision zero counts as unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownRevision(Option<NonZeroU64>);

impl KnownRevision {
    pub(crate) const UNKNOWN: Self = Self(None);

    pub(crate) fn get(self) -> Option<Revision> {
        self.0.map(|number| Revision::new(number.get()))
    }
}

impl From<Revision> for KnownRevision {
    fn from(revision: Revision) -> Self {
        Self(NonZeroU64::new(revision.get()))
    }
}

/// How a read failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: ReadKind,
    pub(crate) error: StorageError,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadKind {
    Get,
    GetVersioned,
    Exists,
}

impl Cached {
    pub(crate) fn value_len(&self) -> usize {
        match self {
            Self::Value(value, _) => value.len(),
            Self::Marker(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_compact() {
        let value_and_revision = size_of::<StorageValue>() + size_of::<Revision>();
        assert_eq!(size_of::<Cached>(), value_and_revision);
        assert_eq!(size_of::<Entry>(), value_and_revision + size_of::<Moment>());
    }
}
