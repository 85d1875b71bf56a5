//! `spin:key-value@3.0.0`.

use storage_core::StorageError;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, WasmList, WasmStr};

use super::linkage::Overlapping;
use super::listing;
use crate::guest::bucket::{Bucket, CannotOpen};
use crate::guest::call::{Functions, StateOf};
use crate::guest::errors::{Call, CallError, GuestError};

pub(super) const NAME: &str = "spin:key-value/key-value@3.0.0";

/// `error` of the interface.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum Error {
    #[component(name = "store-table-full")]
    StoreTableFull,
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<CannotOpen> for Error {
    fn from(why: CannotOpen) -> Self {
        match why {
            CannotOpen::NoSuchStore => Self::NoSuchStore,
            CannotOpen::AccessDenied => Self::AccessDenied,
        }
    }
}

impl CallError for Error {
    fn from_guest(call: &Call<'_>, error: GuestError) -> Self {
        Self::Other(match error {
            GuestError::NotFound(_) => "the key does not exist".to_owned(),
            GuestError::AlreadyExists(_) => "the key exists already".to_owned(),
            GuestError::QuotaExceeded => call.bucket.quota_text(call.own),
            GuestError::InvalidKey(text) | GuestError::IoError(text) => text,
        })
    }

    fn from_storage(call: &Call<'_>, key: Option<&str>, error: &StorageError) -> Self {
        match error {
            StorageError::AccessDenied(_) => Self::AccessDenied,
            StorageError::LimitExceeded { limit: "handles", .. } => Self::StoreTableFull,
            error => Self::from_guest(call, call.error(key, error)),
        }
    }
}

/// Adds the interface to a linker.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    let mut store = Functions::<T, Overlapping, Error>::new(linker, NAME, state)?;

    store.add_resource::<Bucket>("store")?;

    store.add_ready("[static]store.open", |caller, (label,): (WasmStr,)| caller.open(&label))?;

    store.add("[method]store.get", |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
        caller.get((&handle).into(), &key)
    })?;

    store.add(
        "[method]store.set",
        |caller, (handle, key, value): (Resource<Bucket>, WasmStr, WasmList<u8>)| {
            caller.set((&handle).into(), &key, &value)
        },
    )?;

    store.add("[method]store.delete", |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
        caller.delete((&handle).into(), &key)
    })?;

    store.add("[method]store.exists", |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
        caller.exists((&handle).into(), &key)
    })?;

    store.add_ready("[method]store.get-keys", |caller, (handle,): (Resource<Bucket>,)| {
        listing::start(caller, &handle)
    })
}
