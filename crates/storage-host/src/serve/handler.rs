//! A component that is ready to handle requests, and the data of its instances.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::memory::TakenMemory;
use super::outgoing::Outgoing;
use super::outgoing_texts;
use super::standard_streams::LoggedStream;
use crate::component_chain::ComponentChain;
use crate::guest::logging::StandardStream;
use crate::guest::{self, ComponentState, SandboxLimits};
use crate::http_settings::{HttpSettings, OutgoingHost};

/// The most handles of WASI and HTTP of an instance. For each the host keeps at most the headers
/// and the path of a request, of 64 KiB each, and the chunks of its body.
const HANDLES: usize = 256;

/// The most random bytes of one call; wasmtime's default allows 64 MiB of the host's memory.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// How much more memory than on the wire a set of headers takes, at most.
const HEADERS_IN_MEMORY: usize = 4;

/// A compiled and linked component of `wasi:http`. A clone is another handle to the same.
#[derive(Clone)]
pub struct Handler(ProxyPre<RequestState>);

impl Handler {
    /// Links a component, whose engine has the configuration
    /// [`guest::async_engine_config`](crate::guest::async_engine_config).
    ///
    /// # Errors
    /// If it imports what this host does not provide, or does not export
    /// `wasi:http/incoming-handler@0.2`.
    pub fn new(component: &Component) -> wasmtime::Result<Self> {
        Self::of(linker(component)?.instantiate_pre(component)?)
    }

    /// The handler of a component that was linked with a [`linker`].
    ///
    /// # Errors
    /// If the component does not export `wasi:http/incoming-handler@0.2`.
    pub fn of(linked: InstancePre<RequestState>) -> wasmtime::Result<Self> {
        ProxyPre::new(linked).map(Self)
    }

    pub(super) fn proxy(&self) -> &ProxyPre<RequestState> {
        &self.0
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

/// Creates a linker with all that a server provides to this component.
///
/// # Errors
/// If an interface is defined twice, which does not happen.
pub fn linker(component: &Component) -> wasmtime::Result<Linker<RequestState>> {
    let mut linker = Linker::new(component.engine());
    p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    outgoing_texts::bound(&mut linker)?;
    guest::add_to_linker_async_for(component, &mut linker, |state: &mut RequestState| {
        &mut state.storage
    })?;
    Ok(linker)
}

/// The data of the instance that handles a request.
pub struct RequestState {
    storage: ComponentState,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    resources: ResourceTable,
    memory: TakenMemory,
}

impl RequestState {
    /// Creates the store of an instance.
    pub(super) fn new_store(
        engine: &Engine,
        chain: &Arc<ComponentChain>,
        outgoing: &Arc<[OutgoingHost]>,
        memory: TakenMemory,
        settings: &HttpSettings,
    ) -> Store<Self> {
        let sandbox = SandboxLimits { memory_bytes: settings.memory_bytes, ..Default::default() };
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(HANDLES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(settings.header_bytes.saturating_mul(HEADERS_IN_MEMORY));
        let state = Self {
            storage: ComponentState::with_sandbox(Arc::clone(chain), sandbox),
            wasi: WasiCtx::builder()
                .stdout(LoggedStream::new(chain, StandardStream::Output))
                .stderr(LoggedStream::new(chain, StandardStream::Error))
                .allow_tcp(false)
                .allow_udp(false)
                .max_random_size(MAX_RANDOM_BYTES)
                .build(),
            http,
            outgoing: Outgoing::new(Arc::clone(chain), Arc::clone(outgoing)),
            resources,
            memory,
        };
        let mut store = guest::new_async_store(engine, state, |state| &mut state.storage);
        // Instead of the limiter of the storage, which it contains.
        store.limiter(|state| state);
        store
    }

    /// The limit on the memory of all instances, or of those of the component, if it was
    /// refused more.
    pub(super) fn refused_of_total(&self) -> Option<usize> {
        self.memory.refused()
    }

    pub(super) fn storage(&self) -> &ComponentState {
        &self.storage
    }
}

impl fmt::Debug for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestState").field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl ResourceLimiter for RequestState {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let is_allowed = self.storage.limiter().memory_growing(current, desired, maximum)?;
        Ok(is_allowed && self.memory.grow(current, desired))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let is_allowed = self.storage.limiter().table_growing(current, desired, maximum)?;
        Ok(is_allowed && self.memory.grow_table(current, desired))
    }

    fn instances(&self) -> usize {
        self.storage.limits_of_sandbox().instances()
    }

    fn tables(&self) -> usize {
        self.storage.limits_of_sandbox().tables()
    }

    fn memories(&self) -> usize {
        self.storage.limits_of_sandbox().memories()
    }
}

impl WasiView for RequestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl WasiHttpView for RequestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outgoing,
            table: &mut self.resources,
            ctx: &mut self.http,
        }
    }
}
