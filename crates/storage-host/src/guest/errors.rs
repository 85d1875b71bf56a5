//! Which part of an error a guest gets, and what goes only to the log.

use std::sync::Arc;

use storage_core::{ComponentStorage, StorageError, validate_key};
use wasmtime::component::{ComponentType, Lower};

use super::bucket::Bucket;
use super::incident::Incident;
use super::key::Key;
use crate::component_chain::ComponentChain;
use crate::limits::Limits;
#[cfg(feature = "async")]
use crate::offload::Refused;
use crate::operation::Operation;
use crate::rate::is_rate;

/// `storage-error` of `airssys:core/errors`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(super) enum GuestError {
    #[component(name = "not-found")]
    NotFound(String),
    #[component(name = "already-exists")]
    AlreadyExists(String),
    #[component(name = "quota-exceeded")]
    QuotaExceeded,
    #[component(name = "invalid-key")]
    InvalidKey(String),
    #[component(name = "io-error")]
    IoError(String),
}

/// An error that was found before storage was asked: a limit or an invalid key.
impl From<StorageError> for GuestError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::InvalidKey(rule) => Self::InvalidKey(rule),
            error => Self::IoError(error.to_string()),
        }
    }
}

/// The error type of a dialect.
pub(super) trait CallError: Lower + Send + Sync + 'static {
    /// Converts the reason why storage was not asked.
    #[cfg(feature = "async")]
    fn from_refused(call: &Call<'_>, refused: Refused) -> Self
    where
        Self: Sized,
    {
        Self::from_guest(call, refused.into())
    }

    /// Converts an error of `airssys:core/storage`.
    fn from_guest(call: &Call<'_>, error: GuestError) -> Self;

    /// Converts an error of storage. `key` is the key or prefix, as the guest passed it.
    fn from_storage(call: &Call<'_>, key: Option<&str>, error: &StorageError) -> Self
    where
        Self: Sized,
    {
        Self::from_guest(call, call.error(key, error))
    }
}

impl CallError for GuestError {
    fn from_guest(_: &Call<'_>, error: Self) -> Self {
        error
    }
}

/// One call of a guest.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    /// The caller's chain.
    pub(super) own: &'a Arc<ComponentChain>,
    /// The storage that the call uses.
    pub(super) bucket: &'a Bucket,
    pub(super) operation: &'static str,
    /// The bytes of its arguments that were copied.
    #[cfg(feature = "p3")]
    pub(super) copied: usize,
}

impl<'a> Call<'a> {
    pub(super) fn storage(&self) -> &'a dyn ComponentStorage {
        self.bucket.storage()
    }

    /// The limits that apply.
    pub(super) fn limits(&self) -> Limits {
        self.bucket.limits()
    }

    /// The operation of storage that it begins with.
    pub(super) fn storage_operation(&self) -> Operation {
        Operation::of_function(self.operation)
    }

    pub(super) fn convert<R, E: CallError>(
        &self,
        key: Option<&str>,
        result: Result<R, StorageError>,
    ) -> Result<R, E> {
        result.map_err(|error| E::from_storage(self, key, &error))
    }

    pub(super) fn convert_key<R, E: CallError>(
        &self,
        key: &Key,
        result: Result<R, StorageError>,
    ) -> Result<R, E> {
        result.map_err(|error| match (&error, key.broken_rule()) {
            (StorageError::InvalidKey(_), Some(rule)) => {
                E::from_guest(self, GuestError::InvalidKey(rule.to_owned()))
            }
            _ => E::from_storage(self, Some(key.as_str()), &error),
        })
    }

    /// The error for the guest. It contains no text of a backend, only fixed texts and what
    /// the guest passed.
    pub(super) fn error(&self, key: Option<&str>, error: &StorageError) -> GuestError {
        let guest_key = || key.unwrap_or_default().to_owned();
        match error {
            StorageError::NotFound(_) => GuestError::NotFound(guest_key()),
            StorageError::AlreadyExists(_) => GuestError::AlreadyExists(guest_key()),
            StorageError::QuotaExceeded => GuestError::QuotaExceeded,
            StorageError::InvalidKey(_) => match self.broken_rule(key) {
                Some(rule) => GuestError::InvalidKey(rule),
                None => {
                    let incident = self.log(key, error);
                    GuestError::InvalidKey(format!("the store cannot take this key ({incident})"))
                }
            },
            StorageError::LimitExceeded { limit, max, actual } => {
                let mut text = format!("{actual} {limit} are over the limit of {max}");
                if is_rate(limit) {
                    let milliseconds = self.own.retry_after().as_micros().div_ceil(1_000);
                    text.push_str(&format!("; try again in {milliseconds} ms"));
                }
                GuestError::IoError(text)
            }
            StorageError::Conflict(_) => {
                GuestError::IoError("the key was changed meanwhile: try again".to_owned())
            }
            StorageError::AccessDenied(_) => {
                GuestError::IoError("access to this key is not granted".to_owned())
            }
            StorageError::Corrupt { .. } => self.internal(key, error, "what is stored is damaged"),
            // Expected, so not logged. The guest's next call traps.
            StorageError::Unavailable { key: None, .. } if self.own.host().is_shut_down() => {
                GuestError::IoError("storage is unavailable: the host is shutting down".to_owned())
            }
            StorageError::Unavailable { .. } => {
                self.internal(key, error, "storage is unavailable now")
            }
            StorageError::Locked(_) => self.internal(key, error, "storage is in use elsewhere"),
            StorageError::ReadOnly => self.internal(key, error, "storage is read-only"),
            StorageError::Unsupported(_) => self.internal(key, error, "storage cannot do this"),
            // Also errors of later versions: unknown details are not exposed.
            _ => self.internal(key, error, "storage failed"),
        }
    }

    /// The rule that the guest's key violates.
    fn broken_rule(&self, key: Option<&str>) -> Option<String> {
        let key = key?;
        match validate_key(key).and_then(|()| self.limits().check_key(key)) {
            Err(StorageError::InvalidKey(rule)) => Some(rule),
            _ => None,
        }
    }

    fn internal(&self, key: Option<&str>, error: &StorageError, reason: &str) -> GuestError {
        let incident = self.log(key, error);
        GuestError::IoError(format!("{reason} ({incident})"))
    }

    fn log(&self, key: Option<&str>, error: &StorageError) -> Incident {
        let incident = Incident::next();
        tracing::error!(
            incident = %incident.number(),
            component = %self.own.id(),
            operation = self.operation,
            key,
            error = %error,
            "a call to storage failed",
        );
        incident
    }
}
