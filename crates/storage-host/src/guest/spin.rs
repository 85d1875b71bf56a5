//! `fermyon:spin/key-value`: the stores of Spin, on the same data as the other interfaces.

use storage_core::StorageError;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, WasmStr};

use super::SPIN;
use super::bucket::{Bucket, CannotOpen};
use super::call::{Cost, Functions, Linkage, StateOf};
use super::errors::{Call, CallError, GuestError};
use super::keyvalue;

/// `error` of the interface, in all of its versions.
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

impl From<keyvalue::Error> for Error {
    fn from(error: keyvalue::Error) -> Self {
        match error {
            keyvalue::Error::NoSuchStore => Self::NoSuchStore,
            keyvalue::Error::AccessDenied => Self::AccessDenied,
            keyvalue::Error::Other(text) => Self::Other(text),
        }
    }
}

impl From<CannotOpen> for Error {
    fn from(why: CannotOpen) -> Self {
        keyvalue::Error::from(why).into()
    }
}

impl CallError for Error {
    fn from_guest(call: &Call<'_>, error: GuestError) -> Self {
        keyvalue::Error::from_guest(call, error).into()
    }

    fn from_storage(call: &Call<'_>, key: Option<&str>, error: &StorageError) -> Self {
        match error {
            StorageError::LimitExceeded { limit: "handles", .. } => Self::StoreTableFull,
            error => keyvalue::Error::from_storage(call, key, error).into(),
        }
    }
}

/// Adds the interface to a linker.
pub(super) fn add_to_linker<T: 'static, L: Linkage<T>>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    let mut store = Functions::<T, L, Error>::new(linker, SPIN, state)?;

    store.add_resource::<Bucket>("store")?;

    store.add_immediate("[static]store.open", |caller, (label,): (WasmStr,)| {
        Ok((caller.open(&label)?,))
    })?;

    store.add_verbs("store")?;

    store.add("[method]store.get-keys", |caller, (handle,): (Resource<Bucket>,)| {
        caller.ask((&handle).into(), "get-keys", Cost::Long, |call| {
            call.convert(None, call.storage().list_keys(None))
        })
    })
}
