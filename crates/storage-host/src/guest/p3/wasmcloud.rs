//! `wasmcloud:keyvalue@0.2.0`: `types`, `store`, `atomics` and `batch`.

use std::sync::Arc;

use storage_core::{Commit, StorageError};
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, WasmList, WasmStr};

use super::cas;
use super::linkage::Overlapping;
use crate::cursors::{self, CannotList, Page};
use crate::guest::bucket::{Bucket, CannotOpen};
use crate::guest::call::{Caller, Cost, Functions, Outcome, StateOf, Target};
use crate::guest::errors::{Call, CallError, GuestError};
use crate::guest::keyvalue::{delete_many, increment, present, set_many};
use crate::offload::Refused;

/// The most keys of a page.
pub(super) const KEYS_PER_PAGE: usize = 1_000;

/// `error` of the interface `types`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(super) enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "invalid-argument")]
    InvalidArgument,
    #[component(name = "precondition-failed")]
    PreconditionFailed,
    #[component(name = "timeout")]
    #[expect(dead_code, reason = "calls of this host have no time limit")]
    Timeout,
    #[component(name = "store-unavailable")]
    StoreUnavailable,
    #[component(name = "quota-exceeded")]
    QuotaExceeded,
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
    fn from_guest(_: &Call<'_>, error: GuestError) -> Self {
        match error {
            GuestError::AlreadyExists(_) => Self::PreconditionFailed,
            GuestError::InvalidKey(_) => Self::InvalidArgument,
            GuestError::QuotaExceeded => Self::QuotaExceeded,
            GuestError::NotFound(_) => Self::Other("the key does not exist".to_owned()),
            GuestError::IoError(text) => Self::Other(text),
        }
    }

    fn from_refused(call: &Call<'_>, refused: Refused) -> Self {
        match refused {
            Refused::Overloaded(_) => Self::StoreUnavailable,
            refused => Self::from_guest(call, refused.into()),
        }
    }

    fn from_storage(call: &Call<'_>, key: Option<&str>, error: &StorageError) -> Self {
        let told = call.error(key, error);
        match error {
            StorageError::AccessDenied(_) => Self::AccessDenied,
            StorageError::Unavailable { .. } => Self::StoreUnavailable,
            _ => Self::from_guest(call, told),
        }
    }
}

/// `key-response` of the interface `types`.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<String>,
}

/// `set-options` of the interface `types`.
#[derive(Debug, Clone, ComponentType, Lift)]
#[component(record)]
struct SetOptions {
    #[component(name = "ttl-ms")]
    ttl_ms: Option<u64>,
    #[component(name = "if-not-exists")]
    if_not_exists: bool,
}

/// Whether an import is one of these interfaces.
pub(super) fn has(import: &str) -> bool {
    let rest = import.strip_prefix("wasmcloud:keyvalue/");
    let Some((name, "0.2.0")) = rest.and_then(|rest| rest.split_once('@')) else { return false };
    ["types", "store", "atomics", "cas", "batch"].contains(&name)
}

fn interface(name: &str) -> String {
    format!("wasmcloud:keyvalue/{name}@0.2.0")
}

/// Adds the interfaces to a linker.
pub(super) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    add_types(linker, state)?;

    let mut store = Functions::<T, Overlapping, Error>::new(linker, &interface("store"), state)?;
    store.add_ready("open", |caller, (identifier,): (WasmStr,)| caller.open(&identifier))?;

    let mut atomics =
        Functions::<T, Overlapping, Error>::new(linker, &interface("atomics"), state)?;
    atomics.add(
        "increment",
        |caller, (handle, key, delta): (Resource<Bucket>, WasmStr, i64)| {
            let key = caller.key(&key)?;
            caller.ask((&handle).into(), "increment", Cost::Long, move |call| {
                increment(call, &key, delta)
            })
        },
    )?;

    cas::add_to_linker(linker, &interface("cas"), state)?;
    add_batch(linker, state)
}

fn add_types<T: Send + 'static>(linker: &mut Linker<T>, state: StateOf<T>) -> wasmtime::Result<()> {
    let mut types = Functions::<T, Overlapping, Error>::new(linker, &interface("types"), state)?;

    types.add_resource::<Bucket>("bucket")?;

    types.add("[method]bucket.get", |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
        caller.get((&handle).into(), &key)
    })?;

    types.add("[method]bucket.set", set)?;

    types.add("[method]bucket.delete", |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
        caller.delete((&handle).into(), &key)
    })?;

    types.add("[method]bucket.exists", |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
        caller.exists((&handle).into(), &key)
    })?;

    types.add(
        "[method]bucket.list-keys",
        |caller, (handle, prefix, cursor): (Resource<Bucket>, Option<WasmStr>, Option<WasmStr>)| {
            let prefix = prefix.map(|prefix| caller.key(&prefix)).transpose()?;
            // Only the start of a text that is longer than any key.
            let cursor = cursor.map(|cursor| caller.cursor(&cursor)).transpose()?;
            caller.ask((&handle).into(), "list-keys", Cost::Long, move |call| {
                list_keys(call, prefix.as_ref().map_or("", |prefix| prefix.as_str()), cursor)
            })
        },
    )
}

type SetArguments = (Resource<Bucket>, WasmStr, WasmList<u8>, Option<SetOptions>);

/// A write with a TTL is refused: without expiry the key would outlive it.
fn set<T: Send + 'static>(
    caller: &mut Caller<'_, T, Overlapping, Error>,
    (handle, key, value, options): SetArguments,
) -> Outcome<(), Error> {
    let target = Target::Handle(&handle);
    let options = options.unwrap_or(SetOptions { ttl_ms: None, if_not_exists: false });
    if options.ttl_ms.is_some() {
        let text = "ttl-ms is not supported: keys of this store do not expire".to_owned();
        return caller.refuse(target, "set", GuestError::IoError(text));
    }
    if !options.if_not_exists {
        return caller.set(target, &key, &value);
    }
    let (key, value) = (caller.key(&key)?, caller.value(&value));
    caller.ask(target, "set", Cost::Long, move |call| {
        let written = value.copied(call).and_then(|value| {
            let commit = Commit::new().require_absent(key.as_str());
            call.storage().commit(commit.set(key.as_str(), value))
        });
        call.convert_key(&key, written.map(drop))
    })
}

/// A page of keys, and the cursor of the next one if more follow.
fn list_keys(call: &Call<'_>, prefix: &str, cursor: Option<String>) -> Result<KeyResponse, Error> {
    let (cursors, owner) = (call.own.cursors(), call.bucket.owner());
    match cursors::list_keys(call.storage(), cursors, owner, prefix, cursor, KEYS_PER_PAGE) {
        Ok(Page { keys, cursor }) => Ok(KeyResponse { keys, cursor }),
        Err(CannotList::Cursor(_)) => Err(Error::InvalidArgument),
        Err(CannotList::Storage(error)) => Err(Error::from_storage(call, None, &error)),
    }
}

fn add_batch<T: Send + 'static>(linker: &mut Linker<T>, state: StateOf<T>) -> wasmtime::Result<()> {
    let mut batch = Functions::<T, Overlapping, Error>::new(linker, &interface("batch"), state)?;

    batch.add("get-many", |caller, (handle, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
        caller.get_many::<Vec<Option<(String, Arc<[u8]>)>>>((&handle).into(), &keys, present)
    })?;

    batch.add(
        "set-many",
        |caller, (handle, pairs): (Resource<Bucket>, WasmList<(WasmStr, WasmList<u8>)>)| {
            set_many(caller, (&handle).into(), &pairs)
        },
    )?;

    batch.add("delete-many", |caller, (handle, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
        delete_many(caller, (&handle).into(), &keys)
    })
}
