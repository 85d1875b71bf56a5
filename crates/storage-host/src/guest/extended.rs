//! `airssys:storage/extended`: pages, several keys at once, and conditional writes.

use std::sync::Arc;

use storage_core::{
    Check, Commit, Expected, MAX_KEY_BYTES, PageRequest, Revision, StorageError, StorageValue,
    validate_key,
};
use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentType, Lift, Linker, Lower, Resource, ResourceType, WasmList, WasmStr,
};

use super::EXTENDED;
use super::airssys::GuestUsage;
use super::bucket::{Bucket, CannotOpen, dropped, opened, push};
use super::errors::{Call, GuestError};
use super::state::ComponentState;
use crate::host::{ComponentChain, ComponentUsage};
use crate::limits::Limits;

#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "conflict")]
    Conflict(String),
    #[component(name = "storage")]
    Storage(GuestError),
}

impl From<CannotOpen> for Error {
    fn from(why: CannotOpen) -> Self {
        match why {
            CannotOpen::NoSuchStore => Self::NoSuchStore,
            CannotOpen::AccessDenied => Self::AccessDenied,
        }
    }
}

#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
struct Page {
    keys: Vec<String>,
    more: bool,
}

#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
struct VersionedValue {
    value: Arc<[u8]>,
    revision: u64,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct GuestCheck {
    key: WasmStr,
    expected: GuestExpected,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum GuestExpected {
    #[component(name = "absent")]
    Absent,
    #[component(name = "present")]
    Present,
    #[component(name = "revision")]
    Revision(u64),
    #[component(name = "value")]
    Value(WasmList<u8>),
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum GuestWrite {
    #[component(name = "set")]
    Set((WasmStr, WasmList<u8>)),
    #[component(name = "delete")]
    Delete(WasmStr),
}

/// Adds the interface to a linker.
pub(super) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    let mut interface = linker.instance(EXTENDED)?;

    interface.resource("store", ResourceType::host::<Bucket>(), move |mut store, rep| {
        dropped::<T, Bucket>(&mut store, state, rep)
    })?;

    interface.func_wrap("[static]store.open", move |mut store, (name,): (WasmStr,)| {
        let chain = Arc::clone(state(store.data_mut()).storage());
        // Not copied, because it may be longer than any valid name.
        let opened = Bucket::open(&chain, &name.to_str(&store)?);
        let handle = opened.map_err(Error::from).and_then(|bucket| {
            let too_many = |error: StorageError| GuestError::IoError(error.to_string());
            let state = state(store.data_mut());
            push(state, bucket).map_err(|error| Error::Storage(too_many(error)))
        });
        Ok((handle,))
    })?;

    interface.func_wrap(
        "[method]store.get-versioned",
        move |mut store, (handle, key): (Resource<Bucket>, WasmStr)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let key = key.to_str(&store)?;
            let found = bucket.storage().get_versioned(&key).map(|found| {
                found.map(|found| VersionedValue {
                    value: found.value.into_shared(),
                    revision: found.revision.get(),
                })
            });
            Ok((to_guest(&chain, bucket.limits(), "get-versioned", Some(&key), found),))
        },
    )?;

    interface.func_wrap(
        "[method]store.list-page",
        move |mut store,
              (handle, prefix, after, limit): (
            Resource<Bucket>,
            WasmStr,
            Option<WasmStr>,
            u32,
        )| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let prefix = prefix.to_str(&store)?;
            if prefix.len() > MAX_KEY_BYTES {
                // Longer than any key. Returning here avoids decoding `after`.
                return Ok((Ok(Page { keys: Vec::new(), more: false }),));
            }
            let after = after.map(|after| after.to_str(&store)).transpose()?;
            let request =
                PageRequest { prefix: &prefix, after: after.as_deref(), limit: limit as usize };
            let page = bucket.storage().list_page(request);
            let page = page.map(|page| Page { keys: page.keys, more: page.more });
            Ok((to_guest(&chain, bucket.limits(), "list-page", Some(&prefix), page),))
        },
    )?;

    interface.func_wrap(
        "[method]store.get-many",
        move |mut store, (handle, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let call =
                Call { chain: &chain, limits: bucket.limits(), operation: "get-many", key: None };
            let keys = match super::batch::read_keys(&mut store, &call, &keys)? {
                Ok(keys) => keys,
                Err(error) => return Ok((Err(Error::Storage(error)),)),
            };
            let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
            let found = bucket.storage().get_many(&asked).map(|values| {
                let shared = |value: Option<StorageValue>| value.map(StorageValue::into_shared);
                values.into_iter().map(shared).collect::<Vec<_>>()
            });
            Ok((to_guest(
                &chain,
                bucket.limits(),
                "get-many",
                super::batch::first_bad_key(bucket.limits(), &asked),
                found,
            ),))
        },
    )?;

    let conditional = move |store: &mut StoreContextMut<'_, T>,
                            operation: &'static str,
                            expected: Expected,
                            (handle, key, value): (Resource<Bucket>, WasmStr, WasmList<u8>)|
          -> wasmtime::Result<Result<u64, Error>> {
        let (chain, bucket) = opened(store, state, &handle)?;
        let key = key.to_str(&*store)?;
        let checked = validate_key(&key).and(bucket.limits().check_value_len(value.len()));
        let written = checked.and_then(|()| {
            let check = Check { key: key.clone().into_owned(), expected };
            let commit = Commit { checks: vec![check], ..Commit::new() };
            let value = StorageValue::from(value.as_le_slice(&*store));
            bucket.storage().commit(commit.set(&*key, value))
        });
        Ok(to_guest(&chain, bucket.limits(), operation, Some(&key), written.map(Revision::get)))
    };
    interface.func_wrap("[method]store.create", move |mut store, arguments| {
        Ok((conditional(&mut store, "create", Expected::Absent, arguments)?,))
    })?;
    interface.func_wrap("[method]store.update", move |mut store, arguments| {
        Ok((conditional(&mut store, "update", Expected::Present, arguments)?,))
    })?;

    interface.func_wrap(
        "[method]store.commit",
        move |mut store,
              (handle, checks, writes): (
            Resource<Bucket>,
            WasmList<GuestCheck>,
            WasmList<GuestWrite>,
        )| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let commit = match read_commit(&mut store, bucket.limits(), &checks, &writes)? {
                Ok(commit) => commit,
                Err(error) => {
                    return Ok((to_guest(&chain, bucket.limits(), "commit", None, Err(error)),));
                }
            };
            let keys: Vec<String> = commit.keys().map(str::to_owned).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let written = bucket.storage().commit(commit).map(Revision::get);
            // The key that the error names.
            let key = match &written {
                Err(
                    StorageError::NotFound(key)
                    | StorageError::AlreadyExists(key)
                    | StorageError::Conflict(key),
                ) => keys.iter().find(|own| *own == key).copied(),
                _ => super::batch::first_bad_key(bucket.limits(), &keys),
            };
            Ok((to_guest(&chain, bucket.limits(), "commit", key, written),))
        },
    )?;

    interface.func_wrap("[method]store.usage", move |mut store, (handle,): (Resource<Bucket>,)| {
        let (chain, bucket) = opened(&mut store, state, &handle)?;
        let usage = match bucket.owner() {
            None => chain.component_usage(),
            // The quota of the owner is not exposed.
            Some(_) => bucket.storage().usage(None).map(|used| ComponentUsage {
                used_bytes: used.bytes,
                quota_bytes: u64::MAX,
                key_count: used.keys,
            }),
        };
        Ok((to_guest(&chain, bucket.limits(), "usage", None, usage.map(GuestUsage::from)),))
    })
}

fn to_guest<R>(
    chain: &ComponentChain,
    limits: &Limits,
    operation: &'static str,
    key: Option<&str>,
    result: Result<R, StorageError>,
) -> Result<R, Error> {
    result.map_err(|error| match error {
        StorageError::AccessDenied(_) => Error::AccessDenied,
        StorageError::Conflict(_) => Error::Conflict(key.unwrap_or_default().to_owned()),
        error => Error::Storage(Call { chain, limits, operation, key }.error(&error)),
    })
}

/// Copies a commit, if it is within the limits of a batch.
fn read_commit<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    limits: &Limits,
    checks: &WasmList<GuestCheck>,
    writes: &WasmList<GuestWrite>,
) -> wasmtime::Result<Result<Commit, StorageError>> {
    if let Err(error) = limits.check_batch_len(checks.len().saturating_add(writes.len())) {
        return Ok(Err(error));
    }
    let checks = checks.iter(&mut *store)?.collect::<wasmtime::Result<Vec<_>>>()?;
    let writes = writes.iter(&mut *store)?.collect::<wasmtime::Result<Vec<_>>>()?;
    // Check everything before anything is copied.
    let mut bytes = 0_usize;
    let checked = checks.iter().map(|check| match &check.expected {
        GuestExpected::Value(value) => (&check.key, value.len()),
        _ => (&check.key, 0),
    });
    let written = writes.iter().map(|write| match write {
        GuestWrite::Set((key, value)) => (key, value.len()),
        GuestWrite::Delete(key) => (key, 0),
    });
    for (key, value_len) in checked.chain(written) {
        bytes = bytes.saturating_add(key.to_str(&*store)?.len()).saturating_add(value_len);
        let within =
            limits.check_value_len(value_len).and_then(|()| limits.check_batch_bytes(bytes));
        if let Err(error) = within {
            return Ok(Err(error));
        }
    }
    let mut commit = Commit::new();
    for check in &checks {
        let expected = match &check.expected {
            GuestExpected::Absent => Expected::Absent,
            GuestExpected::Present => Expected::Present,
            GuestExpected::Revision(revision) => Expected::Revision(Revision::new(*revision)),
            GuestExpected::Value(value) => Expected::Value(value.as_le_slice(&*store).into()),
        };
        let key = check.key.to_str(&*store)?.into_owned();
        commit.checks.push(Check { key, expected });
    }
    for write in &writes {
        commit = match write {
            GuestWrite::Set((key, value)) => {
                commit.set(key.to_str(&*store)?, value.as_le_slice(&*store).into())
            }
            GuestWrite::Delete(key) => commit.delete(key.to_str(&*store)?),
        };
    }
    Ok(Ok(commit))
}
