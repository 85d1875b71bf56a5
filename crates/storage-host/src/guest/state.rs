//! What a wasmtime store knows of the component that runs in it.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{Config, Engine, ResourceLimiter, Store, StoreLimits, StoreLimitsBuilder};

use crate::host::ComponentChain;
use crate::limits::Limits;

/// Whose component runs in a store, its storage, and what it may take of the
/// host's memory.
///
/// It stands in the data of a [`Store`], or is that data.
#[derive(Debug)]
pub struct ComponentState {
    chain: Arc<ComponentChain>,
    /// What the guest has open: buckets, and keys to be compared and swapped.
    handles: ResourceTable,
    sandbox: Sandbox,
}

impl ComponentState {
    /// The state of an instance of the component whose chain this is.
    pub fn new(chain: Arc<ComponentChain>) -> Self {
        Self::with_sandbox(chain, SandboxLimits::default())
    }

    /// The same with other limits on the instance.
    pub fn with_sandbox(chain: Arc<ComponentChain>, limits: SandboxLimits) -> Self {
        let mut handles = ResourceTable::new();
        handles.set_max_capacity(chain.limits().handles);
        Self { chain, handles, sandbox: limits.into() }
    }

    /// The component's storage.
    pub fn storage(&self) -> &Arc<ComponentChain> {
        &self.chain
    }

    /// The component's storage, for a call of the guest.
    ///
    /// # Errors
    /// Once the host is shut down: the guest is not to go on.
    pub(super) fn storage_for_call(&self) -> wasmtime::Result<&Arc<ComponentChain>> {
        if self.chain.host().is_shut_down() {
            return Err(wasmtime::Error::msg("the host is shutting down"));
        }
        Ok(&self.chain)
    }

    /// The limit on a memory's bytes, if the guest was refused more: what such a
    /// guest traps with seldom says so.
    pub fn refused_memory(&self) -> Option<usize> {
        self.sandbox.has_refused.then_some(self.sandbox.memory_bytes)
    }

    pub(super) fn handles(&self) -> &ResourceTable {
        &self.handles
    }

    pub(super) fn handles_mut(&mut self) -> &mut ResourceTable {
        &mut self.handles
    }
}

/// What one store's guests may take of the host. The defaults are the product's
/// own choice: room for any component that keeps its data in the store, and at
/// most 2 GiB for one that does not behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SandboxLimits {
    /// The most bytes of one linear memory. Default 512 MiB. Growing above it
    /// fails in the guest.
    pub memory_bytes: usize,
    /// The most linear memories. Default 4.
    pub memories: usize,
    /// The most elements of one table. Default 100,000.
    pub table_elements: usize,
    /// The most tables. Default 32.
    pub tables: usize,
    /// The most core instances, of which a component has a handful. Default 128.
    pub instances: usize,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            memories: 4,
            table_elements: 100_000,
            tables: 32,
            instances: 128,
        }
    }
}

/// The limits at work, and whether that on memory was met.
#[derive(Debug)]
struct Sandbox {
    limits: StoreLimits,
    memory_bytes: usize,
    has_refused: bool,
}

impl From<SandboxLimits> for Sandbox {
    fn from(limits: SandboxLimits) -> Self {
        let memory_bytes = limits.memory_bytes;
        let limits = StoreLimitsBuilder::new()
            .memory_size(memory_bytes)
            .memories(limits.memories)
            .table_elements(limits.table_elements)
            .tables(limits.tables)
            .instances(limits.instances)
            .build();
        Self { limits, memory_bytes, has_refused: false }
    }
}

impl ResourceLimiter for Sandbox {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.has_refused |= desired > self.memory_bytes;
        self.limits.memory_growing(current, desired, maximum)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.limits.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}

/// The configuration for an engine whose guests call storage and WASI
/// synchronously.
///
/// Concurrent component calls are off, which takes 100 ns off each call of a
/// host function. An engine with another configuration works too. A guest runs for
/// as long as it likes unless `epoch_interruption` is switched on, as the
/// [module](crate::guest) shows.
pub fn engine_config() -> Config {
    let mut config = Config::new();
    config.concurrency_support(false);
    config
}

/// Makes a store that holds its guests to the limits: the sandbox of `state`, and
/// what one call may pass to the host.
///
/// A store made otherwise works too, but lets a guest make the host allocate
/// whatever wasmtime's own defaults allow.
pub fn new_store<T: 'static>(
    engine: &Engine,
    data: T,
    state: fn(&mut T) -> &mut ComponentState,
) -> Store<T> {
    let mut store = Store::new(engine, data);
    let limits = *state(store.data_mut()).storage().limits();
    store.limiter(move |data| &mut state(data).sandbox);
    store.set_hostcall_fuel(hostcall_bytes(&limits));
    // The guest is told of the limit before wasmtime would end it, and what WASI
    // opens does not count.
    store.set_max_component_handles(all_handles(&limits));
    store
}

/// How many handles of all kinds a guest may have.
pub(super) fn all_handles(limits: &Limits) -> usize {
    limits.handles.saturating_add(OTHER_HANDLES)
}

/// How many handles a guest may have beside those of storage: streams, clocks.
const OTHER_HANDLES: usize = 1_000;

/// The most bytes that a guest may pass to the host in one call: the largest call
/// that storage allows and a quarter more, and never less than WASI needs to write
/// a stream.
///
/// wasmtime counts this before a host function sees the arguments and ends the
/// guest when it is passed. Below it, whatever is over a limit of its own is an
/// error that the guest can handle; the quarter is for those who find out by
/// trying. There is no room for more: the length of a text is known only when it
/// is decoded, and one in UTF-16 takes up to four and a half times what it passes
/// while it is. With the defaults these are 48 MiB.
pub(super) fn hostcall_bytes(limits: &Limits) -> usize {
    const STREAMS: usize = 1 << 20;
    /// What wasmtime counts for an operation of a batch beside its bytes.
    const OPERATION: usize = 128;
    let single = limits.key_bytes.saturating_add(limits.value_bytes);
    let operations = limits.batch_operations.saturating_mul(OPERATION);
    let legal = single.max(limits.batch_bytes.saturating_add(operations));
    legal.saturating_add(legal / 4).max(STREAMS)
}
