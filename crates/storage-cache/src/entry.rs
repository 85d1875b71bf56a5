//! What is known about a key, and which questions that answers.

use std::num::NonZeroU64;

use storage_core::{ComponentStorage, Revision, StorageError, StorageValue, VersionedValue};

use crate::clock::Moment;

/// What the allocator and the shared value's header take for an entry besides
/// its key and value.
pub(crate) const ENTRY_BYTES: u64 = 48;

/// A key's state, and how long it counts.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) held: Held,
    /// It counts before this moment.
    pub(crate) deadline: Moment,
}

impl Clone for Entry {
    #[inline]
    fn clone(&self) -> Self {
        Self { held: self.held.clone(), deadline: self.deadline }
    }
}

/// Since when and until when an answer counts. Taken before the storage below is
/// asked, so that what happens meanwhile is never missed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    /// It counts before this moment.
    pub(crate) deadline: Moment,
    /// It may be kept while the cache is of this generation.
    pub(crate) generation: u64,
}

/// What is known about a key.
///
/// A hit fetches it, so it is laid out for few bytes of the table.
#[derive(Debug)]
pub(crate) enum Held {
    /// It has this value.
    Value(StorageValue, WrittenBy),
    /// It has none, or not here.
    Fact(Fact),
}

/// What is known about a key whose value is not held.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// It has no value.
    Absent {
        /// Whether that was said by a storage with revisions. One without them
        /// must answer a read with revision itself.
        versioned: bool,
    },
    /// It has a value, which nobody has read.
    Present,
    /// It has a value that is too large to keep. No two marks are the same.
    TooLarge { mark: u64 },
    /// The read failed. Handed to those who waited for it, and never kept.
    Failed(Box<Failure>),
}

impl Clone for Held {
    /// A hit clones what is held: most often a value, which is worth a short way.
    #[inline]
    fn clone(&self) -> Self {
        match self {
            Self::Value(value, written_by) => Self::Value(value.clone(), *written_by),
            Self::Fact(fact) => Self::Fact(fact.apart()),
        }
    }
}

impl Fact {
    /// A clone, kept out of the way of values.
    #[inline(never)]
    fn apart(&self) -> Self {
        self.clone()
    }
}

/// The revision of the write that stored a value, where it is known. Number zero
/// is taken for unknown, which is always true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrittenBy(Option<NonZeroU64>);

impl WrittenBy {
    pub(crate) const UNKNOWN: Self = Self(None);

    fn revision(self) -> Option<Revision> {
        self.0.map(|number| Revision::new(number.get()))
    }
}

impl From<Revision> for WrittenBy {
    fn from(revision: Revision) -> Self {
        Self(NonZeroU64::new(revision.get()))
    }
}

/// How a read failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) error: StorageError,
}

impl Held {
    pub(crate) fn value_len(&self) -> usize {
        match self {
            Self::Value(value, _) => value.len(),
            _ => 0,
        }
    }
}

/// What an entry has to say to a question.
#[derive(Debug)]
pub(crate) enum Recall<A> {
    /// The answer.
    Answer(A),
    /// The storage below must be asked, past the cache, as long as this mark is
    /// there.
    PassBy {
        /// The mark of the value that is too large.
        mark: u64,
    },
    /// Nothing: the storage below must be asked.
    Unknown,
}

/// The name of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Value,
    Versioned,
    Presence,
}

/// A read of one key.
pub(crate) trait Question {
    type Answer;
    const KIND: Kind;

    /// The answer that is held, if it is.
    fn recall(held: Held) -> Recall<Self::Answer>;

    /// Asks a storage.
    fn ask<S: ComponentStorage>(storage: &S, key: &str) -> Result<Self::Answer, StorageError>;

    /// What an answer tells about the key.
    fn learn(answer: &Self::Answer) -> Held;
}

/// What is the value?
pub(crate) struct ReadValue;

impl Question for ReadValue {
    type Answer = Option<StorageValue>;
    const KIND: Kind = Kind::Value;

    #[inline]
    fn recall(held: Held) -> Recall<Self::Answer> {
        match held {
            Held::Value(value, _) => Recall::Answer(Some(value)),
            Held::Fact(Fact::Absent { .. }) => Recall::Answer(None),
            Held::Fact(Fact::TooLarge { mark }) => Recall::PassBy { mark },
            Held::Fact(Fact::Present | Fact::Failed(_)) => Recall::Unknown,
        }
    }

    fn ask<S: ComponentStorage>(storage: &S, key: &str) -> Result<Self::Answer, StorageError> {
        storage.get(key)
    }

    fn learn(answer: &Self::Answer) -> Held {
        match answer {
            Some(value) => Held::Value(value.clone(), WrittenBy::UNKNOWN),
            None => Held::Fact(Fact::Absent { versioned: false }),
        }
    }
}

/// What is the value, and which write stored it?
pub(crate) struct ReadVersioned;

impl Question for ReadVersioned {
    type Answer = Option<VersionedValue>;
    const KIND: Kind = Kind::Versioned;

    #[inline]
    fn recall(held: Held) -> Recall<Self::Answer> {
        match held {
            Held::Value(value, written_by) => match written_by.revision() {
                Some(revision) => Recall::Answer(Some(VersionedValue { value, revision })),
                None => Recall::Unknown,
            },
            Held::Fact(Fact::Absent { versioned: true }) => Recall::Answer(None),
            Held::Fact(Fact::TooLarge { mark }) => Recall::PassBy { mark },
            Held::Fact(Fact::Absent { versioned: false } | Fact::Present | Fact::Failed(_)) => {
                Recall::Unknown
            }
        }
    }

    fn ask<S: ComponentStorage>(storage: &S, key: &str) -> Result<Self::Answer, StorageError> {
        storage.get_versioned(key)
    }

    fn learn(answer: &Self::Answer) -> Held {
        match answer {
            Some(found) => Held::Value(found.value.clone(), found.revision.into()),
            None => Held::Fact(Fact::Absent { versioned: true }),
        }
    }
}

/// Is there a value?
pub(crate) struct ReadPresence;

impl Question for ReadPresence {
    type Answer = bool;
    const KIND: Kind = Kind::Presence;

    #[inline]
    fn recall(held: Held) -> Recall<Self::Answer> {
        match held {
            Held::Value(..) | Held::Fact(Fact::Present | Fact::TooLarge { .. }) => {
                Recall::Answer(true)
            }
            Held::Fact(Fact::Absent { .. }) => Recall::Answer(false),
            Held::Fact(Fact::Failed(_)) => Recall::Unknown,
        }
    }

    fn ask<S: ComponentStorage>(storage: &S, key: &str) -> Result<Self::Answer, StorageError> {
        storage.exists(key)
    }

    fn learn(answer: &Self::Answer) -> Held {
        Held::Fact(if *answer { Fact::Present } else { Fact::Absent { versioned: false } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_few_bytes_of_the_table() {
        let value_and_revision = size_of::<StorageValue>() + size_of::<Revision>();
        assert_eq!(size_of::<Held>(), value_and_revision);
        assert_eq!(size_of::<Entry>(), value_and_revision + size_of::<Moment>());
    }
}
