//! The resource behind every handle on a store: a component's own, or as much of
//! another's as it was granted.

use std::sync::Arc;

use storage_core::{ComponentId, ComponentStorage, StorageError};
use wasmtime::StoreContextMut;
use wasmtime::component::Resource;

use super::state::ComponentState;
use crate::grants::GrantedStorage;
use crate::host::ComponentChain;
use crate::limits::LimitedStorage;

/// Why there is no handle. Whether what is not granted exists is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CannotOpen {
    NoSuchStore,
    AccessDenied,
}

/// A handle on some keys.
#[derive(Debug, Clone)]
pub(super) enum Bucket {
    /// The caller's own.
    Own(Arc<ComponentChain>),
    /// Another's, within the limits of the caller.
    Granted(Arc<LimitedStorage<GrantedStorage>>),
}

impl Bucket {
    /// Opens what a guest names.
    pub(super) fn open(state: &ComponentState, identifier: &str) -> Result<Self, CannotOpen> {
        let own = state.storage();
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
        Ok(Self::Granted(Arc::new(LimitedStorage::new(granted, *own.limits()))))
    }

    /// The bucket of a handle.
    ///
    /// # Errors
    /// If there is none, which wasmtime sees to.
    pub(super) fn of(state: &ComponentState, handle: &Resource<Self>) -> wasmtime::Result<Self> {
        Ok(state.handles().get(handle)?.clone())
    }

    pub(super) fn storage(&self) -> &dyn ComponentStorage {
        match self {
            Self::Own(chain) => &**chain,
            Self::Granted(granted) => &**granted,
        }
    }

    /// Whose keys they are, where they are another's.
    pub(super) fn owner(&self) -> Option<&ComponentId> {
        match self {
            Self::Own(_) => None,
            Self::Granted(granted) => Some(granted.inner().owner()),
        }
    }

    /// Why there is no room.
    pub(super) fn quota_text(&self, own: &ComponentChain) -> String {
        match (self, own.quota()) {
            (Self::Own(_), Some(quota)) => format!(
                "over the quota of {} bytes and {} keys: delete some first",
                quota.max_bytes, quota.max_keys
            ),
            // What another may keep is not the caller's to know.
            _ => "over the quota of the store's owner".to_owned(),
        }
    }
}

/// Puts something into a guest's table of handles.
///
/// # Errors
/// [`StorageError::LimitExceeded`].
pub(super) fn push<R: Send + 'static>(
    state: &mut ComponentState,
    what: R,
) -> Result<Resource<R>, StorageError> {
    let max = state.storage().limits().handles as u64;
    // It refuses for no other reason.
    state.handles_mut().push(what).map_err(|_| StorageError::LimitExceeded {
        limit: "handles",
        max,
        actual: max.saturating_add(1),
    })
}

/// Takes a handle that the guest has dropped out of its table.
///
/// # Errors
/// If it is not there, which wasmtime sees to.
pub(super) fn dropped<T: 'static, R: Send + 'static>(
    store: &mut StoreContextMut<'_, T>,
    state: fn(&mut T) -> &mut ComponentState,
    rep: u32,
) -> wasmtime::Result<()> {
    state(store.data_mut()).handles_mut().delete(Resource::<R>::new_own(rep))?;
    Ok(())
}

/// The caller's own chain, and the bucket of a handle.
///
/// # Errors
/// As [`Bucket::of`].
pub(super) fn opened<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    state: fn(&mut T) -> &mut ComponentState,
    handle: &Resource<Bucket>,
) -> wasmtime::Result<(Arc<ComponentChain>, Bucket)> {
    let state = state(store.data_mut());
    Ok((Arc::clone(state.storage()), Bucket::of(state, handle)?))
}
