//! The components whose calls are measured, and how they are run.

use anyhow::{Result, anyhow, ensure};
use storage_host::guest::engine_config;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentType, Linker, Lower, ResourceType};
use wasmtime::{Engine, Store};

/// A guest that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// `examples/guests/bench`: Rust with wit-bindgen.
    Rust,
    /// Written by hand. Its `realloc` returns the same memory for each call.
    Wat,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Wat => "wat",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Rust => "A guest in Rust",
            Self::Wat => "A guest written by hand",
        }
    }
}

/// The interface that a guest calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Dialect {
    #[component(name = "core")]
    Core,
    #[component(name = "extended")]
    Extended,
    #[component(name = "draft")]
    Draft,
    #[component(name = "draft2")]
    Draft2,
}

impl Dialect {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Core => "airssys:core",
            Self::Extended => "airssys:storage",
            Self::Draft => "wasi:keyvalue draft",
            Self::Draft2 => "wasi:keyvalue draft2",
        }
    }

    /// Whether the interface has a function for the operation.
    pub(crate) fn has(self, operation: Operation) -> bool {
        match operation {
            Operation::Exists => self != Self::Extended,
            Operation::Increment => matches!(self, Self::Draft | Self::Draft2),
            Operation::GetMany => self != Self::Core,
            _ => true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Operation {
    #[component(name = "prepare")]
    Prepare,
    #[component(name = "get")]
    Get,
    #[component(name = "exists")]
    Exists,
    #[component(name = "set")]
    Set,
    #[component(name = "increment")]
    Increment,
    #[component(name = "get-many")]
    GetMany,
    #[component(name = "list-keys")]
    ListKeys,
}

/// The keys of a component, which a listing returns.
pub(crate) const KEYS: u64 = 100;
/// The keys of a batch.
pub(crate) const BATCH: usize = 10;

/// The key with a number, as the guests name it.
pub(crate) fn key(number: usize) -> String {
    format!("user/profile/{number:03}")
}

const WAT_MEMORY: &str = include_str!("wat/memory.wat");
const WAT_CORE: &str = include_str!("wat/core.wat");
const WAT_DRAFT: &str = include_str!("wat/draft.wat");

/// The compiled guests.
pub(crate) struct Guests {
    pub(crate) engine: Engine,
    rust: Component,
    core: Component,
    draft: Component,
}

impl Guests {
    /// Compiles the guests for one engine, with the configuration that hosts use.
    pub(crate) fn compile() -> Result<Self> {
        let engine = Engine::new(&engine_config()).map_err(failed)?;
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guests/bench.wasm");
        let rust = Component::from_file(&engine, built).map_err(failed)?;
        let keys: String = (0..KEYS as usize).map(key).collect();
        let by_hand = |dialect: &str| -> Result<Component> {
            let text = format!("(component {WAT_MEMORY}\n{dialect})").replace("KEYS", &keys);
            Component::new(&engine, wat::parse_str(text)?).map_err(failed)
        };
        let (core, draft) = (by_hand(WAT_CORE)?, by_hand(WAT_DRAFT)?);
        Ok(Self { engine, rust, core, draft })
    }

    /// The guest that makes calls of a dialect, if there is one.
    pub(crate) fn component(&self, kind: Kind, dialect: Dialect) -> Option<&Component> {
        match (kind, dialect) {
            (Kind::Rust, _) => Some(&self.rust),
            (Kind::Wat, Dialect::Core) => Some(&self.core),
            (Kind::Wat, Dialect::Draft) => Some(&self.draft),
            (Kind::Wat, Dialect::Extended | Dialect::Draft2) => None,
        }
    }
}

/// Defines the functions that the linker lacks: they trap. wasmtime's own function for this
/// gives each interface its own resources, also those that it uses from another.
fn trap_others<T: 'static>(linker: &mut Linker<T>, component: &Component) -> wasmtime::Result<()> {
    struct Unused;
    let engine = component.engine();
    let mut resources = Vec::new();
    for (name, import) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = import.ty else { continue };
        let mut interface = linker.instance(name)?;
        for (export, item) in instance.exports(engine) {
            // Fails if the linker has the item.
            let _ = match item.ty {
                ComponentItem::ComponentFunc(_) => interface.func_new(export, |_, _, _, _| {
                    Err(wasmtime::Error::msg("the guest called an interface that is not measured"))
                }),
                ComponentItem::Resource(resource) if !resources.contains(&resource) => {
                    resources.push(resource);
                    interface.resource(export, ResourceType::host::<Unused>(), |_, _| Ok(()))
                }
                _ => Ok(()),
            };
        }
    }
    Ok(())
}

/// The error of a call to wasmtime.
pub(crate) fn failed(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
}

/// Makes the calls of one side, with values of this many bytes.
pub(crate) type Run = Box<dyn FnMut(Operation, usize, usize) -> Result<()>>;

/// Starts a guest. Its other imports trap when they are called. `resize` gets the size of
/// the values before the guest prepares the keys.
pub(crate) fn start<T: 'static>(
    mut linker: Linker<T>,
    mut store: Store<T>,
    component: &Component,
    dialect: Dialect,
    resize: fn(&mut T, usize),
) -> Result<Run> {
    type Arguments = (Dialect, Operation, u32, u32);
    trap_others(&mut linker, component).map_err(failed)?;
    let instance = linker.instantiate(&mut store, component).map_err(failed)?;
    let run = instance.get_typed_func::<Arguments, (u64,)>(&mut store, "run").map_err(failed)?;
    Ok(Box::new(move |operation, times, bytes| {
        if operation == Operation::Prepare {
            resize(store.data_mut(), bytes);
        }
        let arguments = (dialect, operation, u32::try_from(times)?, u32::try_from(bytes)?);
        let (sum,) = run.call(&mut store, arguments).map_err(failed)?;
        let each = match operation {
            Operation::Prepare => 0,
            Operation::Get => bytes as u64,
            Operation::GetMany => (BATCH * bytes) as u64,
            Operation::ListKeys => KEYS,
            Operation::Exists | Operation::Set | Operation::Increment => 1,
        };
        let expected = each * times as u64;
        ensure!(sum == expected, "{operation:?} of {dialect:?} returned {sum}, not {expected}");
        Ok(())
    }))
}
