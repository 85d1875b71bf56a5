//! The interface `batch`. Writes of several keys are one commit.

use std::sync::Arc;

use storage_core::{Commit, StorageError, StorageValue};
use wasmtime::StoreContextMut;
use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{Component, Linker, Resource, WasmList, WasmStr};

use super::error::{Calling, Error};
use crate::guest::batch::{first_bad_key, read_keys};
use crate::guest::bucket::{Bucket, opened};
use crate::guest::state::ComponentState;
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
pub(super) fn add<T: 'static>(
    linker: &mut Linker<T>,
    name: &str,
    shape: Shape,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    let mut interface = linker.instance(name)?;

    match shape {
        Shape::Upstream => interface.func_wrap(
            "get-many",
            move |mut store, (handle, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
                let found = read(&mut store, state, &handle, &keys)?;
                let present = |(key, value): (String, Option<Arc<[u8]>>)| Some((key, value?));
                Ok((found.map(|found| found.into_iter().map(present).collect::<Vec<_>>()),))
            },
        )?,
        Shape::Spin => interface.func_wrap(
            "get-many",
            move |mut store, (handle, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
                Ok((read(&mut store, state, &handle, &keys)?,))
            },
        )?,
    }

    interface.func_wrap(
        "set-many",
        move |mut store, (handle, pairs): (Resource<Bucket>, WasmList<(WasmStr, WasmList<u8>)>)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "set-many" };
            let written = match read_pairs(&mut store, bucket.limits(), &pairs)? {
                Ok(commit) => commit_many(&calling, commit),
                Err(error) => Err(calling.error(None, &error)),
            };
            Ok((written,))
        },
    )?;

    interface.func_wrap(
        "delete-many",
        move |mut store, (handle, keys): (Resource<Bucket>, WasmList<WasmStr>)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "delete-many" };
            let deleted = match read_keys(&mut store, &calling.call(), &keys)? {
                Ok(keys) => {
                    commit_many(&calling, keys.into_iter().fold(Commit::new(), Commit::delete))
                }
                Err(error) => Err(calling.of(error)),
            };
            Ok((deleted,))
        },
    )
}

/// Each key with its value, in the order of the request.
type Found = Vec<(String, Option<Arc<[u8]>>)>;

fn read<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    state: fn(&mut T) -> &mut ComponentState,
    handle: &Resource<Bucket>,
    keys: &WasmList<WasmStr>,
) -> wasmtime::Result<Result<Found, Error>> {
    let (chain, bucket) = opened(store, state, handle)?;
    let calling = Calling { chain: &chain, bucket: &bucket, operation: "get-many" };
    Ok(match read_keys(store, &calling.call(), keys)? {
        Ok(keys) => get_many(&calling, keys),
        Err(error) => Err(calling.of(error)),
    })
}

fn get_many(calling: &Calling<'_>, keys: Vec<String>) -> Result<Found, Error> {
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = calling.bucket.storage().get_many(&asked);
    let values = calling.convert(first_bad_key(calling.bucket.limits(), &asked), found)?;
    Ok(keys
        .into_iter()
        .zip(values.into_iter().map(|value| value.map(StorageValue::into_shared)))
        .collect())
}

fn commit_many(calling: &Calling<'_>, commit: Commit) -> Result<(), Error> {
    if commit.writes.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = commit.writes.iter().map(|write| write.key.clone()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let written = calling.bucket.storage().commit(commit);
    calling.convert(first_bad_key(calling.bucket.limits(), &keys), written.map(drop))
}

/// Copies keys and values into a commit, if they are within the limits.
fn read_pairs<T: 'static>(
    store: &mut StoreContextMut<'_, T>,
    limits: &Limits,
    list: &WasmList<(WasmStr, WasmList<u8>)>,
) -> wasmtime::Result<Result<Commit, StorageError>> {
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
    Ok(Ok(commit))
}
