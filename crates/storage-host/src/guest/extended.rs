//! `airssys:storage/extended`: pages, several keys at once, and conditional writes.

use std::sync::Arc;

use storage_core::{Check, Commit, Expected, PageRequest, Revision, StorageError, validate_key};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, WasmList, WasmStr};

use super::EXTENDED;
use super::airssys::GuestUsage;
use super::batch::{Found, first_bad_key};
use super::bucket::{Bucket, CannotOpen};
use super::call::{Caller, Cost, Functions, Linkage, Outcome, StateOf, Target};
use super::errors::{Call, CallError, GuestError};
use crate::component_chain::ComponentUsage;
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

impl CallError for Error {
    fn from_guest(_: &Call<'_>, error: GuestError) -> Self {
        Self::Storage(error)
    }

    fn from_storage(call: &Call<'_>, key: Option<&str>, error: &StorageError) -> Self {
        match error {
            StorageError::AccessDenied(_) => Self::AccessDenied,
            StorageError::Conflict(_) => Self::Conflict(key.unwrap_or_default().to_owned()),
            error => Self::Storage(call.error(key, error)),
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
pub(super) fn add_to_linker<T: 'static, L: Linkage<T>>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    let mut store = Functions::<T, L, Error>::new(linker, EXTENDED, state)?;

    store.add_resource::<Bucket>("store")?;

    store.add_immediate("[static]store.open", |caller, (name,): (WasmStr,)| {
        Ok((caller.open(&name)?,))
    })?;

    store.add(
        "[method]store.get-versioned",
        |caller, (handle, key): (Resource<Bucket>, WasmStr)| {
            let key = caller.key(&key)?;
            caller.ask((&handle).into(), "get-versioned", Cost::Brief, move |call| {
                let found =
                    call.convert_key::<_, Error>(&key, call.storage().get_versioned(key.as_str()))?;
                Ok(found.map(|found| VersionedValue {
                    value: found.value.into_shared(),
                    revision: found.revision.get(),
                }))
            })
        },
    )?;

    store.add("[method]store.list-page", list_page)?;

    store.add(
        "[method]store.get-many",
        |caller, (handle, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
            let values = |found: Found| found.into_iter().map(|(_, value)| value).collect();
            caller.get_many::<Vec<Option<Arc<[u8]>>>>((&handle).into(), &keys, values)
        },
    )?;

    store.add("[method]store.create", |caller, arguments| {
        conditional(caller, "create", Expected::Absent, arguments)
    })?;
    store.add("[method]store.update", |caller, arguments| {
        conditional(caller, "update", Expected::Present, arguments)
    })?;

    store.add(
        "[method]store.commit",
        |caller,
         (handle, checks, writes): (
            Resource<Bucket>,
            WasmList<GuestCheck>,
            WasmList<GuestWrite>,
        )| {
            let target = Target::Handle(&handle);
            let limits = caller.limits(target)?;
            match read_commit(caller.store(), &limits, &checks, &writes)? {
                Ok(read) => caller.ask(target, "commit", Cost::Long, |call| commit(call, read)),
                Err(error) => caller.over_limit(target, "commit", error),
            }
        },
    )?;

    store.add("[method]store.usage", |caller, (handle,): (Resource<Bucket>,)| {
        caller.ask((&handle).into(), "usage", Cost::Long, |call| {
            let usage = match call.bucket.owner() {
                None => call.own.component_usage(),
                // The quota of the owner is not exposed.
                Some(_) => call.storage().usage(None).map(|used| ComponentUsage {
                    used_bytes: used.bytes,
                    quota_bytes: u64::MAX,
                    key_count: used.keys,
                }),
            };
            call.convert(None, usage.map(GuestUsage::from))
        })
    })
}

fn list_page<T: 'static, L: Linkage<T>>(
    caller: &mut Caller<'_, T, L, Error>,
    (handle, prefix, after, limit): (Resource<Bucket>, WasmStr, Option<WasmStr>, u32),
) -> Outcome<Page, Error> {
    let prefix = caller.key(&prefix)?;
    // If the prefix is longer than any key, `after` need not be decoded.
    let after = after.filter(|_| prefix.broken_rule().is_none());
    let after = after.map(|after| caller.cursor(&after)).transpose()?;
    caller.ask((&handle).into(), "list-page", Cost::Long, move |call| {
        let (prefix, after) = (prefix.as_str(), after.as_deref());
        let request = PageRequest { prefix, after, limit: limit as usize };
        let page = call.convert::<_, Error>(Some(prefix), call.storage().list_page(request))?;
        Ok(Page { keys: page.keys, more: page.more })
    })
}

/// `create` and `update`.
fn conditional<T: 'static, L: Linkage<T>>(
    caller: &mut Caller<'_, T, L, Error>,
    operation: &'static str,
    expected: Expected,
    (handle, key, value): (Resource<Bucket>, WasmStr, WasmList<u8>),
) -> Outcome<u64, Error> {
    let (key, value) = (caller.key(&key)?, caller.value(&value));
    caller.ask((&handle).into(), operation, Cost::Long, move |call| {
        let text = key.as_str();
        let value = validate_key(text).and_then(|()| value.copied(call));
        let written = value.and_then(|value| {
            let check = Check { key: text.to_owned(), expected };
            let commit = Commit { checks: vec![check], ..Commit::new() };
            call.storage().commit(commit.set(text, value))
        });
        call.convert_key(&key, written.map(Revision::get))
    })
}

fn commit(call: &Call<'_>, commit: Commit) -> Result<u64, Error> {
    let keys: Vec<String> = commit.keys().map(str::to_owned).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let written = call.storage().commit(commit).map(Revision::get);
    // The key that the error names.
    let key = match &written {
        Err(
            StorageError::NotFound(key)
            | StorageError::AlreadyExists(key)
            | StorageError::Conflict(key),
        ) => keys.iter().find(|own| *own == key).copied(),
        _ => first_bad_key(&call.limits(), &keys),
    };
    call.convert(key, written)
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
