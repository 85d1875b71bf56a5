//! What a component stores and may store, here or in a running host.

use storage_host::ComponentChain;

use super::failure::Failure;

/// The usage of a component, and its quota; `None` where it is unlimited.
#[derive(Debug, Clone, Copy)]
pub(super) struct QuotaUsage {
    pub(super) key_count: u64,
    pub(super) used_bytes: u64,
    pub(super) quota_bytes: Option<u64>,
    pub(super) quota_keys: Option<u64>,
}

impl QuotaUsage {
    pub(super) fn of(chain: &ComponentChain) -> Result<Self, Failure> {
        let usage = chain.host().usage(chain.id())?;
        let bound = |bound: u64| Some(bound).filter(|bound| *bound != u64::MAX);
        Ok(Self {
            key_count: usage.key_count,
            used_bytes: usage.used_bytes,
            quota_bytes: chain.quota().and_then(|quota| bound(quota.max_bytes)),
            quota_keys: chain.quota().and_then(|quota| bound(quota.max_keys)),
        })
    }
}

#[cfg(unix)]
impl From<storage_host::admin::QuotaAndUsage> for QuotaUsage {
    fn from(usage: storage_host::admin::QuotaAndUsage) -> Self {
        Self {
            key_count: usage.key_count,
            used_bytes: usage.used_bytes,
            quota_bytes: usage.quota_bytes,
            quota_keys: usage.quota_keys,
        }
    }
}
