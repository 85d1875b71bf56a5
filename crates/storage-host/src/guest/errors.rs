//! Which part of an error a guest gets, and what goes only to the log.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use storage_core::{StorageError, validate_key};
use wasmtime::component::{ComponentType, Lower};

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

/// One call of a guest.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) chain: &'a ComponentChain,
    /// The limits that apply.
    pub(super) limits: &'a Limits,
    pub(super) operation: &'static str,
    /// The key or prefix, as the guest passed it.
    pub(super) key: Option<&'a str>,
}

impl Call<'_> {
    /// The error for the guest. It contains no text of a backend, only fixed texts and what
    /// the guest passed.
    pub(super) fn error(&self, error: &StorageError) -> GuestError {
        let guest_key = || self.key.unwrap_or_default().to_owned();
        match error {
            StorageError::NotFound(_) => GuestError::NotFound(guest_key()),
            StorageError::AlreadyExists(_) => GuestError::AlreadyExists(guest_key()),
            StorageError::QuotaExceeded => GuestError::QuotaExceeded,
            StorageError::InvalidKey(_) => match self.broken_rule() {
                Some(rule) => GuestError::InvalidKey(rule),
                None => {
                    let incident = self.log(error);
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
            StorageError::Corrupt { .. } => self.internal(error, "what is stored is damaged"),
            // Expected, so not logged. The guest's next call traps.
            StorageError::Unavailable { key: None, .. } if self.chain.host().is_shut_down() => {
                GuestError::IoError("storage is unavailable: the host is shutting down".to_owned())
            }
            StorageError::Unavailable { .. } => self.internal(error, "storage is unavailable now"),
            StorageError::Locked(_) => self.internal(error, "storage is in use elsewhere"),
            StorageError::ReadOnly => self.internal(error, "storage is read-only"),
            StorageError::Unsupported(_) => self.internal(error, "storage cannot do this"),
            // Also errors of later versions: unknown details are not exposed.
            _ => self.internal(error, "storage failed"),
        }
    }

    /// The rule that the guest's key violates.
    fn broken_rule(&self) -> Option<String> {
        let key = self.key?;
        match validate_key(key).and_then(|()| self.limits.check_key(key)) {
            Err(StorageError::InvalidKey(rule)) => Some(rule),
            _ => None,
        }
    }

    fn internal(&self, error: &StorageError, reason: &str) -> GuestError {
        let incident = self.log(error);
        GuestError::IoError(format!("{reason} ({incident})"))
    }

    fn log(&self, error: &StorageError) -> Incident {
        let incident = Incident::next();
        tracing::error!(
            incident = %incident.number(),
            component = %self.chain.id(),
            operation = self.operation,
            key = self.key,
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
