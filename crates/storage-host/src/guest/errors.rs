//! Which part of an error a guest gets, and what goes only to the log.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage_core::{ComponentStorage, StorageError, validate_key};
use wasmtime::component::{ComponentType, Lower};

use super::bucket::Bucket;
use super::key::Key;
use crate::host::ComponentChain;
use crate::limits::Limits;

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
}

impl<'a> Call<'a> {
    pub(super) fn storage(&self) -> &'a dyn ComponentStorage {
        self.bucket.storage()
    }

    /// The limits that apply.
    pub(super) fn limits(&self) -> &'a Limits {
        self.bucket.limits()
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
                GuestError::IoError(format!("{actual} {limit} are over the limit of {max}"))
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

/// Identifies the log entry with the details of an error. Counted per process.
struct Incident(u64);

impl Incident {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn number(&self) -> String {
        format!("{:08x}", self.0)
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "incident {}", self.number())
    }
}
