//! Ties the bindings of `airssys:storage/extended` to the table.

/// Says what each of the interface's errors is called. `Error` and `StorageError` of
/// the bindings are in scope where it stands.
#[macro_export]
macro_rules! bind_extended {
    () => {
        impl $crate::table::Failure for Error {
            fn variant(&self) -> &'static str {
                match self {
                    Self::NoSuchStore => "no-such-store",
                    Self::AccessDenied => "access-denied",
                    Self::Conflict(_) => "conflict",
                    Self::Storage(StorageError::NotFound(_)) => "not-found",
                    Self::Storage(StorageError::AlreadyExists(_)) => "already-exists",
                    Self::Storage(StorageError::QuotaExceeded) => "quota-exceeded",
                    Self::Storage(StorageError::InvalidKey(_)) => "invalid-key",
                    Self::Storage(StorageError::IoError(_)) => "io-error",
                }
            }

            fn text(&self) -> Option<&str> {
                match self {
                    Self::Conflict(text)
                    | Self::Storage(
                        StorageError::NotFound(text)
                        | StorageError::AlreadyExists(text)
                        | StorageError::InvalidKey(text)
                        | StorageError::IoError(text),
                    ) => Some(text),
                    Self::NoSuchStore
                    | Self::AccessDenied
                    | Self::Storage(StorageError::QuotaExceeded) => None,
                }
            }
        }
    };
}
