//! The interface `store`.

use std::sync::Arc;

use storage_core::StorageValue;
use wasmtime::component::{
    ComponentType, Lift, Linker, Lower, Resource, ResourceType, WasmList, WasmStr,
};

use super::error::{Calling, Error};
use crate::cursors::{self, CannotList, Cursor, Page};
use crate::guest::bucket::{Bucket, dropped, opened, push};
use crate::guest::state::ComponentState;
use crate::host::ComponentChain;

/// The most keys of a page: 24 KiB with keys of 24 bytes.
const KEYS_PER_PAGE: usize = 1_000;

/// `key-response` of the interface.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
struct KeyResponse<C> {
    keys: Vec<String>,
    cursor: Option<C>,
}

/// Adds the interface under this name, with its cursors.
pub(super) fn add<T, C>(
    linker: &mut Linker<T>,
    name: &str,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()>
where
    T: 'static,
    C: Cursor + ComponentType + Lift + Lower + Send + Sync + 'static,
{
    let mut interface = linker.instance(name)?;

    interface.resource("bucket", ResourceType::host::<Bucket>(), move |mut store, rep| {
        dropped::<T, Bucket>(&mut store, state, rep)
    })?;

    interface.func_wrap("open", move |mut store, (identifier,): (WasmStr,)| {
        let chain = Arc::clone(state(store.data_mut()).storage());
        // Not copied, because it may be longer than any valid name.
        let opened = Bucket::open(&chain, &identifier.to_str(&store)?);
        let handle = opened
            .map_err(Error::from)
            .and_then(|bucket| push(state(store.data_mut()), bucket).map_err(Error::of_handles));
        Ok((handle,))
    })?;

    interface.func_wrap(
        "[method]bucket.get",
        move |mut store, (handle, key): (Resource<Bucket>, WasmStr)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let key = key.to_str(&store)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "get" };
            let found = calling.convert(Some(&key), bucket.storage().get(&key));
            Ok((found.map(|value| value.map(StorageValue::into_shared)),))
        },
    )?;

    interface.func_wrap(
        "[method]bucket.set",
        move |mut store, (handle, key, value): (Resource<Bucket>, WasmStr, WasmList<u8>)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let key = key.to_str(&store)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "set" };
            // Checked before it is copied.
            let result = bucket.limits().check_value_len(value.len()).and_then(|()| {
                bucket.storage().set(&key, StorageValue::from(value.as_le_slice(&store)))
            });
            Ok((calling.convert(Some(&key), result),))
        },
    )?;

    interface.func_wrap(
        "[method]bucket.delete",
        move |mut store, (handle, key): (Resource<Bucket>, WasmStr)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let key = key.to_str(&store)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "delete" };
            Ok((calling.convert(Some(&key), bucket.storage().delete(&key)),))
        },
    )?;

    interface.func_wrap(
        "[method]bucket.exists",
        move |mut store, (handle, key): (Resource<Bucket>, WasmStr)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let key = key.to_str(&store)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "exists" };
            Ok((calling.convert(Some(&key), bucket.storage().exists(&key)),))
        },
    )?;

    interface.func_wrap(
        "[method]bucket.list-keys",
        move |mut store, (handle, cursor): (Resource<Bucket>, Option<C>)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            Ok((list_keys(&chain, &bucket, cursor),))
        },
    )
}

/// A page of keys, and the cursor of the next one if more follow.
fn list_keys<C: Cursor>(
    chain: &ComponentChain,
    bucket: &Bucket,
    cursor: Option<C>,
) -> Result<KeyResponse<C>, Error> {
    let (storage, owner) = (bucket.storage(), bucket.owner());
    match cursors::list_keys(storage, chain.cursors(), owner, cursor, KEYS_PER_PAGE) {
        Ok(Page { keys, cursor }) => Ok(KeyResponse { keys, cursor }),
        Err(CannotList::Cursor(why)) => Err(Error::other(why)),
        Err(CannotList::Storage(error)) => {
            let calling = Calling { chain, bucket, operation: "list-keys" };
            Err(calling.error(None, &error))
        }
    }
}
