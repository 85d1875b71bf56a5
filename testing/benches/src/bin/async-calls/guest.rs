//! A guest that calls storage in a loop, in either linker.

use storage_host::StorageHost;
use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{Component, Instance, Linker};
use storage_host::wasmtime::{Engine, Result, Store};
use tokio::runtime::{Builder, Runtime};

/// Converts an error of wasmtime, which is not a standard one.
pub(crate) fn failed(error: storage_host::wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:?}")
}

/// The runtimes of asynchronous guests.
pub(crate) struct Runtimes {
    one_thread: Runtime,
    several_threads: Runtime,
}

impl Runtimes {
    pub(crate) fn new() -> std::io::Result<Self> {
        let one_thread = Builder::new_current_thread().enable_time().build()?;
        let several_threads =
            Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
        Ok(Self { one_thread, several_threads })
    }

    pub(crate) fn one_thread(&self) -> &Runtime {
        &self.one_thread
    }

    pub(crate) fn several_threads(&self) -> &Runtime {
        &self.several_threads
    }
}

pub(crate) struct Guest<'a> {
    store: Store<ComponentState>,
    instance: Instance,
    /// Where it runs, if it is asynchronous.
    runtime: Option<&'a Runtime>,
}

/// The component, compiled for an engine that both linkers use, and a linker with a function
/// that adds storage.
fn linked(
    add: impl FnOnce(&mut Linker<ComponentState>) -> Result<()>,
) -> Result<(Component, Linker<ComponentState>)> {
    let engine = Engine::new(&guest::engine_config())?;
    let component = Component::new(&engine, wat::parse_str(include_str!("guest.wat"))?)?;
    let mut linker = Linker::new(&engine);
    add(&mut linker)?;
    Ok((component, linker))
}

fn store(engine: &Engine, host: &StorageHost, id: &str) -> Result<Store<ComponentState>> {
    let state = ComponentState::new(host.component(&id.parse()?));
    Ok(guest::new_store(engine, state, |state| state))
}

impl<'a> Guest<'a> {
    pub(crate) fn sync(host: &StorageHost) -> Result<Self> {
        let (component, linker) = linked(|linker| guest::add_to_linker(linker, |state| state))?;
        let mut store = store(linker.engine(), host, ID)?;
        let instance = linker.instantiate(&mut store, &component)?;
        Ok(Self { store, instance, runtime: None })
    }

    pub(crate) fn asynchronous(host: &StorageHost, runtime: &'a Runtime) -> Result<Self> {
        runtime.block_on(Guests::new()?.guest(host, ID)).map(|guest| Self {
            runtime: Some(runtime),
            store: guest.store,
            instance: guest.instance,
        })
    }

    /// Makes this many calls.
    pub(crate) fn call(&mut self, function: &str, calls: usize) -> Result<()> {
        let calls = (u32::try_from(calls)?,);
        let function = self.instance.get_typed_func::<(u32,), ()>(&mut self.store, function)?;
        match self.runtime {
            None => function.call(&mut self.store, calls)?,
            Some(runtime) => runtime.block_on(function.call_async(&mut self.store, calls))?,
        }
        Ok(())
    }

    /// How often this thread allocates memory for each of some calls.
    pub(crate) fn allocations(&mut self, function: &str, calls: usize) -> Result<u64> {
        let mut result = Ok(());
        let counted = allocation_counter::measure(|| result = self.call(function, calls));
        result.map(|()| counted.count_total / calls.max(1) as u64)
    }
}

const ID: &str = "bench/calls/1";

/// Makes asynchronous guests.
pub(crate) struct Guests {
    component: Component,
    linker: Linker<ComponentState>,
}

/// A guest in an asynchronous linker.
pub(crate) struct AsyncGuest {
    store: Store<ComponentState>,
    instance: Instance,
}

impl Guests {
    pub(crate) fn new() -> Result<Self> {
        let add = |linker: &mut _| guest::add_to_linker_async(linker, |state| state);
        let (component, linker) = linked(add)?;
        Ok(Self { component, linker })
    }

    pub(crate) async fn guest(&self, host: &StorageHost, id: &str) -> Result<AsyncGuest> {
        let mut store = store(self.linker.engine(), host, id)?;
        let instance = self.linker.instantiate_async(&mut store, &self.component).await?;
        Ok(AsyncGuest { store, instance })
    }
}

impl AsyncGuest {
    pub(crate) async fn sets(&mut self, calls: u32) -> Result<()> {
        let sets = self.instance.get_typed_func::<(u32,), ()>(&mut self.store, "sets")?;
        sets.call_async(&mut self.store, (calls,)).await
    }
}
