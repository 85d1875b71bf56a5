//! Why an archive was not written or not imported.

use std::io;

use storage_core::StorageError;

use crate::transfer::error::{CopyError, OverQuota};

/// Why an archive was not written. What was written of it is refused by every import.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store could not be read completely.
    #[error("cannot read the store: {0}")]
    Store(#[source] StorageError),
    /// The archive could not be written.
    #[error("cannot write the archive: {0}")]
    Archive(#[source] io::Error),
}

/// Why an archive was not imported, or only in part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The archive is not complete and unchanged.
    #[error("line {line} of the archive: {problem}")]
    Refused {
        /// The number of the line at which this was found; the first has number 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// The archive could not be read.
    #[error("cannot read line {line} of the archive: {error}")]
    Read {
        /// The number of the line.
        line: u64,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The target has a key in an imported component that the archive lacks or has with
    /// another value.
    #[error(
        "the target has other data: key {first:?}, which the archive lacks or has with another value"
    )]
    OtherData {
        /// The first of them, as a full key.
        first: String,
    },
    /// A component does not fit in its quota.
    #[error(transparent)]
    Quota(OverQuota),
    /// The target could not be read or written.
    #[error(transparent)]
    Target(CopyError),
}

impl From<CopyError> for ImportError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Quota(error) => Self::Quota(error),
            CopyError::OtherData { first, .. } => Self::OtherData { first },
            error => Self::Target(error),
        }
    }
}
