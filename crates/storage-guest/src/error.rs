use std::fmt;

/// Why a call failed.
///
/// After [`Host`](Error::Host) from a call that writes, the outcome is unknown: the
/// key has its old value or its new one. After any other error nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The host has no store with this name.
    NoSuchStore,
    /// The operator has not granted this.
    AccessDenied,
    /// The key breaks a rule of the host, which the text names. From
    /// `wasi:keyvalue` it is a [`Host`](Error::Host) error.
    InvalidKey(String),
    /// The write would exceed the component's quota. Deleting still works. From
    /// `wasi:keyvalue` it is a [`Host`](Error::Host) error.
    QuotaExceeded,
    /// The store failed, or the call exceeds a limit; the host's text says which.
    Host(String),
    /// The value is not of the requested type, or cannot be stored as one.
    Value {
        /// The key of the value.
        key: String,
        /// What is wrong with the value.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchStore => f.write_str("the host has no store with this name"),
            Self::AccessDenied => f.write_str("the operator has not granted access to this"),
            Self::InvalidKey(rule) => write!(f, "invalid key: {rule}"),
            Self::QuotaExceeded => {
                f.write_str("the quota is used up: delete something, or ask for a larger quota")
            }
            Self::Host(text) => write!(f, "the storage call failed: {text}"),
            Self::Value { key, reason } => write!(f, "the value of {key:?}: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
