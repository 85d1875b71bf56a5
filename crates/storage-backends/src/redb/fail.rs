//! The engine's errors in the terms of a store.

use std::io::ErrorKind;
use std::path::Path;

use storage_core::StorageError;

use super::snapshot::Revoked;

/// Why something that runs on the engine stopped.
#[derive(Debug)]
pub(super) enum Fail {
    /// The engine stopped it.
    Engine(Box<::redb::Error>),
    /// It is an answer.
    Store(StorageError),
}

impl From<StorageError> for Fail {
    fn from(error: StorageError) -> Self {
        Self::Store(error)
    }
}

macro_rules! from_engine {
    ($($error:ident),+) => {$(
        impl From<::redb::$error> for Fail {
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
    SetDurabilityError
);

impl Fail {
    /// Whether the engine has stopped after an I/O error, now or earlier, and
    /// has to be opened anew.
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

    /// The error for whoever called the store in the file `path`.
    pub(super) fn told(self, path: &Path) -> StorageError {
        let error = match self {
            Self::Store(error) => return error,
            Self::Engine(error) => *error,
        };
        match error {
            ::redb::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                corrupt(path, "the file ends too early")
            }
            ::redb::Error::Io(error)
                if error.get_ref().is_some_and(|inner| inner.is::<Revoked>()) =>
            {
                unavailable(path, &error)
            }
            ::redb::Error::Io(error) => super::place::failed("use", path, &error),
            ::redb::Error::UpgradeRequired(version) => StorageError::Unsupported(format!(
                "{} has version {version} of the engine's format, which this program does not know; use the release that wrote it",
                path.display()
            )),
            error @ (::redb::Error::PreviousIo | ::redb::Error::DatabaseClosed) => {
                unavailable(path, &error)
            }
            ::redb::Error::ValueTooLarge(bytes) => StorageError::LimitExceeded {
                limit: "bytes of a value",
                max: super::write::MAX_VALUE_BYTES as u64,
                actual: bytes as u64,
            },
            error => corrupt(path, &error.to_string()),
        }
    }
}

fn unavailable(path: &Path, error: &dyn std::error::Error) -> StorageError {
    StorageError::Unavailable { key: None, detail: format!("{}: {error}", path.display()) }
}

/// The store's file is damaged.
pub(super) fn corrupt(path: &Path, detail: &str) -> StorageError {
    StorageError::Corrupt {
        key: None,
        detail: format!("{}: {detail}; restore the file from a copy", path.display()),
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}
