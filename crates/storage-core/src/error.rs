//! The errors of all layers.

use std::fmt;

/// Why an operation failed.
///
/// The first five variants are part of the guest interface. The others are for
/// Rust callers; a guest sees them as `io-error` with a short reason.
///
/// A payload called *key* is the key that the caller passed, so each layer
/// translates it ([`NamespacedStorage`](crate::NamespacedStorage) strips its
/// prefix). [`InvalidKey`](Self::InvalidKey) has a text instead, which quotes only the start
/// of the key because the key may be too long to show. A payload called *detail* is for logs
/// and may contain paths; it is never shown to a guest.
///
/// After [`IoError`](Self::IoError) and [`Unavailable`](Self::Unavailable) from
/// a write the outcome is indeterminate: the old value or the new one is stored,
/// never a mixture. After any other error nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageError {
    /// A key that must be present is absent. Payload: the key.
    NotFound(String),
    /// A key that must be absent is present. Payload: the key.
    AlreadyExists(String),
    /// The write would exceed the component's quota. Nothing changed.
    QuotaExceeded,
    /// The key breaks a rule. Payload: the rule and the start of the key, as
    /// [`validate_full_key`](crate::validate_full_key) words them.
    InvalidKey(String),
    /// The backend failed: an error of the operating system or the engine, such as a
    /// full disk. Payload: detail, which says what failed, on what, and what to do.
    IoError(String),
    /// A check of a commit failed: the revision or value of the key is not the
    /// expected one. Payload: the key.
    Conflict(String),
    /// This storage does not support the operation, or cannot read this format.
    /// Payload: what is not supported, and the alternative.
    Unsupported(String),
    /// Stored data is damaged. A damaged value is never returned.
    Corrupt {
        /// The damaged key, if the damage concerns one.
        key: Option<String>,
        /// What was found, and where.
        detail: String,
    },
    /// The operation cannot be done now, for example because an earlier write failed
    /// and the store must be opened again. It may be retried.
    Unavailable {
        /// The key, if the problem concerns one.
        key: Option<String>,
        /// What happened, and what resolves it.
        detail: String,
    },
    /// The keys of one component cannot be listed. Other components can be read.
    /// [`list_components`](crate::Store::list_components) skips the component
    /// when `prefix` is passed as `after`.
    UnreadableComponent {
        /// The component prefix, `namespace/name/instance/`. A prefix with fewer
        /// segments means all components below it.
        prefix: String,
        /// What failed on what, and what to do.
        detail: String,
    },
    /// The store is open already, here or in another process. Payload: detail, which
    /// names the store and, if known, the process.
    Locked(String),
    /// The store is open for reading only.
    ReadOnly,
    /// No grant allows this access to a key of another component. Payload: the
    /// key.
    AccessDenied(String),
    /// The call exceeds a limit other than the quota. Nothing changed.
    LimitExceeded {
        /// The limit and its unit, such as `bytes of a value`.
        limit: &'static str,
        /// The largest allowed number.
        max: u64,
        /// The requested number, or the number at which counting stopped.
        actual: u64,
    },
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(key) => write!(f, "key {key:?} does not exist"),
            Self::AlreadyExists(key) => write!(f, "key {key:?} already exists"),
            Self::QuotaExceeded => f.write_str(
                "the component's quota is used up: delete keys, or have its quota raised",
            ),
            Self::InvalidKey(rule) => write!(f, "invalid key: {rule}"),
            Self::IoError(detail) => write!(f, "storage failed: {detail}"),
            Self::Conflict(key) => {
                write!(f, "key {key:?} was changed in the meantime: read it again and retry")
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
            // A component sees the error without its component prefix.
            Self::UnreadableComponent { prefix, detail } if prefix.is_empty() => {
                write!(f, "the component cannot be read: {detail}")
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
    /// Replaces the key that the error contains, if any.
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
