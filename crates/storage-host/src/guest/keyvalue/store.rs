//! The interface `store`.

use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, WasmStr};

use super::error::Error;
use crate::cursors::{self, CannotList, Cursor, Page};
use crate::guest::bucket::Bucket;
use crate::guest::call::{Cost, Functions, Linkage, StateOf};
use crate::guest::errors::{Call, CallError};

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
pub(super) fn add<C, T, L>(
    linker: &mut Linker<T>,
    name: &str,
    state: StateOf<T>,
) -> wasmtime::Result<()>
where
    C: Cursor + ComponentType + Lift + Lower + Send + Sync + 'static,
    T: 'static,
    L: Linkage<T>,
{
    let mut store = Functions::<T, L, Error>::new(linker, name, state)?;

    store.add_resource::<Bucket>("bucket")?;

    store.add_immediate("open", |caller, (identifier,): (WasmStr,)| {
        Ok((caller.open(&identifier)?,))
    })?;

    store.add_verbs("bucket")?;

    store.add(
        "[method]bucket.list-keys",
        |caller, (handle, cursor): (Resource<Bucket>, Option<C>)| {
            caller.ask((&handle).into(), "list-keys", Cost::Long, |call| list_keys(call, cursor))
        },
    )
}

/// A page of keys, and the cursor of the next one if more follow.
fn list_keys<C: Cursor>(call: &Call<'_>, cursor: Option<C>) -> Result<KeyResponse<C>, Error> {
    let (cursors, owner) = (call.own.cursors(), call.bucket.owner());
    match cursors::list_keys(call.storage(), cursors, owner, "", cursor, KEYS_PER_PAGE) {
        Ok(Page { keys, cursor }) => Ok(KeyResponse { keys, cursor }),
        Err(CannotList::Cursor(why)) => Err(Error::other(why)),
        Err(CannotList::Storage(error)) => Err(Error::from_storage(call, None, &error)),
    }
}
