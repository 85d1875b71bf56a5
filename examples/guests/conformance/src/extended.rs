//! Macros that implement `Failure` for the errors of the bindings of the host's own
//! interfaces. The types `StorageError` and `Error` must be in scope.

/// Implements `Failure` for `StorageError`.
#[macro_export]
macro_rules! bind_storage_error {
    () => {
        impl $crate::table::Failure for StorageError {
            fn variant(&self) -> &'static str {
                match self {
                    Self::NotFound(_) => "not-found",
                    Self::AlreadyExists(_) => "already-exists",
                    Self::QuotaExceeded => "quota-exceeded",
                    Self::InvalidKey(_) => "invalid-key",
                    Self::IoError(_) => "io-error",
                }
            }

            fn text(&self) -> Option<&str> {
                match self {
                    Self::NotFound(text)
                    | Self::AlreadyExists(text)
                    | Self::InvalidKey(text)
                    | Self::IoError(text) => Some(text),
                    Self::QuotaExceeded => None,
                }
            }
        }
    };
}

/// Implements `Failure` for the `Error` of `airssys:storage/extended`.
#[macro_export]
macro_rules! bind_extended {
    () => {
        $crate::bind_storage_error!();

        impl $crate::table::Failure for Error {
            fn variant(&self) -> &'static str {
                match self {
                    Self::NoSuchStore => "no-such-store",
                    Self::AccessDenied => "access-denied",
                    Self::Conflict(_) => "conflict",
                    Self::Storage(error) => error.variant(),
                }
            }

            fn text(&self) -> Option<&str> {
                match self {
                    Self::Conflict(text) => Some(text),
                    Self::Storage(error) => error.text(),
                    Self::NoSuchStore | Self::AccessDenied => None,
                }
            }
        }
    };
}
