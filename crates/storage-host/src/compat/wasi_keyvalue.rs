//! The interface of the crate `wasmtime-wasi-keyvalue` 48, over storage that persists.
//!
//! A host that uses the crate changes one `use`:
//!
//! ```
//! use storage_host::compat::wasi_keyvalue as wasmtime_wasi_keyvalue;
//! # use storage_host::{wasmtime, wasmtime_wasi};
//!
//! use wasmtime::component::{Linker, ResourceTable};
//! use wasmtime::{Engine, Result, Store};
//! use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
//! use wasmtime_wasi_keyvalue::{WasiKeyValue, WasiKeyValueCtx, WasiKeyValueCtxBuilder};
//!
//! struct State {
//!     table: ResourceTable,
//!     wasi: WasiCtx,
//!     keyvalue: WasiKeyValueCtx,
//! }
//!
//! impl WasiView for State {
//!     fn ctx(&mut self) -> WasiCtxView<'_> {
//!         WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
//!     }
//! }
//!
//! fn prepare(engine: &Engine) -> Result<(Linker<State>, Store<State>)> {
//!     let mut linker = Linker::new(engine);
//!     wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
//!     wasmtime_wasi_keyvalue::add_to_linker(&mut linker, |state: &mut State| {
//!         WasiKeyValue::new(&state.keyvalue, &mut state.table)
//!     })?;
//!     let state = State {
//!         table: ResourceTable::new(),
//!         wasi: WasiCtx::builder().build(),
//!         keyvalue: WasiKeyValueCtxBuilder::new().in_memory_data([("visits", "0")]).build(),
//!     };
//!     Ok((linker, Store::new(engine, state)))
//! }
//! # prepare(&Engine::default())?;
//! # Ok::<(), wasmtime::Error>(())
//! ```
//!
//! [`WasiKeyValueCtxBuilder::storage`] then gives the context the storage of a component,
//! so that its data persists, with its quota and limits. Without it the data is in memory
//! and belongs to the context.
//!
//! # Differences that a guest sees
//!
//! - All buckets of a context share its data: what a guest writes through one is visible
//!   through the others, and to the next guest with the same storage. In the other crate
//!   each bucket begins with a copy of the presets and loses its changes when it is dropped.
//! - [`Limits`](crate::Limits) and the quota apply. Keys are 1 to 1,024 bytes without
//!   control characters. A call above a limit is `other`, and nothing has changed.
//! - `open` takes `default` too, the component's own id, and the ids of granted components.
//! - `list-keys` returns keys in ascending byte order and in pages of 1,000, with a cursor
//!   while more follow. The other crate returns all of them at once, in no order.
//! - `increment` refuses numbers above 2^63 - 1 and numbers in other forms, such as `05`.
//! - `set-many` and `delete-many` are atomic.
//! - The texts of `other` differ.
//!
//! Calls are synchronous, as in the other crate: a guest that waits for the store blocks the
//! thread that runs it, in an asynchronous host too. There, use
#![cfg_attr(feature = "async", doc = "[`add_to_linker_async`].")]
#![cfg_attr(not(feature = "async"), doc = "`add_to_linker_async` (feature `async`).")]

use std::collections::BTreeMap;
use std::sync::Arc;

use storage_backends::MemoryStorage;
use storage_cache::CacheConfig;
use storage_core::{Commit, ComponentId, ComponentStorage, StorageError, StorageValue};
use wasmtime::component::{Linker, ResourceTable};

use crate::component_chain::ComponentChain;
use crate::guest;
use crate::guest::in_table::StorageInTable;
pub use crate::guest::in_table::WasiKeyValue;
use crate::host::StorageHost;

/// Builds a [`WasiKeyValueCtx`].
#[derive(Debug, Default)]
pub struct WasiKeyValueCtxBuilder {
    presets: BTreeMap<String, StorageValue>,
    storage: Option<Arc<ComponentChain>>,
}

impl WasiKeyValueCtxBuilder {
    /// Creates a builder of a context with empty storage in memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets keys and their values before the first guest runs. Replaces those of an earlier
    /// call. In a [`storage`](Self::storage) that has such a key already, its value stays.
    #[must_use]
    pub fn in_memory_data<I, K, V>(mut self, data: I) -> Self
    where
        I: IntoIterator<Item = (K, V)>,
        K: Into<String>,
        V: Into<Vec<u8>>,
    {
        let preset = |(key, value): (K, V)| (key.into(), StorageValue::new(value.into()));
        self.presets = data.into_iter().map(preset).collect();
        self
    }

    /// Uses the storage of a component. It persists if the store does.
    ///
    /// ```
    /// use storage_host::compat::wasi_keyvalue::WasiKeyValueCtx;
    /// use storage_host::{ComponentStorage, Mode, StorageHost, StoreUrl};
    ///
    /// // Once.
    /// let host = StorageHost::new("memory:".parse::<StoreUrl>()?.open(Mode::ReadWrite)?);
    /// // For each instance.
    /// let storage = host.component(&"app/notes/home".parse()?);
    /// let context = WasiKeyValueCtx::builder().storage(storage).build();
    /// # context.storage().set("key", "value".into())?;
    /// # assert!(host.component(&"app/notes/home".parse()?).exists("key")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn storage(mut self, storage: Arc<ComponentChain>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Builds the context, and writes its presets, so it may wait for the store.
    ///
    /// If a preset cannot be written, such as an invalid key, the first call of a guest to
    /// its bucket ends the guest, with an error that names the key.
    pub fn build(self) -> WasiKeyValueCtx {
        let storage = self.storage.unwrap_or_else(in_memory);
        let refusal = self.presets.into_iter().find_map(|(key, value)| {
            let error = preset(&storage, &key, value).err()?;
            Some(format!("cannot preset the key {key:?}: {error}"))
        });
        WasiKeyValueCtx { storage: StorageInTable::new(storage, refusal) }
    }
}

/// A component's storage in a store of its own.
fn in_memory() -> Arc<ComponentChain> {
    // No other component uses this store, so any id does.
    #[expect(clippy::expect_used, reason = "the segments are valid")]
    let id = ComponentId::new("wasi", "keyvalue", "in-memory").expect("a valid id");
    let no_cache = CacheConfig { max_entries: 0, ttl: None, max_size_bytes: 0 };
    StorageHost::builder(Arc::new(MemoryStorage::new())).cache(no_cache).build().component(&id)
}

/// Sets a key unless it exists.
fn preset(storage: &ComponentChain, key: &str, value: StorageValue) -> Result<(), StorageError> {
    // Usually known without a write.
    if storage.exists(key)? {
        return Ok(());
    }
    match storage.commit(Commit::new().require_absent(key).set(key, value)) {
        Ok(_) | Err(StorageError::AlreadyExists(_) | StorageError::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The storage of a guest: a part of the data of its wasmtime store.
#[derive(Debug)]
pub struct WasiKeyValueCtx {
    storage: StorageInTable,
}

impl WasiKeyValueCtx {
    /// Creates a builder, as [`WasiKeyValueCtxBuilder::new`].
    pub fn builder() -> WasiKeyValueCtxBuilder {
        WasiKeyValueCtxBuilder::new()
    }

    /// The storage that a guest with this context uses.
    pub fn storage(&self) -> &Arc<ComponentChain> {
        self.storage.chain()
    }
}

impl<'a> WasiKeyValue<'a> {
    /// Combines a context with a table of the guest's store. Other resources may be in the
    /// table too. The first call adds an entry, which holds the guest's open buckets.
    pub fn new(ctx: &'a WasiKeyValueCtx, table: &'a mut ResourceTable) -> Self {
        Self::of(&ctx.storage, table)
    }
}

/// Adds `store`, `atomics` and `batch` of `wasi:keyvalue@0.2.0-draft` to a linker.
///
/// [`guest::add_to_linker`] adds the second draft and the other interfaces as well, for hosts
/// whose state holds a [`ComponentState`](guest::ComponentState); use one of the two.
///
/// # Errors
/// If the linker already has one of the interfaces.
pub fn add_to_linker<T: Send + 'static>(
    l: &mut Linker<T>,
    f: fn(&mut T) -> WasiKeyValue<'_>,
) -> wasmtime::Result<()> {
    guest::add_first_draft(l, f)
}

/// Like [`add_to_linker`], but a guest that waits for storage does not block its executor, as
/// with [`guest::add_to_linker_async`]. The other crate has no such function.
///
/// # Errors
/// As [`add_to_linker`].
#[cfg(feature = "async")]
pub fn add_to_linker_async<T: Send + 'static>(
    l: &mut Linker<T>,
    f: fn(&mut T) -> WasiKeyValue<'_>,
) -> wasmtime::Result<()> {
    guest::add_first_draft_async(l, f)
}
