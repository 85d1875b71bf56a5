//! The state of a component in a wasmtime store.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{Config, Engine, ResourceLimiter, Store, StoreLimits, StoreLimitsBuilder};
#[cfg(feature = "async")]
use wasmtime::{InstanceAllocationStrategy, PoolingAllocationConfig};

use super::bucket::Bucket;
use crate::component_chain::ComponentChain;
use crate::limits::Limits;

/// The storage of the component that runs in a [`Store`], and the limits on its memory.
///
/// It is the data of the store, or a part of it.
#[derive(Debug)]
pub struct ComponentState {
    chain: Arc<ComponentChain>,
    /// The same chain.
    own: Bucket,
    /// Open buckets and compare-and-swap handles.
    handles: ResourceTable,
    /// Why the guest must not use its storage: it ends at the first call.
    pub(super) refusal: Option<String>,
    sandbox: Sandbox,
    /// Calls that overlap.
    #[cfg(feature = "p3")]
    calls: Arc<super::p3::Calls>,
}

impl ComponentState {
    /// The state of an instance of the component with this chain.
    pub fn new(chain: Arc<ComponentChain>) -> Self {
        Self::with_sandbox(chain, SandboxLimits::default())
    }

    /// Like [`new`](Self::new), with other limits on the instance.
    pub fn with_sandbox(chain: Arc<ComponentChain>, limits: SandboxLimits) -> Self {
        let own = Bucket::Own(Arc::clone(&chain));
        #[cfg(feature = "p3")]
        let calls = Arc::new(super::p3::Calls::new(&chain.limits()));
        Self {
            chain,
            own,
            // `push` limits it.
            handles: ResourceTable::new(),
            refusal: None,
            sandbox: limits.into(),
            #[cfg(feature = "p3")]
            calls,
        }
    }

    /// The component's storage.
    pub fn storage(&self) -> &Arc<ComponentChain> {
        &self.chain
    }

    /// The component's storage, for a call of the guest.
    ///
    /// # Errors
    /// Once the host is shut down, or if the storage is refused: the guest must end.
    pub(super) fn storage_for_call(&self) -> wasmtime::Result<&Arc<ComponentChain>> {
        if let Some(refusal) = &self.refusal {
            return Err(wasmtime::Error::msg(refusal.clone()));
        }
        if self.chain.host().is_shut_down() {
            return Err(wasmtime::Error::msg("the host is shutting down"));
        }
        Ok(&self.chain)
    }

    pub(super) fn own_bucket(&self) -> &Bucket {
        &self.own
    }

    #[cfg(feature = "p3")]
    pub(super) fn calls(&self) -> &Arc<super::p3::Calls> {
        &self.calls
    }

    /// The limit on the bytes of a memory, if the guest was refused more. The trap of such
    /// a guest seldom says so.
    pub fn refused_memory(&self) -> Option<usize> {
        self.sandbox.has_refused.then_some(self.sandbox.memory_bytes)
    }

    /// What enforces the limits of the instance.
    #[cfg(feature = "serve")]
    pub(crate) fn limiter(&mut self) -> &mut impl ResourceLimiter {
        &mut self.sandbox
    }

    /// The same, for its counts.
    #[cfg(feature = "serve")]
    pub(crate) fn limits_of_sandbox(&self) -> &impl ResourceLimiter {
        &self.sandbox
    }

    pub(super) fn handles(&self) -> &ResourceTable {
        &self.handles
    }

    pub(super) fn handles_mut(&mut self) -> &mut ResourceTable {
        &mut self.handles
    }
}

/// Limits on the memory that the guests of one store may use. The defaults suffice for
/// components that keep their data in the store, and allow a hostile one at most 2 GiB.
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
    /// The most core instances; a typical component has a few. Default 128.
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

/// The limits of an instance, and whether it was refused memory.
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

/// The configuration of an engine whose guests call storage and WASI synchronously.
///
/// Concurrent component calls are off, which saves 100 ns per call of a host function. An
/// engine with another configuration works too. To bound the run time of guests, enable
/// `epoch_interruption` as the [module](crate::guest) shows.
pub fn engine_config() -> Config {
    let mut config = Config::new();
    config.concurrency_support(false);
    config
}

/// The configuration of an engine whose guests run on an asynchronous executor.
///
/// Epochs interrupt guests, so that a guest that computes lets other tasks run:
/// [`new_async_store`] makes it yield, and [`start_clock`](super::start_clock) must run.
/// Instances come from a pool, for up to 2,000 typical components at a time; tables, memories
/// and instances of one component within the default [`SandboxLimits`], and memories of up to
/// 4 GiB. It reserves 8 TiB of addresses, but no memory.
/// Concurrent component calls are on with the feature `p3`, which needs them, and otherwise
/// off. An engine with another configuration works too.
#[cfg(feature = "async")]
pub fn async_engine_config() -> Config {
    let sandbox = SandboxLimits::default();
    let count = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(2_000)
        .total_stacks(2_000)
        .total_core_instances(10_000)
        .total_memories(2_000)
        .total_tables(4_000)
        .max_memories_per_component(count(sandbox.memories))
        .max_memories_per_module(count(sandbox.memories))
        .max_tables_per_component(count(sandbox.tables))
        .max_tables_per_module(count(sandbox.tables))
        .table_elements(sandbox.table_elements)
        .max_core_instances_per_component(count(sandbox.instances));
    let mut config = engine_config();
    // Each call of a host function takes 300 ns longer.
    #[cfg(feature = "p3")]
    config.concurrency_support(true);
    config.epoch_interruption(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// Creates a store as [`new_store`] does, whose guest yields to other tasks in each epoch.
///
/// Its engine must have `epoch_interruption` and a [clock](super::start_clock). To bound the
/// run time of a call, drop its future, as `tokio::time::timeout` does; that also works while
/// the guest waits for storage.
#[cfg(feature = "async")]
pub fn new_async_store<T: Send + 'static>(
    engine: &Engine,
    data: T,
    state: fn(&mut T) -> &mut ComponentState,
) -> Store<T> {
    let mut store = new_store(engine, data, state);
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    store
}

/// Creates a store that enforces the limits: the sandbox of `state`, and the bytes that
/// one call may pass to the host.
///
/// Other stores work too, but guests can then make the host allocate as much as wasmtime's
/// defaults allow.
pub fn new_store<T: 'static>(
    engine: &Engine,
    data: T,
    state: fn(&mut T) -> &mut ComponentState,
) -> Store<T> {
    let mut store = Store::new(engine, data);
    let limits = state(store.data_mut()).storage().limits();
    store.limiter(move |data| &mut state(data).sandbox);
    store.set_hostcall_fuel(hostcall_bytes(&limits));
    // Higher than the limit of storage, whose error comes first. Handles of WASI are extra.
    store.set_max_component_handles(all_handles(&limits));
    store
}

/// The limit on handles of all kinds.
pub(super) fn all_handles(limits: &Limits) -> usize {
    limits.handles.saturating_add(OTHER_HANDLES)
}

/// The limit on handles other than those of storage, such as streams and clocks.
const OTHER_HANDLES: usize = 1_000;

/// The limit on the bytes of one call: the largest legal call of storage and a quarter
/// more, and at least what WASI needs to write a stream.
///
/// wasmtime checks this before a host function sees the arguments, and ends the guest. The
/// extra quarter lets slightly larger calls fail with the error of a specific limit, which
/// a guest can handle. It is not larger, because the host decodes a text to learn its
/// length, and one in UTF-16 takes up to four and a half times its size meanwhile: 48 MiB
/// with the default limits.
pub(super) fn hostcall_bytes(limits: &Limits) -> usize {
    const STREAMS: usize = 1 << 20;
    /// What wasmtime counts per operation of a batch in addition to its bytes.
    const OPERATION: usize = 128;
    let single = limits.key_bytes.saturating_add(limits.value_bytes);
    let operations = limits.batch_operations.saturating_mul(OPERATION);
    let legal = single.max(limits.batch_bytes.saturating_add(operations));
    legal.saturating_add(legal / 4).max(STREAMS)
}
