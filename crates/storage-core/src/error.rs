//! What can go wrong, in the terms a caller has to tell apart.

use std::fmt;

/// Why an operation failed.
///
/// The first five variants are the interface's own and reach a guest as they
/// are. The others exist for Rust callers, who must tell them apart; a guest
/// sees them as `io-error` with a short reason.
///
/// A payload called *key* is the key that the caller passed, so each layer
/// translates it on the way up ([`NamespacedStorage`](crate::NamespacedStorage)
/// strips its prefix). A payload called *detail* is meant for a log and may
/// name paths; it is never shown to a guest.
///
/// After [`IoError`](Self::IoError) and [`Unavailable`](Self::Unavailable) from
/// a write the outcome is unknown: the old value or the new one is there, never
/// a mixture. After any other error nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageError {
    /// The key that must be present is absent. Payload: the key.
    NotFound(String),
    /// The key that must be absent is present. Payload: the key.
    AlreadyExists(String),
    /// The write would take the component above its quota. Nothing changed.
    QuotaExceeded,
    /// The key breaks a rule. Payload: the rule, and the start of the key.
    InvalidKey(String),
    /// The backend failed. Payload: detail.
    IoError(String),
    /// A check of a commit did not hold: the key has another revision or
    /// another value than the caller expected. Payload: the key.
    Conflict(String),
    /// This storage has no such operation, or cannot read this format.
    /// Payload: what is not supported, and what would.
    Unsupported(String),
    /// What is stored is not what was written. The value is withheld.
    Corrupt {
        /// The key, where the damage belongs to one.
        key: Option<String>,
        /// What was found where.
        detail: String,
    },
    /// The operation cannot be answered truthfully now. It may be tried again.
    Unavailable {
        /// The key, where the trouble belongs to one.
        key: Option<String>,
        /// What happened, and what ends it.
        detail: String,
    },
    /// The keys of a component cannot be listed, and those of others can.
    /// [`list_partitions`](crate::ComponentStorage::list_partitions) skips it
    /// when it is asked for what follows `prefix`.
    UnreadableComponent {
        /// The prefix of the component's keys, `namespace/name/instance/`. One
        /// with fewer segments stands for all components below it.
        prefix: String,
        /// What failed on what, and what to do.
        detail: String,
    },
    /// Another process has the store open. Payload: detail, a sentence that names
    /// the store and, if it is known, the process.
    Locked(String),
    /// The store was opened for reading only.
    ReadOnly,
    /// The caller may not do this with this key of another component. Payload:
    /// the key.
    AccessDenied(String),
    /// A limit other than the quota. Nothing was changed or truncated.
    LimitExceeded {
        /// The limit and its unit, such as `bytes of a value`.
        limit: &'static str,
        /// The largest number that is allowed.
        max: u64,
        /// The number that was asked for, or where counting stopped.
        actual: u64,
    },
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(key) => write!(f, "key {key:?} does not exist"),
            Self::AlreadyExists(key) => write!(f, "key {key:?} exists already"),
            Self::QuotaExceeded => f.write_str(
                "the component's quota is used up: delete keys, or have its quota raised",
            ),
            Self::InvalidKey(rule) => write!(f, "invalid key: {rule}"),
            Self::IoError(detail) => write!(f, "storage failed: {detail}"),
            Self::Conflict(key) => {
                write!(f, "key {key:?} was changed meanwhile: read it again and retry")
            }
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::Corrupt { key: Some(key), detail } => {
                write!(f, "key {key:?} is corrupt: {detail}")
            }
            Self::Corrupt { key: None, detail } => write!(f, "the store is corrupt: {detail}"),
            Self::Unavailable { key: Some(key), detail } => {
                write!(f, "key {key:?} is unavailable: {detail}")
            }
            Self::Unavailable { key: None, detail } => {
                write!(f, "the store is unavailable: {detail}")
            }
            Self::UnreadableComponent { prefix, detail } => {
                let id = prefix.strip_suffix('/').unwrap_or(prefix);
                let below = if id.matches('/').count() < 2 { "s below" } else { "" };
                write!(f, "component{below} {id} cannot be read: {detail}")
            }
            Self::Locked(detail) => f.write_str(detail),
            Self::ReadOnly => f.write_str("the store is open for reading only"),
            Self::AccessDenied(key) => write!(f, "access to key {key:?} is not granted"),
            Self::LimitExceeded { limit, max, actual } => {
                write!(f, "{actual} {limit} are over the limit of {max}")
            }
        }
    }
}

impl std::error::Error for StorageError {}

impl StorageError {
    /// Replaces the key that the error carries, if it carries one.
    ///
    /// For layers that rename keys.
    #[must_use]
    pub fn map_key(self, rename: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::NotFound(key) => Self::NotFound(rename(key)),
            Self::AlreadyExists(key) => Self::AlreadyExists(rename(key)),
            Self::Conflict(key) => Self::Conflict(rename(key)),
            Self::AccessDenied(key) => Self::AccessDenied(rename(key)),
            Self::Corrupt { key, detail } => Self::Corrupt { key: key.map(rename), detail },
            Self::Unavailable { key, detail } => Self::Unavailable { key: key.map(rename), detail },
            other => other,
        }
    }
}
