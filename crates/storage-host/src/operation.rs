//! The operations of storage and how they end, as metrics and spans name them.

#[cfg(feature = "tracing")]
use storage_core::StorageError;

#[cfg(feature = "tracing")]
use crate::rate;

/// An operation of [`ComponentStorage`](crate::ComponentStorage). An increment of a guest is a
/// [`GetVersioned`](Self::GetVersioned) and a [`Commit`](Self::Commit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// Reads the value of a key.
    Get,
    /// Stores a value.
    Set,
    /// Removes a key.
    Delete,
    /// Asks whether a key has a value.
    Exists,
    /// Lists all keys.
    ListKeys,
    /// Lists a page of keys.
    ListPage,
    /// Reads several keys.
    GetMany,
    /// Counts keys and bytes.
    Usage,
    /// Reads a value with its revision.
    GetVersioned,
    /// Checks and writes several keys, all or nothing.
    Commit,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 10] = [
        Self::Get,
        Self::Set,
        Self::Delete,
        Self::Exists,
        Self::ListKeys,
        Self::ListPage,
        Self::GetMany,
        Self::Usage,
        Self::GetVersioned,
        Self::Commit,
    ];

    /// The name in metrics and spans, such as `get_many`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Exists => "exists",
            Self::ListKeys => "list_keys",
            Self::ListPage => "list_page",
            Self::GetMany => "get_many",
            Self::Usage => "usage",
            Self::GetVersioned => "get_versioned",
            Self::Commit => "commit",
        }
    }

    /// The operation that a function of a dialect begins with.
    #[cfg(feature = "wasmtime")]
    pub(crate) fn of_function(name: &str) -> Self {
        match name {
            "get" | "cas.current" => Self::Get,
            "set" => Self::Set,
            "delete" => Self::Delete,
            "exists" => Self::Exists,
            "list-keys" | "get-keys" | "list-page" => Self::ListPage,
            "get-many" => Self::GetMany,
            "usage" => Self::Usage,
            "get-versioned" | "increment" | "cas.new" | "current" => Self::GetVersioned,
            _ => Self::Commit,
        }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Outcome {
    /// It succeeded.
    Ok,
    /// It succeeded, and the key does not exist.
    NotFound,
    /// A check of a commit failed: another write came first.
    Conflict,
    /// The key is invalid.
    Invalid,
    /// No grant allows it.
    Denied,
    /// It is over a limit of one call ([`Limits`](crate::Limits)).
    Limit,
    /// It is over the quota.
    Quota,
    /// It is over the rate limit ([`RateLimit`](crate::RateLimit)).
    Rate,
    /// Storage failed.
    Error,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::NotFound,
        Self::Conflict,
        Self::Invalid,
        Self::Denied,
        Self::Limit,
        Self::Quota,
        Self::Rate,
        Self::Error,
    ];

    /// The name in metrics and spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Limit => "limit",
            Self::Quota => "quota",
            Self::Rate => "rate",
            Self::Error => "error",
        }
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn of_error(error: &StorageError) -> Self {
        match error {
            StorageError::NotFound(_)
            | StorageError::AlreadyExists(_)
            | StorageError::Conflict(_) => Self::Conflict,
            StorageError::QuotaExceeded => Self::Quota,
            StorageError::InvalidKey(_) => Self::Invalid,
            StorageError::AccessDenied(_) => Self::Denied,
            StorageError::LimitExceeded { limit, .. } if rate::is_rate(limit) => Self::Rate,
            StorageError::LimitExceeded { .. } => Self::Limit,
            _ => Self::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counters are arrays in this order.
    #[test]
    fn all_operations_and_outcomes_are_in_order() {
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index);
        }
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }
}
