//! A guest that passes any address and length, in WebAssembly's text format.

use std::sync::{Arc, LazyLock};

use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{
    Component, ComponentNamedList, Instance, Lift, Linker, Lower,
};
use storage_host::wasmtime::{self, Engine, Store};
use storage_host::{ComponentChain, StorageHost};

/// Tests write from here in the guest's memory.
pub(crate) const DATA: u32 = 0x1_0000;

/// What a call of the raw guest returned.
pub(crate) const OK: u32 = 0;
pub(crate) const OK_SOME: u32 = 0x100;
pub(crate) const INVALID_KEY: u32 = 0x301;
pub(crate) const IO_ERROR: u32 = 0x401;

/// Shared, because compiling takes longest.
pub(crate) static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(&guest::engine_config()).unwrap());
pub(crate) static COMPONENT: LazyLock<Component> = LazyLock::new(|| {
    let text = include_str!("raw.wat");
    Component::new(&ENGINE, wat::parse_str(text).unwrap()).unwrap()
});

pub(crate) struct RawGuest {
    store: Store<ComponentState>,
    instance: Instance,
}

impl RawGuest {
    pub(crate) fn new(host: &StorageHost, id: &str) -> Self {
        let mut linker = Linker::new(&ENGINE);
        guest::add_to_linker(&mut linker, |state: &mut ComponentState| state).unwrap();
        let state = ComponentState::new(host.component(&id.parse().unwrap()));
        let mut store = guest::new_store(&ENGINE, state, |state| state);
        let instance = linker.instantiate(&mut store, &COMPONENT).unwrap();
        Self { store, instance }
    }

    pub(crate) fn chain(&self) -> &Arc<ComponentChain> {
        self.store.data().storage()
    }

    pub(crate) fn try_call<P, R>(&mut self, name: &str, params: P) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower,
        (R,): ComponentNamedList + Lift,
    {
        let function = self.instance.get_typed_func::<P, (R,)>(&mut self.store, name).unwrap();
        function.call(&mut self.store, params).map(|(result,)| result)
    }

    pub(crate) fn call<P, R>(&mut self, name: &str, params: P) -> R
    where
        P: ComponentNamedList + Lower,
        (R,): ComponentNamedList + Lift,
    {
        self.try_call(name, params).unwrap()
    }

    /// Why a call ended the guest.
    pub(crate) fn trap<P>(&mut self, name: &str, params: P) -> String
    where
        P: ComponentNamedList + Lower,
    {
        let limits = self.chain().limits();
        let error = self.try_call::<P, u32>(name, params).expect_err("the guest did not end");
        guest::describe_failure(&error, &limits)
    }

    /// Fills a part of the guest's memory with one byte.
    pub(crate) fn fill(&mut self, at: u32, byte: u8, len: u32) {
        let fill = self.instance.get_typed_func::<(u32, u32, u32), ()>(&mut self.store, "fill");
        fill.unwrap().call(&mut self.store, (at, u32::from(byte), len)).unwrap();
    }

    /// The text of the last result.
    pub(crate) fn text(&mut self) -> String {
        self.call("text", ())
    }
}
