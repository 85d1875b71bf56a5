//! `error` of the store interface.

use storage_core::StorageError;
use wasmtime::component::{ComponentType, Lower};

use crate::guest::bucket::{Bucket, CannotOpen};
use crate::guest::errors::{Call, GuestError};
use crate::host::ComponentChain;

#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(super) enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl Error {
    pub(super) fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }

    /// The limit on handles is reached.
    pub(super) fn of_handles(error: StorageError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<CannotOpen> for Error {
    fn from(why: CannotOpen) -> Self {
        match why {
            CannotOpen::NoSuchStore => Self::NoSuchStore,
            CannotOpen::AccessDenied => Self::AccessDenied,
        }
    }
}

/// A call of a function.
#[derive(Clone, Copy)]
pub(super) struct Calling<'a> {
    /// The caller's chain.
    pub(super) chain: &'a ComponentChain,
    pub(super) bucket: &'a Bucket,
    pub(super) operation: &'static str,
}

impl Calling<'_> {
    /// The error for the guest. It contains no text of a backend.
    pub(super) fn error(&self, key: Option<&str>, error: &StorageError) -> Error {
        if matches!(error, StorageError::AccessDenied(_)) {
            return Error::AccessDenied;
        }
        self.of(Call { key, ..self.call() }.error(error))
    }

    /// The call without a key.
    pub(super) fn call(&self) -> Call<'_> {
        Call {
            chain: self.chain,
            limits: self.bucket.limits(),
            operation: self.operation,
            key: None,
        }
    }

    /// Converts an error of the other interfaces.
    pub(super) fn of(&self, error: GuestError) -> Error {
        Error::Other(match error {
            GuestError::NotFound(_) => "the key does not exist".to_owned(),
            GuestError::AlreadyExists(_) => "the key exists already".to_owned(),
            GuestError::QuotaExceeded => self.bucket.quota_text(self.chain),
            GuestError::InvalidKey(text) | GuestError::IoError(text) => text,
        })
    }

    pub(super) fn convert<R>(
        &self,
        key: Option<&str>,
        result: Result<R, StorageError>,
    ) -> Result<R, Error> {
        result.map_err(|error| self.error(key, &error))
    }
}
