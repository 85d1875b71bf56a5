//! The JSON of requests and answers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use storage_core::{
    ComponentId, InvalidComponentId, Problem, ProblemKind, StorageError, Usage, Verified,
};

use crate::component_chain::ComponentUsage;
use crate::settings::{Applied, SettingChange};

/// The store of a host, and the host's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoreInfo {
    /// The URL with which the host opened the store, without a password.
    pub url: String,
    /// The scheme of the URL.
    pub scheme: String,
    /// The device of the store's file or directory.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// The id of the process, as its own process namespace has it.
    pub pid: u32,
    /// The version of this crate.
    pub version: String,
    /// When the socket was opened, in seconds since 1970.
    pub started: u64,
    /// The id of the store, if it has one.
    pub store_id: Option<String>,
}

/// How much a component stores and may store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QuotaAndUsage {
    /// The number of its keys.
    pub key_count: u64,
    /// Bytes of its user keys and their values.
    pub used_bytes: u64,
    /// How many bytes it may store; `None` if unlimited.
    pub quota_bytes: Option<u64>,
    /// How many keys it may have; `None` if unlimited.
    pub quota_keys: Option<u64>,
}

impl QuotaAndUsage {
    /// The usage of a component with this quota.
    pub fn new(used: ComponentUsage, quota: Option<storage_core::Budget>) -> Self {
        let bound = |bound: u64| Some(bound).filter(|bound| *bound != u64::MAX);
        Self {
            key_count: used.key_count,
            used_bytes: used.used_bytes,
            quota_bytes: quota.and_then(|quota| bound(quota.max_bytes)),
            quota_keys: quota.and_then(|quota| bound(quota.max_keys)),
        }
    }
}

/// A page of `/v1/components`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ComponentsPage {
    pub(super) prefixes: Vec<String>,
    pub(super) more: bool,
}

/// A page of `/v1/keys`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KeysPage {
    pub(super) keys: Vec<String>,
    pub(super) more: bool,
}

/// The answer to a `PUT`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) value_bytes: usize,
}

/// The answer to a `DELETE`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Deleted {}

/// A line of `/v1/verify`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum VerifyLine {
    Problem(FoundProblem),
    Verified(Totals),
    Error(Refusal),
}

/// A [`Problem`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FoundProblem {
    kind: String,
    location: String,
    key: Option<String>,
    detail: String,
}

impl From<Problem> for FoundProblem {
    fn from(problem: Problem) -> Self {
        let Problem { kind, location, key, detail, .. } = problem;
        Self { kind: kind.as_str().to_owned(), location, key, detail }
    }
}

impl From<FoundProblem> for Problem {
    fn from(found: FoundProblem) -> Self {
        let kinds = [ProblemKind::Damage, ProblemKind::ForeignFile, ProblemKind::Permissions];
        let kind = kinds.into_iter().find(|kind| kind.as_str() == found.kind).unwrap_or_default();
        let problem = Self::new(found.location, found.detail).with_kind(kind);
        match found.key {
            Some(key) => problem.with_key(key),
            None => problem,
        }
    }
}

/// A [`Verified`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Totals {
    bytes: u64,
    keys: u64,
    components: u64,
    problems: u64,
    warnings: u64,
}

impl From<Verified> for Totals {
    fn from(verified: Verified) -> Self {
        Self {
            bytes: verified.usage.bytes,
            keys: verified.usage.keys,
            components: verified.components,
            problems: verified.problems,
            warnings: verified.warnings,
        }
    }
}

impl From<Totals> for Verified {
    fn from(totals: Totals) -> Self {
        let mut verified = Self::default();
        verified.usage = Usage { bytes: totals.bytes, keys: totals.keys };
        verified.components = totals.components;
        verified.problems = totals.problems;
        verified.warnings = totals.warnings;
        verified
    }
}

/// The answer to a reload.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reloaded {
    changed: Vec<Changed>,
    needs_restart: Vec<Changed>,
}

/// A [`SettingChange`].
#[derive(Debug, Serialize, Deserialize)]
struct Changed {
    component: Option<String>,
    field: String,
    old: String,
    new: String,
}

impl From<Applied> for Reloaded {
    fn from(applied: Applied) -> Self {
        let change = |SettingChange { component, field, old, new }| {
            let component = component.map(|id: ComponentId| id.to_string_id());
            Changed { component, field: Cow::into_owned(field), old, new }
        };
        Self {
            changed: applied.changed.into_iter().map(change).collect(),
            needs_restart: applied.needs_restart.into_iter().map(change).collect(),
        }
    }
}

impl Reloaded {
    /// The same, unless it names something that is not a component.
    pub(super) fn into_applied(self) -> Result<Applied, InvalidComponentId> {
        let change = |Changed { component, field, old, new }: Changed| {
            let component = component.map(|id| id.parse()).transpose()?;
            Ok(SettingChange { component, field: field.into(), old, new })
        };
        Ok(Applied {
            changed: self.changed.into_iter().map(change).collect::<Result<_, _>>()?,
            needs_restart: self.needs_restart.into_iter().map(change).collect::<Result<_, _>>()?,
        })
    }
}

/// The answer to a wipe.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wiped {
    pub(super) removed_keys: u64,
}

/// The answer to a compaction.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CompactedTo {
    pub(super) bytes_before: u64,
    pub(super) bytes_after: u64,
}

/// The body of an error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ErrorDocument {
    pub(super) error: Refusal,
}

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    #[serde(flatten)]
    reason: Reason,
    /// The reason in words.
    message: String,
}

/// The parts of a [`StorageError`], or another reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Reason {
    NotFound {
        key: String,
    },
    AlreadyExists {
        key: String,
    },
    QuotaExceeded,
    InvalidKey {
        rule: String,
    },
    Io {
        detail: String,
    },
    Conflict {
        key: String,
    },
    Unsupported {
        detail: String,
    },
    Corrupt {
        key: Option<String>,
        detail: String,
    },
    Unavailable {
        key: Option<String>,
        detail: String,
    },
    Unreadable {
        prefix: String,
        detail: String,
    },
    Locked {
        detail: String,
    },
    ReadOnly,
    AccessDenied {
        key: String,
    },
    LimitExceeded {
        limit: String,
        max: u64,
        actual: u64,
    },
    /// The request is not valid.
    Usage,
    /// There is no such path.
    NoSuchPath,
    /// The path does not have this method.
    NoSuchMethod,
    /// The settings could not be read again.
    NotReloaded,
    /// The host refuses new requests because it is ending.
    ShuttingDown,
    /// The host cannot answer.
    Internal,
}

/// A refusal of a request that is not valid.
pub(super) fn usage(message: String) -> Refusal {
    Refusal { reason: Reason::Usage, message }
}

impl Refusal {
    pub(super) fn no_such_path(path: &str) -> Self {
        Self { reason: Reason::NoSuchPath, message: format!("there is no {path:?}") }
    }

    pub(super) fn no_such_method(path: &str) -> Self {
        let message = format!("{path} does not have this method");
        Self { reason: Reason::NoSuchMethod, message }
    }

    pub(super) fn not_reloaded(message: String) -> Self {
        Self { reason: Reason::NotReloaded, message }
    }

    pub(super) fn is_not_reloaded(&self) -> bool {
        self.reason == Reason::NotReloaded
    }

    pub(super) fn shutting_down() -> Self {
        let message = "the host is shutting down".to_owned();
        Self { reason: Reason::ShuttingDown, message }
    }

    pub(super) fn internal(message: &str) -> Self {
        Self { reason: Reason::Internal, message: message.to_owned() }
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.reason == Reason::ShuttingDown
    }

    /// The status of an answer with this error.
    pub(super) fn status(&self) -> u16 {
        match self.reason {
            Reason::Usage | Reason::InvalidKey { .. } => 400,
            Reason::AccessDenied { .. } | Reason::ReadOnly => 403,
            Reason::NotFound { .. } | Reason::NoSuchPath => 404,
            Reason::NoSuchMethod => 405,
            Reason::AlreadyExists { .. } | Reason::Conflict { .. } | Reason::NotReloaded => 409,
            Reason::LimitExceeded { .. } => 413,
            Reason::Unsupported { .. } => 501,
            Reason::Unavailable { .. } | Reason::Locked { .. } | Reason::ShuttingDown => 503,
            Reason::QuotaExceeded => 507,
            Reason::Io { .. }
            | Reason::Corrupt { .. }
            | Reason::Unreadable { .. }
            | Reason::Internal => 500,
        }
    }

    /// The same error of the store; `None` for another reason.
    pub(super) fn to_storage_error(&self) -> Option<StorageError> {
        Some(match self.reason.clone() {
            Reason::NotFound { key } => StorageError::NotFound(key),
            Reason::AlreadyExists { key } => StorageError::AlreadyExists(key),
            Reason::QuotaExceeded => StorageError::QuotaExceeded,
            Reason::InvalidKey { rule } => StorageError::InvalidKey(rule),
            Reason::Io { detail } => StorageError::IoError(detail),
            Reason::Conflict { key } => StorageError::Conflict(key),
            Reason::Unsupported { detail } => StorageError::Unsupported(detail),
            Reason::Corrupt { key, detail } => StorageError::Corrupt { key, detail },
            Reason::Unavailable { key, detail } => StorageError::Unavailable { key, detail },
            Reason::Unreadable { prefix, detail } => {
                StorageError::UnreadableComponent { prefix, detail }
            }
            Reason::Locked { detail } => StorageError::Locked(detail),
            Reason::ReadOnly => StorageError::ReadOnly,
            Reason::AccessDenied { key } => StorageError::AccessDenied(key),
            Reason::LimitExceeded { limit, max, actual } => {
                let limit = LIMITS.into_iter().find(|known| *known == limit)?;
                StorageError::LimitExceeded { limit, max, actual }
            }
            Reason::Usage
            | Reason::NoSuchPath
            | Reason::NoSuchMethod
            | Reason::NotReloaded
            | Reason::ShuttingDown
            | Reason::Internal => return None,
        })
    }
}

/// The limits of a request.
const LIMITS: [&str; 1] = ["bytes of a value"];

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        let message = error.to_string();
        let reason = match error {
            StorageError::NotFound(key) => Reason::NotFound { key },
            StorageError::AlreadyExists(key) => Reason::AlreadyExists { key },
            StorageError::QuotaExceeded => Reason::QuotaExceeded,
            StorageError::InvalidKey(rule) => Reason::InvalidKey { rule },
            StorageError::IoError(detail) => Reason::Io { detail },
            StorageError::Conflict(key) => Reason::Conflict { key },
            StorageError::Unsupported(detail) => Reason::Unsupported { detail },
            StorageError::Corrupt { key, detail } => Reason::Corrupt { key, detail },
            StorageError::Unavailable { key, detail } => Reason::Unavailable { key, detail },
            StorageError::UnreadableComponent { prefix, detail } => {
                Reason::Unreadable { prefix, detail }
            }
            StorageError::Locked(detail) => Reason::Locked { detail },
            StorageError::ReadOnly => Reason::ReadOnly,
            StorageError::AccessDenied(key) => Reason::AccessDenied { key },
            StorageError::LimitExceeded { limit, max, actual } => {
                Reason::LimitExceeded { limit: limit.to_owned(), max, actual }
            }
            _ => Reason::Internal,
        };
        Self { reason, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_arrive_as_they_were() {
        let (key, detail) = (|| "k\u{e9}y".to_owned(), || "a \"detail\"\n".to_owned());
        let errors = [
            StorageError::NotFound(key()),
            StorageError::AlreadyExists(key()),
            StorageError::QuotaExceeded,
            StorageError::InvalidKey(detail()),
            StorageError::IoError(detail()),
            StorageError::Conflict(key()),
            StorageError::Unsupported(detail()),
            StorageError::Corrupt { key: Some(key()), detail: detail() },
            StorageError::Corrupt { key: None, detail: detail() },
            StorageError::Unavailable { key: None, detail: detail() },
            StorageError::UnreadableComponent { prefix: "a/b/".to_owned(), detail: detail() },
            StorageError::Locked(detail()),
            StorageError::ReadOnly,
            StorageError::AccessDenied(key()),
            StorageError::LimitExceeded { limit: "bytes of a value", max: 1, actual: u64::MAX },
        ];
        for error in errors {
            let sent = ErrorDocument { error: error.clone().into() };
            let text = serde_json::to_string(&sent).unwrap();
            let arrived: ErrorDocument = serde_json::from_str(&text).unwrap();
            assert_eq!(arrived.error.to_storage_error(), Some(error.clone()), "{text}");
            assert_eq!(arrived.error.message(), error.to_string());
            assert!(arrived.error.status() >= 400);
        }
        let text = r#"{"error":{"kind":"not_found","key":"k","message":"m"}}"#;
        let document: ErrorDocument = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&document).unwrap(), text);
    }

    #[test]
    fn problems_arrive_as_they_were() {
        for kind in [ProblemKind::Damage, ProblemKind::ForeignFile, ProblemKind::Permissions] {
            let found = Problem::new("at", "why").with_kind(kind).with_key("key");
            let line = VerifyLine::Problem(found.clone().into());
            let text = serde_json::to_string(&line).unwrap();
            let VerifyLine::Problem(arrived) = serde_json::from_str(&text).unwrap() else {
                panic!("{text}")
            };
            assert_eq!(Problem::from(arrived), found);
        }
    }
}
