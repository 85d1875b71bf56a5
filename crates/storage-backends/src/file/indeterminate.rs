//! Why the outcome of a write to the file store is unknown.

use std::sync::Arc;

use super::journal::Journal;
use crate::key_locks::{self, IndeterminateCause};

/// Why the value of a key after a power cut is unknown.
#[derive(Debug, Clone)]
pub(super) enum Indeterminate {
    /// The last write to the key may or may not be durable. The next write to the key
    /// resolves it.
    Write,
    /// The commit has happened, but is not applied completely. It must be applied
    /// before its keys are used again.
    Commit(Arc<Journal>),
}

impl IndeterminateCause for Indeterminate {
    fn detail(&self) -> &'static str {
        match self {
            Self::Write => {
                "the last write to it failed and may or may not have taken effect; write or delete \
                 the key again, or reopen the store"
            }
            Self::Commit(_) => {
                "the last commit to it failed before it was applied completely; write the key \
                 again or reopen the store, which completes the commit"
            }
        }
    }
}

pub(super) type IndeterminateKeys = key_locks::IndeterminateKeys<Indeterminate>;
