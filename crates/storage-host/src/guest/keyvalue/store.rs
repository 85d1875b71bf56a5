//! The interface `store`.

use std::sync::Arc;

use storage_core::{MAX_KEY_BYTES, PageRequest, StorageError, StorageValue};
use wasmtime::component::{
    ComponentType, Lift, Linker, Lower, Resource, ResourceType, WasmList, WasmStr,
};

use super::error::{Calling, Error};
use crate::guest::bucket::{Bucket, dropped, opened, push};
use crate::guest::state::ComponentState;
use crate::host::ComponentChain;

/// The most keys of a page. Twenty-four bytes of text a key make 24 KiB.
const KEYS_PER_PAGE: usize = 1_000;

/// Where a listing goes on, as a draft words it.
pub(super) trait Cursor: ComponentType + Lift + Lower + Send + Sync + 'static {
    /// The key behind which the next page begins.
    ///
    /// # Errors
    /// What the guest is told of a cursor that it made up, or kept too long.
    fn resolve(self, chain: &ComponentChain, bucket: &Bucket) -> Result<String, Error>;

    /// A cursor behind a key.
    fn behind(last: &str, chain: &ComponentChain, bucket: &Bucket) -> Self;
}

/// A number under which the host remembers the key.
impl Cursor for u64 {
    fn resolve(self, chain: &ComponentChain, bucket: &Bucket) -> Result<String, Error> {
        let found = chain.cursors().find(bucket.owner(), self);
        found.ok_or_else(|| Error::other("cursor expired"))
    }

    fn behind(last: &str, chain: &ComponentChain, bucket: &Bucket) -> Self {
        chain.cursors().remember(bucket.owner(), last.to_owned())
    }
}

/// The key itself. A guest may make one up: it is but a place in the order of the
/// keys that the guest may see.
impl Cursor for String {
    fn resolve(self, _: &ComponentChain, _: &Bucket) -> Result<String, Error> {
        if self.len() > MAX_KEY_BYTES {
            return Err(Error::other(format!(
                "the cursor is none of a listing's: it is longer than any key, which has at most \
                 {MAX_KEY_BYTES} bytes; it has {}",
                self.len()
            )));
        }
        Ok(self)
    }

    fn behind(last: &str, _: &ComponentChain, _: &Bucket) -> Self {
        last.to_owned()
    }
}

/// `key-response` of the interface.
#[derive(Debug, Clone, ComponentType, Lower)]
#[component(record)]
struct KeyResponse<C> {
    keys: Vec<String>,
    cursor: Option<C>,
}

/// Adds the interface under this name, with its cursors.
pub(super) fn add<T: 'static, C: Cursor>(
    linker: &mut Linker<T>,
    name: &str,
    state: fn(&mut T) -> &mut ComponentState,
) -> wasmtime::Result<()> {
    let mut interface = linker.instance(name)?;

    interface.resource("bucket", ResourceType::host::<Bucket>(), move |mut store, rep| {
        dropped::<T, Bucket>(&mut store, state, rep)
    })?;

    interface.func_wrap("open", move |mut store, (identifier,): (WasmStr,)| {
        let chain = Arc::clone(state(store.data_mut()).storage());
        // Not copied: it may be longer than any name.
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
            let found = calling.answer(Some(&key), bucket.storage().get(&key));
            Ok((found.map(|value| value.map(StorageValue::into_shared)),))
        },
    )?;

    interface.func_wrap(
        "[method]bucket.set",
        move |mut store, (handle, key, value): (Resource<Bucket>, WasmStr, WasmList<u8>)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let key = key.to_str(&store)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "set" };
            // Checked where it lies: only a value of a legal size is copied.
            let result = chain.limits().check_value_len(value.len()).and_then(|()| {
                bucket.storage().set(&key, StorageValue::from(value.as_le_slice(&store)))
            });
            Ok((calling.answer(Some(&key), result),))
        },
    )?;

    interface.func_wrap(
        "[method]bucket.delete",
        move |mut store, (handle, key): (Resource<Bucket>, WasmStr)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let key = key.to_str(&store)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "delete" };
            Ok((calling.answer(Some(&key), bucket.storage().delete(&key)),))
        },
    )?;

    interface.func_wrap(
        "[method]bucket.exists",
        move |mut store, (handle, key): (Resource<Bucket>, WasmStr)| {
            let (chain, bucket) = opened(&mut store, state, &handle)?;
            let key = key.to_str(&store)?;
            let calling = Calling { chain: &chain, bucket: &bucket, operation: "exists" };
            Ok((calling.answer(Some(&key), bucket.storage().exists(&key)),))
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
    let after = cursor.map(|cursor| cursor.resolve(chain, bucket)).transpose()?;
    let calling = Calling { chain, bucket, operation: "list-keys" };
    let request = PageRequest { prefix: "", after: after.as_deref(), limit: KEYS_PER_PAGE };
    let page = calling.answer(None, bucket.storage().list_page(request))?;
    let cursor = match (page.keys.last(), page.more) {
        (Some(last), true) => Some(C::behind(last, chain, bucket)),
        // Without a cursor the guest would take a part for the whole.
        (None, true) => {
            let reason = "the storage below says that more keys follow, and lists none";
            return Err(calling.error(None, &StorageError::IoError(reason.to_owned())));
        }
        (_, false) => None,
    };
    Ok(KeyResponse { keys: page.keys, cursor })
}
