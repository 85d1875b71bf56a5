//! The interface `batch`. Writes of several keys are one commit.

use std::sync::Arc;

use storage_core::{Commit, StorageError, StorageValue};
use wasmtime::StoreContextMut;
use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{Component, Linker, Resource, WasmList, WasmStr};

use super::error::Error;
use crate::guest::batch::{Found, first_bad_key};
use crate::guest::bucket::Bucket;
use crate::guest::call::{Caller, Cost, Functions, Linkage, Outcome, StateOf, Target};
use crate::guest::errors::CallError;
use crate::limits::Limits;

/// The result type of `get-many`, of which the second draft has two under one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `option<tuple<string, list<u8>>>`, as in the specification.
    Upstream,
    /// `tuple<string, option<list<u8>>>`, as in Spin.
    Spin,
}

impl Shape {
    /// The type that a component imports under this name.
    pub(super) fn imported_by(component: &Component, name: &str) -> Self {
        let engine = component.engine();
        let imports = component.component_type();
        let get_many =
            imports.imports(engine).find(|(import, _)| *import == name).and_then(|(_, import)| {
                match import.ty {
                    ComponentItem::ComponentInstance(instance) => instance
                        .exports(engine)
                        .find(|(export, _)| *export == "get-many")
                        .map(|(_, e)| e.ty),
                    _ => None,
                }
            });
        let Some(ComponentItem::ComponentFunc(get_many)) = get_many else { return Self::Upstream };
        let found = match get_many.results().next() {
            Some(Type::Result(result)) => match result.ok() {
                Some(Type::List(list)) => Some(list.ty()),
                _ => None,
            },
            _ => None,
        };
        match found {
            Some(Type::Tuple(_)) => Self::Spin,
            // Linking reports a mismatch.
            _ => Self::Upstream,
        }
    }
}

/// Adds the interface under this name.
pub(super) fn add<T: 'static, L: Linkage<T>>(
    linker: &mut Linker<T>,
    name: &str,
    shape: Shape,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    let mut batch = Functions::<T, L, Error>::new(linker, name, state)?;

    match shape {
        Shape::Upstream => batch.add(
            "get-many",
            |caller, (handle, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
                caller.get_many::<Vec<Option<(String, Arc<[u8]>)>>>(
                    (&handle).into(),
                    &keys,
                    present,
                )
            },
        )?,
        Shape::Spin => batch.add(
            "get-many",
            |caller, (handle, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
                caller.get_many((&handle).into(), &keys, |found: Found| found)
            },
        )?,
    }

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

pub(in crate::guest) fn set_many<T: 'static, L: Linkage<T>, E: CallError>(
    caller: &mut Caller<'_, T, L, E>,
    target: Target<'_>,
    pairs: &WasmList<(WasmStr, WasmList<u8>)>,
) -> Outcome<(), E> {
    let limits = caller.limits(target)?;
    match read_pairs(caller.store(), &limits, pairs)? {
        Ok((commit, bytes)) => {
            caller.count(bytes);
            write(caller, target, "set-many", commit)
        }
        Err(error) => caller.over_limit(target, "set-many", error),
    }
}

pub(in crate::guest) fn delete_many<T: 'static, L: Linkage<T>, E: CallError>(
    caller: &mut Caller<'_, T, L, E>,
    target: Target<'_>,
    keys: &WasmList<WasmStr>,
) -> Outcome<(), E> {
    match caller.keys(target, keys)? {
        Ok(keys) => {
            let commit = keys.into_iter().fold(Commit::new(), Commit::delete);
            write(caller, target, "delete-many", commit)
        }
        Err(error) => caller.over_limit(target, "delete-many", error),
    }
}

/// Only keys that exist have a pair.
pub(in crate::guest) fn present(found: Found) -> Vec<Option<(String, Arc<[u8]>)>> {
    found.into_iter().map(|(key, value)| Some((key, value?))).collect()
}

fn write<T: 'static, L: Linkage<T>, E: CallError>(
    caller: &mut Caller<'_, T, L, E>,
    target: Target<'_>,
    operation: &'static str,
    commit: Commit,
) -> Outcome<(), E> {
    caller.ask(target, operation, Cost::Long, |call| {
        if commit.writes.is_empty() {
            return Ok(());
        }
        let keys: Vec<String> = commit.writes.iter().map(|write| write.key.clone()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let written = call.storage().commit(commit);
        call.convert(first_bad_key(&call.limits(), &keys), written.map(drop))
    })
}

/// Copies keys and values into a commit, if they are within the limits. Also returns how
/// many bytes they have.
fn read_pairs<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    limits: &Limits,
    list: &WasmList<(WasmStr, WasmList<u8>)>,
) -> wasmtime::Result<Result<(Commit, usize), StorageError>> {
    if let Err(error) = limits.check_batch_len(list.len()) {
        return Ok(Err(error));
    }
    let pairs = list.iter(&mut *store)?.collect::<wasmtime::Result<Vec<_>>>()?;
    // Check everything before anything is copied.
    let mut bytes = 0_usize;
    for (key, value) in &pairs {
        bytes = bytes.saturating_add(key.to_str(&*store)?.len()).saturating_add(value.len());
        let checked =
            limits.check_value_len(value.len()).and_then(|()| limits.check_batch_bytes(bytes));
        if let Err(error) = checked {
            return Ok(Err(error));
        }
    }
    let mut commit = Commit::new();
    for (key, value) in &pairs {
        let value = StorageValue::from(value.as_le_slice(&*store));
        commit = commit.set(key.to_str(&*store)?, value);
    }
    Ok(Ok((commit, bytes)))
}
