//! Host functions with the signatures of each interface that return a constant: what a
//! call costs without any storage.

#![expect(dead_code, reason = "the types are those of the interfaces; no call fails")]

use std::sync::Arc;

use wasmtime::component::{
    ComponentType, Lift, Linker, Lower, Resource, ResourceType, WasmList, WasmStr,
};
use wasmtime::{Engine, Store, StoreContextMut};

use crate::guest::{BATCH, KEYS, key};

/// A key with its value, as `get-many` returns it.
type Pair = (String, Arc<[u8]>);

/// What the functions return.
pub(crate) struct Constants {
    value: Arc<[u8]>,
    pairs: Arc<[Option<Pair>]>,
    values: Arc<[Option<Arc<[u8]>>]>,
    keys: Arc<[String]>,
}

impl Constants {
    /// The constants with values of this many bytes.
    fn of(bytes: usize) -> Self {
        let value: Arc<[u8]> = vec![b'v'; bytes].into();
        let pair = |number| Some((key(number), Arc::clone(&value)));
        Self {
            pairs: (0..BATCH).map(pair).collect(),
            values: vec![Some(Arc::clone(&value)); BATCH].into(),
            keys: (0..KEYS as usize).map(key).collect(),
            value,
        }
    }

    /// Sets the size of the values.
    pub(crate) fn resize(&mut self, bytes: usize) {
        *self = Self::of(bytes);
    }
}

type Context<'a> = StoreContextMut<'a, Constants>;

#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum CoreError {
    #[component(name = "not-found")]
    NotFound(String),
    #[component(name = "already-exists")]
    AlreadyExists(String),
    #[component(name = "quota-exceeded")]
    QuotaExceeded,
    #[component(name = "invalid-key")]
    InvalidKey(String),
    #[component(name = "io-error")]
    IoError(String),
}

#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
enum ExtendedError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "conflict")]
    Conflict(String),
    #[component(name = "storage")]
    Storage(CoreError),
}

#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
enum KeyvalueError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
struct VersionedValue {
    value: Arc<[u8]>,
    revision: u64,
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
struct Page {
    keys: Arc<[String]>,
    more: bool,
}

#[derive(Debug, ComponentType, Lower)]
#[component(record)]
struct KeyResponse<C> {
    keys: Arc<[String]>,
    cursor: Option<C>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum Write {
    #[component(name = "set")]
    Set((WasmStr, WasmList<u8>)),
    #[component(name = "delete")]
    Delete(WasmStr),
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Check {
    key: WasmStr,
    expected: Expected,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum Expected {
    #[component(name = "absent")]
    Absent,
    #[component(name = "present")]
    Present,
    #[component(name = "revision")]
    Revision(u64),
    #[component(name = "value")]
    Value(WasmList<u8>),
}

/// The resource of a handle.
struct Bucket;

/// The interface of single keys.
pub(crate) const CORE: &str = "airssys:core/storage@1.0.0";

/// A host of constants.
pub(crate) fn host(engine: &Engine) -> wasmtime::Result<(Linker<Constants>, Store<Constants>)> {
    let mut linker = Linker::new(engine);
    add_core(&mut linker)?;
    add_extended(&mut linker)?;
    add_keyvalue::<u64, u64>(&mut linker, "0.2.0-draft")?;
    add_keyvalue::<String, i64>(&mut linker, "0.2.0-draft2")?;
    Ok((linker, Store::new(engine, Constants::of(0))))
}

fn add_core(linker: &mut Linker<Constants>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(CORE)?;
    interface.func_wrap("get", |store: Context<'_>, (_,): (WasmStr,)| {
        Ok((Ok::<_, CoreError>(Some(Arc::clone(&store.data().value))),))
    })?;
    interface
        .func_wrap("exists", |_: Context<'_>, (_,): (WasmStr,)| Ok((Ok::<_, CoreError>(true),)))?;
    interface.func_wrap("set", |_: Context<'_>, (_, _): (WasmStr, WasmList<u8>)| {
        Ok((Ok::<_, CoreError>(()),))
    })?;
    interface.func_wrap("list-keys", |store: Context<'_>, (_,): (Option<WasmStr>,)| {
        Ok((Ok::<_, CoreError>(Arc::clone(&store.data().keys)),))
    })
}

fn add_extended(linker: &mut Linker<Constants>) -> wasmtime::Result<()> {
    type Handle = Resource<Bucket>;
    let mut interface = linker.instance("airssys:storage/extended@0.1.0")?;
    interface.resource("store", ResourceType::host::<Bucket>(), |_, _| Ok(()))?;
    interface.func_wrap("[static]store.open", |_: Context<'_>, (_,): (WasmStr,)| {
        Ok((Ok::<_, ExtendedError>(Handle::new_own(0)),))
    })?;
    interface.func_wrap(
        "[method]store.get-versioned",
        |store: Context<'_>, (_, _): (Handle, WasmStr)| {
            let value = Arc::clone(&store.data().value);
            Ok((Ok::<_, ExtendedError>(Some(VersionedValue { value, revision: 1 })),))
        },
    )?;
    interface.func_wrap(
        "[method]store.update",
        |_: Context<'_>, (_, _, _): (Handle, WasmStr, WasmList<u8>)| {
            Ok((Ok::<_, ExtendedError>(1_u64),))
        },
    )?;
    interface.func_wrap(
        "[method]store.commit",
        |_: Context<'_>, (_, _, _): (Handle, WasmList<Check>, WasmList<Write>)| {
            Ok((Ok::<_, ExtendedError>(1_u64),))
        },
    )?;
    interface.func_wrap(
        "[method]store.get-many",
        |store: Context<'_>, (_, _): (Handle, WasmList<WasmStr>)| {
            Ok((Ok::<_, ExtendedError>(Arc::clone(&store.data().values)),))
        },
    )?;
    interface.func_wrap(
        "[method]store.list-page",
        |store: Context<'_>, (_, _, _, _): (Handle, WasmStr, Option<WasmStr>, u32)| {
            let keys = Arc::clone(&store.data().keys);
            Ok((Ok::<_, ExtendedError>(Page { keys, more: false }),))
        },
    )
}

/// A draft with its types of cursors and of numbers.
fn add_keyvalue<C, N>(linker: &mut Linker<Constants>, version: &str) -> wasmtime::Result<()>
where
    C: ComponentType + Lift + Lower + Send + Sync + 'static,
    N: ComponentType + Lift + Lower + Send + Sync + 'static,
{
    type Handle = Resource<Bucket>;
    let mut interface = linker.instance(&format!("wasi:keyvalue/store@{version}"))?;
    interface.resource("bucket", ResourceType::host::<Bucket>(), |_, _| Ok(()))?;
    interface.func_wrap("open", |_: Context<'_>, (_,): (WasmStr,)| {
        Ok((Ok::<_, KeyvalueError>(Handle::new_own(0)),))
    })?;
    interface.func_wrap(
        "[method]bucket.get",
        |store: Context<'_>, (_, _): (Handle, WasmStr)| {
            Ok((Ok::<_, KeyvalueError>(Some(Arc::clone(&store.data().value))),))
        },
    )?;
    interface.func_wrap("[method]bucket.exists", |_: Context<'_>, (_, _): (Handle, WasmStr)| {
        Ok((Ok::<_, KeyvalueError>(true),))
    })?;
    interface.func_wrap(
        "[method]bucket.set",
        |_: Context<'_>, (_, _, _): (Handle, WasmStr, WasmList<u8>)| {
            Ok((Ok::<_, KeyvalueError>(()),))
        },
    )?;
    interface.func_wrap(
        "[method]bucket.list-keys",
        |store: Context<'_>, (_, _): (Handle, Option<C>)| {
            let keys = Arc::clone(&store.data().keys);
            Ok((Ok::<_, KeyvalueError>(KeyResponse::<C> { keys, cursor: None }),))
        },
    )?;

    let mut interface = linker.instance(&format!("wasi:keyvalue/atomics@{version}"))?;
    interface.func_wrap("increment", |_: Context<'_>, (_, _, delta): (Handle, WasmStr, N)| {
        Ok((Ok::<_, KeyvalueError>(delta),))
    })?;

    let mut interface = linker.instance(&format!("wasi:keyvalue/batch@{version}"))?;
    interface.func_wrap("get-many", |store: Context<'_>, (_, _): (Handle, WasmList<WasmStr>)| {
        Ok((Ok::<_, KeyvalueError>(Arc::clone(&store.data().pairs)),))
    })
}
