//! `error` of the store interface.

use storage_core::StorageError;
use wasmtime::component::{ComponentType, Lower};

use crate::guest::bucket::CannotOpen;
use crate::guest::errors::{Call, CallError, GuestError};

#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(in crate::guest) enum Error {
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
}

impl From<CannotOpen> for Error {
    fn from(why: CannotOpen) -> Self {
        match why {
            CannotOpen::NoSuchStore => Self::NoSuchStore,
            CannotOpen::AccessDenied => Self::AccessDenied,
        }
    }
}

impl CallError for Error {
    fn from_guest(call: &Call<'_>, error: GuestError) -> Self {
        Self::Other(match error {
            GuestError::NotFound(_) => "the key does not exist".to_owned(),
            GuestError::AlreadyExists(_) => "the key exists already".to_owned(),
            GuestError::QuotaExceeded => call.bucket.quota_text(call.own),
            GuestError::InvalidKey(text) | GuestError::IoError(text) => text,
        })
    }

    fn from_storage(call: &Call<'_>, key: Option<&str>, error: &StorageError) -> Self {
        match error {
            StorageError::AccessDenied(_) => Self::AccessDenied,
            error => Self::from_guest(call, call.error(key, error)),
        }
    }
}
