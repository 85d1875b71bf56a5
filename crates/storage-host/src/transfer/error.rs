//! Why keys were not transferred to another store.

use std::fmt;

use storage_core::{Budget, StorageError, Usage};

/// Why a copy failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The target has keys that the source lacks or has with another value.
    #[error(
        "the target has other data: {keys} {} that the source lacks or has with another value, \
         first {first:?}",
        if *keys == 1 { "key" } else { "keys" }
    )]
    OtherData {
        /// The number of such keys.
        keys: u64,
        /// The first of them in byte order, as a full key.
        first: String,
    },
    /// The source could not be read completely.
    #[error("cannot read the source: {0}")]
    Source(#[source] StorageError),
    /// The target could not be read.
    #[error("cannot read the target: {0}")]
    Target(#[source] StorageError),
    /// A batch could not be written to the target.
    #[error("cannot write {first:?}{} to the target: {error}", up_to(last, first))]
    Write {
        /// The first full key of the batch.
        first: String,
        /// The last one.
        last: String,
        /// Why.
        #[source]
        error: StorageError,
    },
    /// A component does not fit in its quota.
    #[error(transparent)]
    Quota(#[from] OverQuota),
    /// The written keys could not be made durable.
    #[error("cannot make the target durable: {0}")]
    Flush(#[source] StorageError),
}

fn up_to(last: &str, first: &str) -> String {
    if last == first { String::new() } else { format!(" to {last:?}") }
}

/// A component does not fit in its quota.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OverQuota {
    /// The component's id.
    pub component: String,
    /// Its quota.
    pub quota: Budget,
    /// The usage of all of its keys that would be stored, if that is known.
    pub needed: Option<Usage>,
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { component, quota, needed } = self;
        write!(f, "component {component} does not fit in its quota of ")?;
        match (quota.max_bytes, quota.max_keys) {
            (u64::MAX, keys) => write!(f, "{keys} keys"),
            (bytes, u64::MAX) => write!(f, "{bytes} bytes"),
            (bytes, keys) => write!(f, "{bytes} bytes and {keys} keys"),
        }?;
        match needed {
            Some(needed) => write!(f, ": it needs {} bytes and {} keys", needed.bytes, needed.keys),
            None => Ok(()),
        }
    }
}

impl std::error::Error for OverQuota {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exceeded_quota_is_described_by_its_bounds() {
        let of = |max_bytes, max_keys, needed| {
            let quota = Budget { max_bytes, max_keys };
            OverQuota { component: "a/b/c".into(), quota, needed }.to_string()
        };
        let needed = Some(Usage { bytes: 40, keys: 3 });
        assert_eq!(
            of(30, 2, needed),
            "component a/b/c does not fit in its quota of 30 bytes and 2 keys: it needs 40 bytes \
             and 3 keys"
        );
        assert_eq!(of(30, u64::MAX, None), "component a/b/c does not fit in its quota of 30 bytes");
        assert_eq!(of(u64::MAX, 2, None), "component a/b/c does not fit in its quota of 2 keys");
    }
}
