//! The linker that guests run with: a synchronous or an asynchronous one.

use std::sync::LazyLock;
use std::time::Duration;

use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{
    Component, ComponentNamedList, Func, Instance, InstancePre, Lift, Linker, Lower, TypedFunc, Val,
};
use storage_host::wasmtime::{self, Engine, Store};
use storage_host::{Offload, StorageHostBuilder};
use tokio::runtime::{Builder, Runtime};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linkage {
    Sync,
    Async,
}

/// Where asynchronous guests run.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap());

impl Linkage {
    pub(crate) const ALL: [Self; 2] = [Self::Sync, Self::Async];

    pub(crate) fn engine(self) -> Engine {
        let mut config = match self {
            Self::Sync => guest::engine_config(),
            Self::Async => guest::async_engine_config(),
        };
        config.epoch_interruption(true);
        Engine::new(&config).unwrap()
    }

    /// Calls wait for a thread as long as it takes: a thousand guests of one component are
    /// slow, and that is not what is tested.
    pub(crate) fn host(self, builder: StorageHostBuilder) -> StorageHostBuilder {
        let mut offload = Offload::default();
        offload.max_wait = Duration::from_secs(300);
        builder.offload(offload)
    }

    pub(crate) fn link(
        self,
        component: &Component,
        linker: &mut Linker<ComponentState>,
    ) -> wasmtime::Result<()> {
        match self {
            Self::Sync => guest::add_to_linker_for(component, linker, |state| state),
            Self::Async => guest::add_to_linker_async_for(component, linker, |state| state),
        }
    }

    pub(crate) fn instantiate(
        self,
        component: &InstancePre<ComponentState>,
        store: &mut Store<ComponentState>,
    ) -> wasmtime::Result<Instance> {
        match self {
            Self::Sync => component.instantiate(store),
            Self::Async => RUNTIME.block_on(component.instantiate_async(store)),
        }
    }

    pub(crate) fn call(
        self,
        function: &Func,
        store: &mut Store<ComponentState>,
        arguments: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        match self {
            Self::Sync => function.call(store, arguments, results),
            Self::Async => RUNTIME.block_on(function.call_async(store, arguments, results)),
        }
    }

    pub(crate) fn call_typed<P, R>(
        self,
        function: &TypedFunc<P, R>,
        store: &mut Store<ComponentState>,
        arguments: P,
    ) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        match self {
            Self::Sync => function.call(store, arguments),
            Self::Async => RUNTIME.block_on(function.call_async(store, arguments)),
        }
    }
}
