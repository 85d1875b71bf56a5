//! Turns the engine's errors and panics into [`StorageError`]s.

use std::any::Any;
use std::fmt;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use storage_core::StorageError;

use crate::io_failure;

/// The largest value. The engine's own limit is slightly higher, to leave room for
/// the record around the value.
pub(super) const MAX_VALUE_BYTES: usize = 2 << 30;

/// Why code that runs on the engine stopped.
#[derive(Debug)]
pub(super) enum Error {
    Engine(Box<::redb::Error>),
    Store(StorageError),
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        Self::Store(error)
    }
}

macro_rules! from_engine {
    ($($error:ident),+) => {$(
        impl From<::redb::$error> for Error {
            fn from(error: ::redb::$error) -> Self {
                Self::Engine(Box::new(error.into()))
            }
        }
    )+};
}

from_engine!(
    StorageError,
    TableError,
    TransactionError,
    CommitError,
    DatabaseError,
    SetDurabilityError,
    CompactionError
);

impl Error {
    /// Whether the engine stopped after an I/O error and must be reopened.
    pub(super) fn is_io(&self) -> bool {
        matches!(
            self,
            Self::Engine(error) if matches!(
                **error,
                ::redb::Error::Io(_)
                    | ::redb::Error::Backend(_)
                    | ::redb::Error::PreviousIo
                    | ::redb::Error::DatabaseClosed
            )
        )
    }

    /// Converts the error for callers of the store in the file `path`.
    pub(super) fn into_storage_error(self, path: &Path) -> StorageError {
        let error = match self {
            Self::Store(error) => return error,
            Self::Engine(error) => *error,
        };
        match error {
            ::redb::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                corrupt(path, "the file is truncated")
            }
            ::redb::Error::Io(error)
                if error.get_ref().is_some_and(|inner| inner.is::<Revoked>()) =>
            {
                unavailable(path, &error)
            }
            ::redb::Error::Io(error) => io_failure::failed("use", path, &error),
            ::redb::Error::UpgradeRequired(version) => StorageError::Unsupported(format!(
                "{} has version {version} of the redb format, which this program cannot read; \
                 use the release that wrote it",
                path.display()
            )),
            error @ (::redb::Error::PreviousIo | ::redb::Error::DatabaseClosed) => {
                unavailable(path, &error)
            }
            ::redb::Error::ValueTooLarge(bytes) => value_too_large(bytes),
            error => corrupt(path, &error.to_string()),
        }
    }
}

/// Why a call of the engine did not return a result.
pub(super) enum Stopped {
    Failed(Error),
    Panicked(StorageError),
}

impl Stopped {
    pub(super) fn into_storage_error(self, path: &Path) -> StorageError {
        match self {
            Self::Failed(error) => error.into_storage_error(path),
            Self::Panicked(error) => error,
        }
    }
}

/// Calls the engine. Some damage makes it panic; that is reported as damage.
pub(super) fn catch_panic<T>(
    path: &Path,
    run: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Stopped> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(ran) => ran.map_err(Stopped::Failed),
        Err(panic) => {
            let detail = format!("the engine panicked: {}", panic_text(&*panic));
            Err(Stopped::Panicked(corrupt(path, &detail)))
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// The state that a reader used was overwritten by a newer one.
#[derive(Debug)]
pub(super) struct Revoked;

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the state being read was overwritten; read again")
    }
}

impl std::error::Error for Revoked {}

fn unavailable(path: &Path, error: &dyn std::error::Error) -> StorageError {
    StorageError::Unavailable { key: None, detail: format!("{}: {error}", path.display()) }
}

/// Damage to the store's file.
pub(super) fn corrupt(path: &Path, detail: &str) -> StorageError {
    StorageError::Corrupt {
        key: None,
        detail: format!("{}: {detail}; restore the file from a copy", path.display()),
    }
}

/// Damage to the record of a key.
pub(super) fn corrupt_record(key: &str, problem: &str) -> StorageError {
    StorageError::Corrupt {
        key: Some(key.to_owned()),
        detail: format!(
            "cannot read the record: {problem}; restore the store from a copy, or write or delete \
             the key"
        ),
    }
}

pub(super) fn value_too_large(bytes: usize) -> StorageError {
    StorageError::LimitExceeded {
        limit: "bytes of a value",
        max: MAX_VALUE_BYTES as u64,
        actual: bytes as u64,
    }
}
