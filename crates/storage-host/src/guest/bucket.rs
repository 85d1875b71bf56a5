//! The resource behind handles: the component's own storage, or a grant for another's.

use std::sync::Arc;

use storage_core::{ComponentId, ComponentStorage, StorageError, StorageValue};
use wasmtime::component::Resource;

use super::errors::{Call, CallError};
use super::state::ComponentState;
use crate::component_chain::ComponentChain;
use crate::grants::GrantedKeys;
use crate::limits::{LimitedStorage, Limits};
use crate::observed::Observed;
use crate::operation::Operation;

/// Why a bucket cannot be opened. Does not reveal whether an ungranted component exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CannotOpen {
    NoSuchStore,
    AccessDenied,
}

/// The storage that a handle gives access to.
#[derive(Debug, Clone)]
pub(super) enum Bucket {
    /// The caller's own storage.
    Own(Arc<ComponentChain>),
    /// Another component's, within the limits of caller and owner.
    Granted(Arc<Observed<LimitedStorage<GrantedKeys>>>),
}

impl Bucket {
    /// Opens the bucket that a guest names; `own` is the guest's storage.
    pub(super) fn open(own: &Arc<ComponentChain>, identifier: &str) -> Result<Self, CannotOpen> {
        if matches!(identifier, "" | "default") {
            return Ok(Self::Own(Arc::clone(own)));
        }
        let Ok(owner) = identifier.parse::<ComponentId>() else {
            return Err(CannotOpen::NoSuchStore);
        };
        if owner == *own.id() {
            return Ok(Self::Own(Arc::clone(own)));
        }
        let granted = own.host().granted(own.id(), &owner).ok_or(CannotOpen::AccessDenied)?;
        Ok(Self::Granted(Arc::new(granted.for_guest())))
    }

    pub(super) fn storage(&self) -> &dyn ComponentStorage {
        match self {
            Self::Own(chain) => &**chain,
            Self::Granted(granted) => &**granted,
        }
    }

    /// Whether a key exists, if that is known in memory.
    pub(super) fn known_exists(&self, key: &str) -> Option<bool> {
        let known = match self {
            Self::Own(chain) => chain.observed().known(Operation::Exists, "", key),
            Self::Granted(granted) => granted.known(Operation::Exists, "", key),
        };
        known.map(|value| value.is_some())
    }

    /// Reads keys as [`Observed::known_many`].
    pub(super) fn known_many(
        &self,
        keys: &[String],
        values: &mut Vec<Option<StorageValue>>,
        fits: impl FnMut(usize) -> bool,
    ) -> bool {
        match self {
            Self::Own(chain) => chain.observed().known_many(keys, values, fits),
            Self::Granted(granted) => granted.known_many(keys, values, fits),
        }
    }

    /// The limits of calls through this bucket.
    pub(super) fn limits(&self) -> Limits {
        match self {
            Self::Own(chain) => chain.limits(),
            Self::Granted(granted) => granted.inner().limits(),
        }
    }

    /// The owner of the keys, if it is another component.
    pub(super) fn owner(&self) -> Option<&ComponentId> {
        match self {
            Self::Own(_) => None,
            Self::Granted(granted) => Some(granted.inner().inner().owner()),
        }
    }

    /// The error text for an exceeded quota.
    pub(super) fn quota_text(&self, own: &ComponentChain) -> String {
        match (self, own.quota()) {
            (Self::Own(_), Some(quota)) => {
                let limited = |max: u64, what| (max != u64::MAX).then(|| format!("{max} {what}"));
                let limits = [limited(quota.max_bytes, "bytes"), limited(quota.max_keys, "keys")];
                let limits: Vec<String> = limits.into_iter().flatten().collect();
                format!("over the quota of {}: delete some first", limits.join(" and "))
            }
            // What another may keep is not the caller's to know.
            _ => "over the quota of the store's owner".to_owned(),
        }
    }
}

/// Adds a resource to a guest's table of handles.
///
/// # Errors
/// If the limit on handles is reached.
pub(super) fn push<R: Send + 'static, E: CallError>(
    state: &mut ComponentState,
    operation: &'static str,
    what: R,
) -> Result<Resource<R>, E> {
    // The limit may have changed.
    let max = state.storage().limits().handles;
    state.handles_mut().set_max_capacity(max);
    // It fails for no other reason.
    state.handles_mut().push(what).map_err(|_| {
        let max = max as u64;
        let actual = max.saturating_add(1);
        let error = StorageError::LimitExceeded { limit: "handles", max, actual };
        let call = Call {
            own: state.storage(),
            bucket: state.own_bucket(),
            operation,
            #[cfg(feature = "p3")]
            copied: 0,
        };
        E::from_storage(&call, None, &error)
    })
}

#[cfg(test)]
mod tests {
    use storage_core::Budget;
    use storage_core::conformance::ReferenceStorage;

    use super::*;
    use crate::guest::errors::GuestError;
    use crate::{Limits, StorageHost};

    #[test]
    fn handles_are_limited() {
        let limits = Limits { handles: 2, ..Limits::default() };
        let host = StorageHost::builder(Arc::new(ReferenceStorage::new())).limits(limits).build();
        let mut state = ComponentState::new(host.component(&"a/b/1".parse().unwrap()));
        let mut open = || {
            let bucket = Bucket::open(state.storage(), "").unwrap();
            push::<_, GuestError>(&mut state, "open", bucket)
        };
        let first = open().unwrap();
        open().unwrap();
        let refused = "3 handles are over the limit of 2".to_owned();
        assert_eq!(open().unwrap_err(), GuestError::IoError(refused));
        state.handles_mut().delete(first).unwrap();
        let bucket = Bucket::open(state.storage(), "default").unwrap();
        assert!(push::<_, GuestError>(&mut state, "open", bucket).is_ok());
    }

    #[test]
    fn the_text_of_a_quota_names_only_its_bounds() {
        let text_of = |max_bytes, max_keys| {
            let quota = Budget { max_bytes, max_keys };
            let builder = StorageHost::builder(Arc::new(ReferenceStorage::new())).quota(quota);
            let own = builder.build().component(&"a/b/1".parse().unwrap());
            Bucket::open(&own, "").unwrap().quota_text(&own)
        };
        let over = |quota| format!("over the quota of {quota}: delete some first");
        assert_eq!(text_of(10, 2), over("10 bytes and 2 keys"));
        assert_eq!(text_of(10, u64::MAX), over("10 bytes"));
        assert_eq!(text_of(u64::MAX, 2), over("2 keys"));
    }

    #[test]
    fn ungranted_components_are_denied_whether_or_not_they_exist() {
        let host = StorageHost::new(Arc::new(ReferenceStorage::new()));
        let state = ComponentState::new(host.component(&"a/b/1".parse().unwrap()));
        host.component(&"a/b/2".parse().unwrap()).set("key", "value".into()).unwrap();
        for other in ["a/b/2", "a/b/3"] {
            assert_eq!(Bucket::open(state.storage(), other).unwrap_err(), CannotOpen::AccessDenied);
        }
        for name in ["a", "a/b", "a/b/c/d", "a//c", "Default", " ", "a/b/2/"] {
            assert_eq!(
                Bucket::open(state.storage(), name).unwrap_err(),
                CannotOpen::NoSuchStore,
                "{name}"
            );
        }
        assert!(Bucket::open(state.storage(), "a/b/1").is_ok());
    }
}
