//! Why the state of a key is not known after an I/O error.

use std::sync::Arc;

use super::journal::Journal;
use crate::key_locks::{self, Doubt};

/// Why it is not known what a key's value will be after a power cut.
#[derive(Debug, Clone)]
pub(super) enum Unsettled {
    /// The last write to the key alone may or may not be durable. The next
    /// write to the key settles it.
    Write,
    /// The commit has happened, but not all of it has been applied. It has to
    /// be finished before anything else is done with its keys.
    Commit(Arc<Journal>),
}

impl Doubt for Unsettled {
    fn detail(&self) -> &'static str {
        match self {
            Self::Write => {
                "a write to it failed half-way; write or delete it again, or open the store anew"
            }
            Self::Commit(_) => {
                "a commit that wrote it failed half-way; write again, or open the store anew, to have it finished"
            }
        }
    }
}

/// The keys that cannot be answered for, after an I/O error.
pub(super) type UnsettledKeys = key_locks::UnsettledKeys<Unsettled>;
